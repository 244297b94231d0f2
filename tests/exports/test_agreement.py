"""Agreement of an exported model and the policy: which differences count."""

from __future__ import annotations

import math
from typing import Any

import pytest

from slm_math.exports.agreement import compare, tolerance_of

POLICY = {
    "text": "ask",
    "ids": [1, 2],
    "whole": [1, 2, 3],
    "reply": [5, 6],
    "logprobs": [-1.0, -2.0],
    "fixed": [7],
    "fixed_logprobs": [-3.0],
}
MODEL = {
    "refused": None,
    "text": "ask",
    "ids": [1, 2],
    "whole": [1, 2, 3],
    "reply": [5, 6],
    "logprobs": [-1.0, -2.0],
    "best": [-1.0, -2.0],
    "fixed": [-3.0],
}
REFUSED = {"text": "", "ids": []}


def compared(policy: dict[str, Any], model: dict[str, Any], dtype: str = "float32") -> Any:
    return compare([POLICY | policy], [MODEL | model], tolerance_of(dtype))


def test_differences_are_absolute_and_averaged_over_all_tokens() -> None:
    found = compared({}, {"logprobs": [-1.0003, -2.0], "fixed": [-2.9994]})
    assert found.problems == []
    assert (found.prompts, found.replies, found.tokens) == (1, 1, 3)
    assert found.largest == pytest.approx(0.0006)
    assert found.mean == pytest.approx(0.0003)


@pytest.mark.parametrize("value", [math.nan, -math.inf, -3.5])
def test_what_is_no_number_differs(value: float) -> None:
    [problem] = compared({}, {"fixed": [value]}).problems
    assert problem.startswith("weights: log-probabilities differ by")
    assert math.isfinite(compared({}, {"fixed": [value]}).largest)


def test_many_small_differences_are_no_rounding() -> None:
    found = compared({}, {"logprobs": [-1.0015, -2.0015], "fixed": [-3.0015]})
    assert found.problems == [
        "weights: log-probabilities differ by 0.0015 nats (mean of 3), and 0.0005 is allowed"
    ]


def test_replies_may_part_where_two_tokens_are_equally_likely() -> None:
    tie = {"reply": [5, 8], "best": [-1.0, -1.999]}
    found = compared({}, tie)
    assert (found.problems, found.replies, found.ties) == ([], 0, 1)
    [problem] = compared({}, tie | {"best": [-1.0, -1.9]}).problems
    assert "the policy's token is 0.1 nats less likely (prompt 1)" in problem
    assert compared({}, tie | {"best": [-1.0, -1.9]}, "bfloat16").ties == 1


@pytest.mark.parametrize("reply", [[5, 6, 9], [5]], ids=["goes on", "stops early"])
def test_reply_of_another_length_is_another(reply: list[int]) -> None:
    [problem] = compared({}, {"reply": reply, "best": [-1.0, -1.5]}).problems
    assert problem.startswith("weights: the greedy reply is another")


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (
            {"text": "abc"},
            "template: it writes 'bc' where the policy's writes 'sk', at character 1",
        ),
        ({"ids": [1, 3]}, "tokens: the tokenizer makes others of the same text, from token 1 on"),
        ({"whole": [1, 2]}, "tokens: the tokenizer makes others of the same text, from token 2 on"),
        ({"refused": "no"}, "template: it refuses a chat: no"),
    ],
)
def test_prompt_that_differs_is_all_that_is_told(model: dict[str, Any], said: str) -> None:
    found = compared({}, model | {"fixed": [-9.0]})
    assert found.problems == [f"{said} (prompt 1)"]
    assert found.tokens == 0


def test_chat_that_both_refuse_is_no_difference_and_no_proof() -> None:
    refused = {"refused": "no system messages"}
    found = compare([POLICY, REFUSED], [MODEL, refused], tolerance_of("float32"))
    assert (found.problems, found.prompts, found.refused) == ([], 1, 1)
    found = compare([REFUSED], [refused], tolerance_of("float32"))
    assert found.problems == ["template: it refuses every prompt, so that nothing was compared"]
    found = compare([REFUSED], [MODEL], tolerance_of("float32"))
    assert found.problems == ["template: it takes a chat that the policy's refuses (prompt 1)"]
