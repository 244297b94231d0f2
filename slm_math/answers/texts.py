"""Answers of different kinds that may say the same: words and values, matrices and their rows."""

from __future__ import annotations

from collections.abc import Sequence

from slm_math.answers.arithmetic import rational
from slm_math.answers.expressions import Node
from slm_math.answers.number_words import number_word
from slm_math.answers.phrases import same_time
from slm_math.answers.values import Bracketed, Matrix, Scalar, Value, Words, plain, words


def same_text(a: Value, g: Value, answer: str, gold: str) -> bool:
    """Whether words equal a number or an expression: by text, by time or as a number word."""
    (text, other), (tree, spelled) = (
        ((a, answer), (g, gold)) if isinstance(a, Words) else ((g, gold), (a, answer))
    )
    assert isinstance(text, Words)
    assert isinstance(tree, Scalar)
    if (number := number_word(text.text)) is not None:
        return rational(tree.tree) == number
    same = words(spelled)
    if same is not None and same_time(text.text, same.text):
        return True
    if _is_product(tree.tree, plain(other)):
        return True
    if text is g:
        return same == g or plain(spelled).replace(" ", "") == plain(other)
    # a variable keeps its case
    return plain(other) == spelled.replace(" ", "") or (len(spelled) > 1 and same == text)


def _is_product(tree: Node, text: str) -> bool:
    """Whether a word is a product of variables, such as `nRT`, which is written out elsewhere."""
    letters = [node.name for node in tree.args if node.kind in ("variable", "constant")]
    return tree.kind == "product" and len(letters) == len(tree.args) and "".join(letters) == text


def rows_of(a: Value, g: Value) -> tuple[Sequence[Value], Sequence[Value]] | None:
    """The entries of a matrix, and of a tuple of its rows, or of the entries of its column, in the
    order of the arguments; None if the shapes differ.
    """
    matrix, tuple_ = (a, g) if isinstance(a, Matrix) else (g, a)
    assert isinstance(matrix, Matrix)
    assert isinstance(tuple_, Bracketed)
    rows = [
        row.items if isinstance(row, Bracketed) and row.opening == tuple_.opening else (row,)
        for row in tuple_.items
    ]
    if tuple_.opening == "[" and not any(isinstance(row, Bracketed) for row in tuple_.items):
        return None  # an interval
    if [len(row) for row in matrix.rows] != [len(row) for row in rows]:
        return None
    entries, items = sum(matrix.rows, ()), sum(rows, ())
    return (entries, items) if matrix is a else (items, entries)
