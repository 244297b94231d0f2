"""Parts of a plan, each solved, looked back on and put together."""

from typing import Any

import pytest
from agents.driving import box, code, cut, judged, play, printed
from agents.inputs import FAILED, PICTURE, PICTURED, PROBLEM, STOPPED

from slm_math.agents import PlanAndReflect
from slm_math.testing import Driven
from slm_math.types import Reply

PLAN = Reply("1. Find three.\n2. Add four.")


def plan(n: int) -> Reply:
    return Reply("\n".join(f"{i}. Do part {i}." for i in range(1, n + 1)))


def parts(driven: Driven) -> int:
    """How many parts the first plan was taken to have: requests before the first reflection, less
    the plan's.
    """
    return next(i for i in range(len(driven.requests)) if "VERDICT" in driven.shown(i)) - 1


def test_a_plan_its_parts_a_look_back_and_the_answer() -> None:
    driven = play(PlanAndReflect(), PLAN, box(3), box(7), judged("ACCEPT"), box(7))
    assert driven.steps == ["solver"] * 5
    assert driven.temperatures == [None] * 5
    assert all(PROBLEM.text in driven.shown(step) for step in range(5))
    assert all(len(driven.chat(step)) == 1 for step in range(5))
    assert ("Find three." in driven.shown(1), "Add four." in driven.shown(1)) == (True, False)
    assert ("Add four." in driven.shown(2), box(3).text in driven.shown(2)) == (True, True)
    for step in (3, 4):
        assert all(
            text in driven.shown(step)
            for text in ("Find three.", box(3).text, "Add four.", box(7).text)
        )
    assert driven.answer == "7"
    assert (driven.noted("draft"), driven.noted("verdict")) == (["7"], ["CORRECT"])


def test_rejected_parts_lead_to_a_new_plan_that_knows_why() -> None:
    critic = Reply("Part 2 subtracts.\nVERDICT: REJECT")
    first, second = [PLAN, box(3), box(-1), critic], [PLAN, box(3), box(7), judged("ACCEPT")]
    driven = play(PlanAndReflect(), *first, *second, box(7))
    assert ("Part 2 subtracts." in driven.shown(4), PROBLEM.text in driven.shown(4)) == (True, True)
    assert driven.temperatures[:4] == [None] * 4
    assert all(warmth == 0.7 for warmth in driven.temperatures[4:7])
    assert box(-1).text not in driven.shown(8)
    assert (driven.answer, driven.noted("draft")) == ("7", ["-1", "7"])


def test_endless_rejections_end_after_three_cycles() -> None:
    driven = play(PlanAndReflect(), *[PLAN, box(3), box(6), judged("REJECT")] * 3, box(7))
    assert (driven.answer, driven.noted("verdict")) == ("7", ["INCORRECT"] * 3)


@pytest.mark.parametrize("word", ["UNCLEAR", "hm"])
def test_what_is_not_rejected_is_put_together(word: str) -> None:
    assert play(PlanAndReflect(), PLAN, box(3), box(7), judged(word), box(7)).noted("verdict") == [
        "UNCLEAR"
    ]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (plan(2).text, 2),
        (plan(5).text, 5),
        (plan(9).text, 5),
        ("Sure!\n\n1) Find a\n2) Find b\n3) Add", 3),
        ("Step 1: Find a\nStep 2: Find b", 2),
        ("- 1. Find a\n- 2. Find b", 2),
        ("**1.** Find a\n**2.** Find b", 2),
        ("**Part 1:** Find a\n**Part 2:** Find b", 2),
        ("1. Only this.", 1),
        ("I would just add them.", 1),
    ],
)
def test_plans_have_two_to_five_parts(text: str, found: int) -> None:
    driven = play(PlanAndReflect(), Reply(text), *[box(7)] * found, judged("ACCEPT"), box(7))
    assert parts(driven) == found


def test_a_number_is_no_part() -> None:
    plan = Reply("1. Find a\n2. Multiply by\n3.5 kg\n")
    driven = play(PlanAndReflect(), plan, box(1), box(7), judged("ACCEPT"), box(7))
    assert parts(driven) == 2


def test_without_a_plan_the_problem_is_its_only_part() -> None:
    driven = play(PlanAndReflect(), Reply(""), cut("Well"), box(7), judged("ACCEPT"), box(7))
    assert PROBLEM.text in driven.shown(2).split("this part:")[1]
    assert (driven.answer, driven.noted("lost")) == ("7", ["empty", "truncated"])


def test_parts_run_programs() -> None:
    driven = play(
        PlanAndReflect(),
        PLAN,
        code("x"),
        FAILED,
        box(3),
        code(),
        printed(7),
        box(7),
        judged("ACCEPT"),
        box(7),
    )
    assert driven.steps == ["solver"] + ["solver", "run", "solver"] * 2 + ["solver"] * 2
    assert "NameError" in driven.shown(3)


def test_programs_of_a_part_are_limited() -> None:
    agent = PlanAndReflect(runs=2)
    driven = play(
        agent, PLAN, code(), STOPPED, code(), STOPPED, code(), box(7), judged("ACCEPT"), box(7)
    )
    assert driven.steps.count("run") == 2
    assert (
        play(PlanAndReflect(runs=0), PLAN, code(), code(), judged("ACCEPT"), box(7)).steps.count(
            "run"
        )
        == 0
    )


@pytest.mark.parametrize("lost", [Reply(""), Reply(" "), cut("Let me")])
def test_prompt_states_that_a_lost_part_has_no_solution(lost: Reply) -> None:
    driven = play(PlanAndReflect(), PLAN, lost, lost, box(7), judged("ACCEPT"), box(7))
    assert "no solution" in driven.shown(3)
    assert len(driven.noted("lost")) == 2


def test_a_look_back_that_is_lost_objects_to_nothing() -> None:
    driven = play(PlanAndReflect(), PLAN, box(3), box(7), Reply(""), cut("The parts"), box(7))
    assert (driven.answer, driven.noted("verdict")) == ("7", [])


@pytest.mark.parametrize(
    "end", [[Reply(""), Reply("")], [cut("So"), cut("So")], [Reply("They fit together well.")]]
)
def test_without_a_last_word_the_draft_stands(end: list[Reply]) -> None:
    assert play(PlanAndReflect(), PLAN, box(3), box(7), judged("ACCEPT"), *end).answer == "7"


def test_the_last_word_is_the_answer() -> None:
    assert play(PlanAndReflect(), PLAN, box(3), box(7), judged("ACCEPT"), box(8)).answer == "8"


def test_no_answer_anywhere() -> None:
    script = [PLAN, *[Reply("Hm.")] * 2, judged("ACCEPT"), Reply("Hm.")]
    driven = play(PlanAndReflect(), *script)
    assert (driven.answer, driven.noted("draft")) == (None, [None])


def test_why_it_stopped_is_noted() -> None:
    assert (
        len(play(PlanAndReflect(), PLAN, box(3), box(7), judged("ACCEPT"), box(7)).noted("stop"))
        == 1
    )


def test_images_are_in_every_first_prompt() -> None:
    driven = play(
        PlanAndReflect(), PLAN, box(3), box(7), judged("ACCEPT"), box(7), problem=PICTURED
    )
    assert all(PICTURE in driven.chat(step)[0].content for step in range(5))


@pytest.mark.parametrize(
    "options", [{"cycles": 0}, {"runs": -1}, {"plan_prompt": "nope"}, {"part_prompt": "verify"}]
)
def test_bad_options(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"PlanAndReflect|nope|verify"):
        PlanAndReflect(**options)
