"""The extraction of the final answer from a reply."""

from __future__ import annotations

import pytest
from growth import grows_linearly

from slm_math.answers import extract, gold_answer


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        (r"so \boxed{5}", "5"),
        (r"$\boxed{\frac{1}{2}}$.", r"\frac{1}{2}"),
        (r"\fbox{9}", "9"),
        (r"\boxed 5 is it", "5"),
        (r"\boxed{5} and then \boxed{}", "5"),
        (r"\boxed{7}. Wait, no. \boxed{5}", "5"),
        (r"\boxed{1}, \boxed{2} and \boxed{3}", "1, 2, 3"),
        (r"x_1 = \boxed{3}, x_2 = \boxed{4}", "3, 4"),
        ("\\boxed{5}\n\n\\boxed{5}", "5"),
        (r"first \boxed{7}, then a cut-off \boxed{\frac{1}{2}", "7"),
        ("<answer>3</answer>", "3"),
        (r"\boxed{2} <answer>The answer is \boxed{8}</answer>", "8"),
        ("<answer>3</answer> <answer>4</answer>", None),
        ("#### 72", "72"),
        ("12\n#### 5\nno\n#### 6\n", "6"),
        ("#### Step 1\nadd\n#### 18", "18"),
        ("#### Step 1: add\nThe answer is 18.", "18"),
        ("The answer is 18.", "18"),
        (r"The answer is $\frac{1}{2}$.", r"$\frac{1}{2}$"),
        ("The answer is $18.50 per day.", "$18.50 per day"),
        ("The final answer is: **42**.", "42"),
        ("The final answer is\n\n18", "18"),
        ("**Answer:** 7 apples", "7 apples"),
        ("Work.\nA: 1,234", "1,234"),
        ("The answer is 5, since 2 + 3 = 5", "5"),
        (r"#### 4 but \boxed{5}", "5"),
        ("so 3 + 4 = 7", None),
        ("", None),
    ],
)
def test_the_final_answer(reply: str, answer: str | None) -> None:
    assert extract(reply).value == answer


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        (r"\boxed{5}<|im_end|>\boxed{7}", "5"),
        (r"\boxed{5}</s> \boxed{7}", "5"),
        ("The answer is 5.\n\nQuestion: What is 3 + 4?\nAnswer: 7", "5"),
        ("It is \\boxed{5}.\n\nProblem 2: 3 + 4\n\\boxed{7}", "5"),
        ("Question 1: no.\nQuestion 2: yes.\nTogether \\boxed{14}.", "14"),
        ("Problem: 3 + 4?\nThe answer is 7.", "7"),
    ],
)
def test_what_follows_the_turn_is_not_the_answer(reply: str, answer: str) -> None:
    assert extract(reply).value == answer


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        (r"<think>\boxed{4}</think> I am done.", None),
        (r"<think>so \boxed{4}", None),
        (r"so \boxed{4}</think> it is \boxed{6}", "6"),
        (r"<think>a</think> \boxed{6} <think>\boxed{7}", "6"),
    ],
)
def test_thinking_is_not_answering(reply: str, answer: str | None) -> None:
    assert extract(reply).value == answer


@pytest.mark.parametrize(
    ("reply", "number"),
    [
        ("so 3 + 4 = 1,234 apples.", "1,234"),
        ("so 5-3", "3"),
        ("left: -5.", "-5"),
        ("it is 3/4", "3/4"),
        ("none at all", None),
    ],
)
def test_the_last_number_only_counts_when_asked_for(reply: str, number: str | None) -> None:
    assert extract(reply).value is None
    assert extract(reply, last_number=True).value == number


def test_the_span_points_at_the_answer() -> None:
    reply = r"<think>\boxed{1}</think> So \boxed{ 42 }, done."
    extracted = extract(reply)
    assert extracted.method == "box"
    assert extracted.span is not None
    assert reply[slice(*extracted.span)].strip() == extracted.value == "42"


def test_alternatives_are_marked_as_a_hedge() -> None:
    assert extract(r"\boxed{3 \text{ or } 4}").hedged
    assert extract(r"\boxed{3} or \boxed{4}").hedged
    assert not extract(r"\boxed{3}, \boxed{4}").hedged


@pytest.mark.parametrize(
    ("field", "gold"),
    [
        ("2 + 3 = 5\n#### 1,050", "1,050"),
        (r"is $\boxed{\frac12}$.", r"\frac12"),
        ("p - q", "p - q"),
    ],
)
def test_the_reference_answer_of_a_field(field: str, gold: str) -> None:
    assert gold_answer(field) == gold


@pytest.mark.parametrize(
    "piece",
    [r"\boxed{", r"\boxed{1}", "{", "}", "answer is ", "#### x\n", "#### 1\n", "x\nQuestion 1:\n",
    "<answer>", ",111",
     "1", " ", "*", "\n", "\\", "the answer is $", "<think></think>", r"\boxed{1} or ", "- ",
     "answer*", "```output\n",
     "```output\n1\n```\n", "a:", "\nA: ", "answer ", "NSWER", "result is",
     "5 is the answer ", "answer (a", "the answer is 5. No, wait ", "答案", "答案是", "选", "답은 ",
     "Antwort ", "respuesta es ", "if the answer ", 'answer": "', '{"answer": "', "assistantfinal",
     "analysis", "<|channel|>final", "<|channel|>final<|message|>", "<|", "<|im_", "[|",
     "<extra_id_", "\n- 5", "Answer: 5\n", "\\\\boxed{", "confidence ", "\\boxed{5\\}",
     "<final_answer>", "Answer is A! No, ", "\\text{answer: ", "leaving B ", "The answer is:\n- 5"],
)  # fmt: skip
def test_extraction_takes_linear_time(piece: str) -> None:
    def work(size: int) -> None:
        extract("1" + piece * (size // len(piece)), last_number=True)

    assert grows_linearly(work, 25_000)
