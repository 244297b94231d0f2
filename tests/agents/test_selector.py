"""A selector over several samples: what it sees, which reply is a choice, what happens without."""

import pytest
from agents.driving import box, cut, play
from agents.inputs import CHOICE, PICTURE, PICTURED, PROBLEM
from growth import grows_linearly

from slm_math.agents import Selector
from slm_math.agents.selector import Candidate, choice_of, listed, shuffled
from slm_math.testing import Driven, drive
from slm_math.types import Problem, Reply


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("CHOICE: 2", 2),
        ("Both add up, but the first forgets a shell.\nCHOICE: 3", 3),
        ("choice: 1.", 1),
        ("**CHOICE:** 2", 2),
        ("**CHOICE: 2**\n", 2),
        ("CHOICE: Solution 2", 2),
        ("CHOICE = #3", 3),
        (r"CHOICE: \boxed{2}", 2),
        (r"$\boxed{2}$", 2),
        ("CHOICE:\n4", 4),
        ("2", 2),
        (" Solution 4.\n", 4),
        ("CHOICE: 1\nWait, no.\nCHOICE: 2", 2),
        ("<think>CHOICE: 1, or CHOICE: 3?</think>\nCHOICE: 2", 2),
    ],
)
def test_a_clear_reply_is_a_choice(text: str, number: int) -> None:
    assert choice_of(text, 4) == number


@pytest.mark.parametrize(
    "text",
    [
        "",
        "CHOICE:",
        "CHOICE: the number of that solution",
        "CHOICE: 0",
        "CHOICE: 5",
        "CHOICE: 12",
        "CHOICE: -2",
        "CHOICE: 2.5",
        "CHOICE: 2/3",
        "CHOICE: 1 or 2",
        "CHOICE: 1, 2",
        "CHOICE: 1 2",
        "CHOICE: 2?",
        "CHOICE: not 2",
        "CHOICE: ~2",
        "CHOICE: two",
        "CHOICE: ２",
        "CHOICE: 02",
        "CHOICE: 1 or CHOICE: 2",
        "CHOICE: 2\nBut solution 1 is right.",
        "Solution 2 is right.",
        r"The answer is \boxed{2}.",
        "1. First\n2. Second",
        "2 or 3",
        "MULTIPLE-CHOICES: 2",
        "CHOICE: 99999999999999999999",
    ],
)
def test_anything_else_is_none(text: str) -> None:
    assert choice_of(text, 4) is None


@pytest.mark.parametrize("piece", ["CHOICE:", "(", " ", "\n", "*", r"\boxed{", "1", "solution "])
def test_time_to_read_a_reply_grows_with_its_length(piece: str) -> None:
    def work(size: int) -> None:
        assert choice_of(piece * size, 4) is None
        assert choice_of("CHOICE: " + piece * size, 4) is None

    assert grows_linearly(work, 5000)


FOUR = [box(7), box(8), box(7), box(9)]


def order(driven: Driven) -> list[str]:
    """The answers of the solutions in the order in which the selector sees them."""
    text = driven.shown(1)
    places = {answer: text.index(rf"\boxed{{{answer}}}") for answer in ("7", "8", "9")}
    return sorted(places, key=lambda answer: places[answer])


def selected(reply: Reply, samples: list[Reply] = FOUR, problem: Problem = PROBLEM) -> Driven:
    return play(Selector(k=len(samples)), samples, reply, problem=problem)


def test_samples_go_out_together_and_the_selector_sees_all_of_them() -> None:
    driven = selected(Reply("CHOICE: 1"))
    assert driven.steps == ["solver+solver+solver+solver", "selector"]
    assert driven.temperatures == [0.7, 0.7, 0.7, 0.7, None]
    assert PROBLEM.text in driven.shown(1)
    assert [driven.shown(1).count(f"Solution {n}:\n") for n in range(1, 6)] == [1, 1, 1, 1, 0]
    assert driven.shown(1).count(r"\boxed{7}") == 2  # equal answers are not merged


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_chosen_solution_answers(number: int) -> None:
    driven = selected(Reply(f"CHOICE: {number}"))
    shown = driven.shown(1).split("Solution ")[number]
    assert rf"\boxed{{{driven.answer}}}" in shown
    [note] = [note for note in driven.notes if note.kind == "choice"]
    assert (note.text, note.value, note.role) == (driven.answer, number, "selector")
    assert sorted(driven.noted("candidate"), key=str) == ["7", "7", "8", "9"]


@pytest.mark.parametrize(
    "reply", [Reply("CHOICE: 9"), Reply("I cannot tell."), Reply(""), cut("CHOICE: 1")]
)
def test_without_a_choice_the_majority_answers_and_the_trace_says_so(reply: Reply) -> None:
    driven = selected(reply)
    assert driven.answer == "7"
    assert driven.noted("choice") == [None]
    lost = {"": ["empty"], "CHOICE: 1": ["truncated"]}.get(reply.text, [])
    assert driven.noted("lost") == lost


@pytest.mark.parametrize(
    ("samples", "answer", "reason"),
    [
        ([box("1/2"), box("0.5"), Reply("Hm.")], "1/2", "agreed"),
        ([box(7), cut("So"), Reply("")], "7", "agreed"),
        ([Reply("Hm."), Reply("Hm."), Reply("")], None, "no candidate"),
    ],
)
def test_selector_is_not_asked_without_two_answers(
    samples: list[Reply], answer: str | None, reason: str
) -> None:
    driven = play(Selector(k=3), samples)
    assert (driven.answer, driven.noted("stop")) == (answer, [reason])
    assert driven.noted("choice") == []


def test_solutions_without_an_answer_are_not_shown() -> None:
    driven = play(Selector(k=3), [box(8), Reply("Hm."), box(7)], Reply("CHOICE: 2"))
    assert "Hm." not in driven.shown(1)
    assert "Solution 3" not in driven.shown(1)


def candidates(*answers: int) -> list[Candidate]:
    return [Candidate(f"So it is {answer}.", str(answer)) for answer in answers]


def test_order_depends_on_the_problem_and_the_solutions_alone() -> None:
    some = candidates(1, 2, 3, 4)
    assert shuffled(some, PROBLEM) == shuffled(some[::-1], PROBLEM)
    assert sorted(shuffled(some, PROBLEM), key=lambda each: each.answer) == some


def test_every_place_is_as_likely_for_any_sample() -> None:
    """Of 2,000 problems, where the first sample stands: 500 each, standard deviation 19.4."""
    places = [0] * 4
    for n in range(2000):
        some = candidates(1, 2, 3, 4)
        places[shuffled(some, Problem(f"p/{n}", "x")).index(some[0])] += 1
    assert all(abs(count - 500) < 5 * 19.4 for count in places), places
    moved = {
        tuple(each.answer for each in shuffled(candidates(1, 2, 3, n), PROBLEM)[:2])
        for n in range(4, 40)
    }
    assert len(moved) > 6  # another sample beside them moves all


def test_long_solutions_show_their_beginning_and_end() -> None:
    [text] = [listed([Candidate("begin" + "x" * 5000 + "end", "7")], show=200)]
    assert text.startswith("Solution 1:\nbegin")
    assert text.endswith("end")
    assert len(text) < 300


def test_thoughts_are_not_shown() -> None:
    thought = Reply(r"<think>maybe 9</think>It is \boxed{8}.")
    driven = play(Selector(k=2), [thought, box(7)], Reply("CHOICE: 1"))
    assert "maybe" not in driven.shown(1)
    only = Candidate(r"<think>maybe \boxed{9}</think>", "9")
    assert "maybe" in listed([only], 100)


def test_selector_sees_choices_and_images() -> None:
    driven = play(Selector(k=2), [box("A"), box("B")], Reply("CHOICE: 1"), problem=CHOICE)
    assert CHOICE.statement in driven.shown(1)
    driven = play(Selector(k=2), [box(6), box(7)], Reply("CHOICE: 1"), problem=PICTURED)
    assert PICTURE in driven.chat(1)[0].content


def test_braces_of_a_solution_stay_as_they_are() -> None:
    driven = play(Selector(k=2), [Reply(r"{problem} \boxed{8}"), box(7)], Reply("CHOICE: 1"))
    assert "{problem}" in driven.shown(1)


def test_settings_that_leave_nothing_to_select_are_refused() -> None:
    with pytest.raises(ValueError, match="Selector needs k >= 2"):
        Selector(k=1)
    with pytest.raises(ValueError, match="temperature"):
        Selector(temperature=-1.0)


def test_four_samples_by_default() -> None:
    assert len(drive(Selector(), PROBLEM, partial=True).requests[0]) == 4
