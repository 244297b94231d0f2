"""Chat templates that write the content of messages as it is: what they write around the contents
depends on the roles alone, and is rendered once for each sequence of roles.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from jinja2 import Environment, TemplateSyntaxError, nodes

Render = Callable[[list[dict[str, Any]], bool], str]

_CONTENT = "content"
_STATEMENTS = (nodes.Output, nodes.TemplateData, nodes.If, nodes.For, nodes.Assign)
_JUMPS = (nodes.Break, nodes.Continue)
_EXPRESSIONS = (
    *(nodes.Const, nodes.Name, nodes.NSRef, nodes.Getattr, nodes.Getitem, nodes.Filter, nodes.Test),
    *(nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not, nodes.Neg, nodes.Add),
    *(nodes.Concat, nodes.CondExpr, nodes.Call, nodes.Keyword, nodes.List, nodes.Tuple, nodes.Dict),
    nodes.Pair,
)
_OF_LOOPS = frozenset(("first", "last", "index", "index0", "revindex", "revindex0", "length"))
_FUNCTIONS = frozenset(("raise_exception", "range", "namespace", "dict"))
_PLACE = re.compile("\ue000([0-9]+)\ue001")  # characters of nobody's text


class Layouts:
    """What a template writes around the contents of a chat, by its roles.

    `render` is the template itself: what it writes for contents that mark their places is what it
    writes for any, if `writes_contents_alone`.
    """

    def __init__(self, render: Render) -> None:
        self._render = render
        self._pieces = lru_cache(maxsize=512)(self._rendered)

    def render(self, messages: Sequence[dict[str, Any]], generation: bool) -> str:
        """The text of a chat, all of whose contents are texts."""
        contents = [message[_CONTENT] for message in messages]
        roles = tuple(message["role"] for message in messages)
        first, pieces = self._pieces(roles, generation)
        return first + "".join([contents[place] + text for place, text in pieces])

    def _rendered(
        self, roles: tuple[str, ...], generation: bool
    ) -> tuple[str, list[tuple[int, str]]]:
        """The text before the first content, and each content's index with the text after it."""
        marked = [
            {"role": role, _CONTENT: f"\ue000{index}\ue001"} for index, role in enumerate(roles)
        ]
        first, *rest = _PLACE.split(self._render(marked, generation))
        return first, [(int(place), text) for place, text in zip(rest[::2], rest[1::2])]


def writes_contents_alone(template: str) -> bool:
    """Whether a template certainly writes every content unchanged, and looks at none: it can then
    only depend on how many messages there are and on their roles. Whatever this does not understand
    (a macro, a filter on a content, another name for a message) makes it False.
    """
    environment = Environment(extensions=["jinja2.ext.loopcontrols"])
    try:
        parsed = environment.parse(template)
    except TemplateSyntaxError:  # also a tag of transformers' own
        return False
    messages = {
        loop.target.name
        for loop in parsed.find_all(nodes.For)
        if _is_messages(loop.iter) and isinstance(loop.target, nodes.Name)
    }
    assigned = {name.name for name in parsed.find_all(nodes.Name) if name.ctx == "store"}
    loops = [loop for loop in parsed.find_all(nodes.For) if not _is_messages(loop.iter)]
    others = {name.name for loop in loops for name in loop.target.find_all(nodes.Name)} | {
        loop.target.name for loop in loops if isinstance(loop.target, nodes.Name)
    }
    set_by = [each.target for each in parsed.find_all(nodes.Assign)]
    targets = {target.name for target in set_by if isinstance(target, nodes.Name | nodes.NSRef)}
    if (targets | others) & (messages | {"messages", "loop"}) or "messages" in assigned:
        return False
    if any(not isinstance(target, nodes.Name | nodes.NSRef) for target in set_by):
        return False
    return all(_is_plain(node, messages) for node in parsed.body)


def _is_plain(node: nodes.Node, messages: set[str]) -> bool:
    """Whether a statement looks at no content; `messages` are the names of messages."""
    if isinstance(node, _JUMPS):
        return True
    if not isinstance(node, _STATEMENTS):
        return False
    if isinstance(node, nodes.TemplateData):
        return True
    if isinstance(node, nodes.Output):
        return all(_is_written(each, messages) for each in node.nodes)
    if isinstance(node, nodes.Assign):
        return _is_blind(node.node, messages)
    if isinstance(node, nodes.If):
        inside = [*node.body, *node.elif_, *node.else_]
        return _is_blind(node.test, messages) and all(_is_plain(e, messages) for e in inside)
    assert isinstance(node, nodes.For)
    known = _is_messages(node.iter) and isinstance(node.target, nodes.Name)
    return (
        not node.recursive
        and (known or _is_blind(node.iter, messages))
        and (node.test is None or _is_blind(node.test, messages))
        and all(_is_plain(each, messages) for each in [*node.body, *node.else_])
    )


def _is_written(node: nodes.Node, messages: set[str]) -> bool:
    """Whether an expression that is written holds contents only as they are."""
    if isinstance(node, nodes.TemplateData) or _field(node, messages) == _CONTENT:
        return True
    if isinstance(node, nodes.Add):
        return _is_written(node.left, messages) and _is_written(node.right, messages)
    if isinstance(node, nodes.Concat):
        return all(_is_written(each, messages) for each in node.nodes)
    return _is_blind(node, messages)


def _is_blind(node: nodes.Node, messages: set[str]) -> bool:
    """Whether an expression looks at no content."""
    field = _field(node, messages)
    if field is not None:
        return field != _CONTENT
    if not isinstance(node, _EXPRESSIONS):
        return False
    if isinstance(node, nodes.Name):
        return node.name not in messages | {"messages", "loop"}
    if isinstance(node, nodes.Getattr) and _is_named(node.node, "loop"):
        return node.attr in _OF_LOOPS
    if isinstance(node, nodes.Filter):
        if node.name in ("length", "count") and node.node is not None and _is_messages(node.node):
            return True
        if node.name == "random":
            return False
    if isinstance(node, nodes.Call):
        called = node.node
        inner = isinstance(called, nodes.Getattr)
        if not inner and not (isinstance(called, nodes.Name) and called.name in _FUNCTIONS):
            return False
    return all(_is_blind(each, messages) for each in node.iter_child_nodes())


def _field(node: nodes.Node, messages: set[str]) -> str | None:
    """The field of a message that an expression is; None if it is something else."""
    if isinstance(node, nodes.Getattr):
        name, owner = node.attr, node.node
    elif isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
        name, owner = node.arg.value, node.node
    else:
        return None
    first = isinstance(owner, nodes.Getitem) and isinstance(owner.arg, nodes.Const)
    is_message = (isinstance(owner, nodes.Name) and owner.name in messages) or (
        first and _is_messages(owner.node) and isinstance(owner.arg.value, int)  # type: ignore[union-attr]
    )
    # methods of a message (`items`, `values`) would show all of it
    known = isinstance(name, str) and not hasattr(dict, name)
    return name if is_message and known else None


def _is_messages(node: nodes.Node) -> bool:
    return _is_named(node, "messages")


def _is_named(node: nodes.Node, name: str) -> bool:
    return isinstance(node, nodes.Name) and node.name == name
