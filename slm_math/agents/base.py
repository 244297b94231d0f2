"""What an agent is: plain code that yields requests and is resumed with their results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar, cast

from slm_math.prompts import Prompt
from slm_math.ranges import check_number
from slm_math.types import Effect, Generate, Message, Note, Problem, RunPython, Workflow

T = TypeVar("T")
MOST_EVENTS = 10_000  # a workflow with more events is in a loop


class Agent:
    """Solves a problem by yielding lists of effects; each `yield` returns one result per effect, in
    the same order.

    A `Generate` is answered by a `Reply`, a `RunPython` by a `RunResult`, a `Note` by None. An
    agent sees the problem only, never the reference answer. `roles` names the engines that it asks
    for; `uses_python` says whether it runs programs.

    A subclass is a dataclass (frozen or not), and its fields are its settings. The default of a
    prompt declares the slots that the agent fills: `retry_prompt: Prompt = Prompt("retry",
    "problem critique")`. Raises ValueError for a template with any other slot, if the first prompt
    that may show {problem} does not, and for a field below its smallest value in `minimums`.
    """

    roles: tuple[str, ...] = ("solver",)
    uses_python: bool = False
    # Without annotation: jsonargparse looks up the names of annotations in the module of a
    # subclass, which may not import ClassVar.
    minimums = {}

    def solve(self, problem: Problem) -> Workflow[str | None]:
        """The workflow for one problem. Returns the final answer, or None if there is none."""
        raise NotImplementedError

    def __post_init__(self) -> None:
        """Checks the fields. A subclass with checks of its own calls this one, too."""
        must_show_problem = True
        for field in fields(cast(Any, self)):
            value = getattr(self, field.name)
            if value is not None and field.name.endswith("temperature"):
                check_number(f"{type(self).__name__}.{field.name}", value, low=0)
            if value is not None and field.name == "top_p":
                check_number(f"{type(self).__name__}.top_p", value, above=0, high=1)
            # a default that depends on other fields is a Prompt only by now
            declared = field.default if isinstance(field.default, Prompt) else value
            if not isinstance(declared, Prompt) or value is None:
                continue
            prompt = Prompt(value, declared.slots)
            self.derive(**{field.name: prompt})
            check_slots(prompt, type(self).__name__, field.name, must_show_problem)
            must_show_problem = must_show_problem and "problem" not in prompt.slots
        values = {name: getattr(self, name) for name in self.minimums}
        if any(values[name] < least for name, least in self.minimums.items()):
            needs = " and ".join(f"{name} >= {least}" for name, least in self.minimums.items())
            got = " and ".join(map(str, values.values()))
            raise ValueError(f"{type(self).__name__} needs {needs}, got {got}")

    def derive(self, **attributes: Any) -> None:
        """For `__post_init__`: sets what follows from the fields, also in a frozen class."""
        for name, value in attributes.items():
            object.__setattr__(self, name, value)


def check_slots(prompt: Prompt, agent: str, field: str, must_show_problem: bool) -> None:
    """Raises ValueError for a template that does not exist, has a slot that the prompt does not
    declare, or hides the problem where it must be shown.
    """
    try:
        unknown = prompt.unknown_slots
    except ValueError as error:
        raise ValueError(f"{agent}.{field}: {error}") from error
    where = f"{agent}.{field}: template {str(prompt)!r}"
    if unknown:
        fills = " ".join(f"{{{slot}}}" for slot in prompt.slots)
        raise ValueError(f"{where} has the slot {{{unknown[0]}}}; {agent} fills only {fills}")
    if must_show_problem and "problem" in prompt.slots and "{problem}" not in prompt.template:
        raise ValueError(f"{where} has no {{problem}}: the model would not see what to solve")


def owner_name(asker: object) -> str:
    """How errors name whose workflow it is: "agent SingleShot", "reward Correct"."""
    return f"{'agent' if isinstance(asker, Agent) else 'reward'} {type(asker).__name__}"


def work_name(problem: Problem, sample: int) -> str:
    """How errors name what a workflow or a reward works on."""
    return f"problem {problem.id}, sample {sample}"


def check_request(
    request: object, owner: str, roles: Sequence[str], uses_python: bool, about: str = ""
) -> None:
    """Raises ValueError for a request that the class of its owner does not announce: a role that is
    not in `roles`, a program without `uses_python`, or an object of another type.

    Args:
        owner: whose workflow yielded it, see `owner_name`.
        about: what the workflow works on: "problem gsm8k/3, sample 0".
    """
    where = f" on {about}" if about else ""
    if isinstance(request, Generate):
        if request.role not in roles:
            raise ValueError(
                f"{owner} asks for role {request.role!r}{where}; its roles are {', '.join(roles)}"
            )
        chat = request.chat
        if not (isinstance(chat, tuple | list) and all(isinstance(each, Message) for each in chat)):
            raise ValueError(
                f"{owner} asks with the chat {chat!r:.100}{where}: a chat is a tuple of "
                "messages, such as problem.ask(prompt) or user(text) returns"
            )
    elif isinstance(request, RunPython):
        if not uses_python:
            raise ValueError(
                f"{owner} runs a program{where}, but its class does not allow it: set "
                "uses_python = True"
            )
    elif not isinstance(request, Note):
        raise ValueError(
            f"{owner} yielded {request!r:.100} in its list of requests{where}: only Generate, "
            "RunPython and Note are known"
        )


def check_answer(answer: object, owner: str, about: str = "") -> str | None:
    """What `solve` returned. Raises ValueError unless it is a string or None."""
    if answer is None or isinstance(answer, str):
        return answer
    where = f" for {about}" if about else ""
    raise ValueError(
        f"{owner} returned {answer!r:.100}, of type {type(answer).__name__}{where}: solve must "
        "return the answer as a string, or None if there is none"
    )


def parallel(workflows: Sequence[Workflow[T]], first: int = 0) -> Workflow[list[T]]:
    """Runs workflows side by side inside one agent: `answers = yield from parallel([...])`.

    Their requests go out together; results come back in the order of `workflows`. A note gets the
    index of its workflow in front of its `branch`, counted from `first`.
    """
    done: dict[int, T] = {}
    waiting: dict[int, list[Effect]] = {}
    notes: list[Effect] = []

    def advance(index: int, results: list[Any] | None) -> None:
        waiting.pop(index, None)
        try:
            effects = next(workflows[index]) if results is None else workflows[index].send(results)
            # notes need no result: continue with the next request
            while effects and all(isinstance(effect, Note) for effect in effects):
                notes.extend(with_branch(effect, first + index) for effect in effects)
                if len(notes) > MOST_EVENTS:
                    raise ValueError(f"a workflow never ends: {MOST_EVENTS} notes and no request")
                effects = workflows[index].send([None] * len(effects))
            if not effects:
                raise ValueError("a workflow yielded an empty list of requests")
            waiting[index] = [with_branch(effect, first + index) for effect in effects]
        except StopIteration as end:
            done[index] = end.value

    for index in range(len(workflows)):
        advance(index, None)
    while waiting or notes:
        pending, start = dict(waiting), len(notes)
        results = yield [*notes, *(effect for effects in pending.values() for effect in effects)]
        notes.clear()
        for index, effects in pending.items():
            advance(index, results[start : start + len(effects)])
            start += len(effects)
    return [done[index] for index in range(len(workflows))]


def rewritten(
    workflow: Workflow[T],
    change: Callable[[Effect], Effect],
    answered: Callable[[Effect, Any], object] = lambda effect, result: None,
) -> Workflow[T]:
    """The same workflow with every effect changed; its results go to the workflow as they are.
    `answered` is told each effect, as the workflow yielded it, with its result.
    """
    results: list[Any] | None = None
    while True:
        try:
            effects = next(workflow) if results is None else workflow.send(results)
        except StopIteration as end:
            return end.value
        results = yield [change(effect) for effect in effects]
        for effect, result in zip(effects, results):
            answered(effect, result)


def with_branch(effect: Effect, index: int) -> Effect:
    """A note marked as that of workflow `index`; other effects stay as they are."""
    return replace(effect, branch=(index, *effect.branch)) if isinstance(effect, Note) else effect
