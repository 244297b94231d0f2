"""Votes: counted over equal answers, weighted by a verifier, and the best of several."""

from typing import Any

import pytest
from agents.driving import box, code, cut, judged, play
from agents.inputs import CHOICE, PICTURE, PICTURED, PROBLEM, SILENT

from slm_math.agents import MajorityVote
from slm_math.agents.majority_vote import elect
from slm_math.testing import Driven, drive
from slm_math.types import Problem, Reply


def voted(driven: Driven) -> tuple[str | None, float | None]:
    [note] = [note for note in driven.notes if note.kind == "vote"]
    return note.text, note.value


def test_k_samples_at_once_warm() -> None:
    driven = play(MajorityVote(k=3), [box(7), box(7), box(8)])
    assert driven.steps == ["solver+solver+solver"]
    assert {(r.temperature, r.top_p, r.resume) for r in driven.requests[0]} == {(0.7, 0.95, False)}
    assert {r.chat for r in driven.requests[0]} == {driven.chat(0)}
    assert PROBLEM.text in driven.shown(0)
    assert (driven.answer, voted(driven)) == ("7", ("7", 2 / 3))


def test_five_samples_by_default() -> None:
    assert len(drive(MajorityVote(), PROBLEM, partial=True).requests[0]) == 5


def test_equal_answers_in_other_spellings_vote_together() -> None:
    driven = play(MajorityVote(k=5), [box(8), box("0.5"), box(r"\frac12"), box(8), box("1/2")])
    assert (driven.answer, voted(driven)) == ("0.5", ("0.5", 3 / 5))


def test_options_and_their_values_vote_together() -> None:
    driven = play(
        MajorityVote(k=5), [box("A"), box("(B)"), box("7"), box("A"), box("b")], problem=CHOICE
    )
    assert driven.answer == "(B)"
    assert voted(driven)[1] == 3 / 5


def test_a_tie_goes_to_the_answer_seen_first() -> None:
    assert play(MajorityVote(k=4), [box(8), box(7), box(7), box(8)]).answer == "8"


def test_silence_does_not_vote_but_counts_as_a_sample() -> None:
    driven = play(
        MajorityVote(k=5), [Reply(""), Reply(" \n"), cut("Let me"), Reply("no idea"), box(7)]
    )
    assert (driven.answer, voted(driven)) == ("7", ("7", 1 / 5))
    assert (driven.noted("candidate"), driven.noted("lost")) == (
        [None, "7"],
        ["empty", "empty", "truncated"],
    )


def test_all_silent_is_no_answer() -> None:
    driven = play(MajorityVote(k=2), [Reply(""), cut("")])
    assert (driven.answer, voted(driven)) == (None, (None, 0.0))


def test_a_truncated_sample_with_an_answer_votes() -> None:
    assert play(MajorityVote(k=1), [cut(r"\boxed{7} and th")]).answer == "7"


def test_candidates_stand_side_by_side() -> None:
    notes = play(MajorityVote(k=3), [box(1), box(2), box(2)]).notes
    assert [(note.kind, note.text, note.branch) for note in notes] == [
        ("candidate", "1", (0,)), ("candidate", "2", (1,)), ("candidate", "2", (2,)), ("vote", "2",
        ()),
    ]  # fmt: skip


def test_verifiers_see_the_candidates_that_answer() -> None:
    driven = play(
        MajorityVote(k=3, pick="weighted"),
        [box(1), Reply(""), box(2)],
        [judged("CORRECT"), judged("INCORRECT")],
    )
    assert driven.steps == ["solver+solver+solver", "verifier+verifier"]
    assert [
        box(n).text in request.chat[0].text for n, request in zip((1, 2), driven.requests[1])
    ] == [
        True,
        True,
    ]
    assert driven.temperatures[3:] == [None, None]
    assert driven.answer == "1"


def test_weights_outdo_numbers() -> None:
    samples = [box(8), box(8), box(8), box(7), box(7)]
    # 8: 0 + 0 + 1/2, 7: 1 + 1/2
    words = ["INCORRECT", "INCORRECT", "UNCLEAR", "CORRECT", "UNCLEAR"]
    assert play(MajorityVote(k=5, pick="weighted"), samples, [*map(judged, words)]).answer == "7"
    assert play(MajorityVote(k=5), samples).answer == "8"


def test_endless_incorrect_or_unclear_leaves_the_majority() -> None:
    for word in ("INCORRECT", "UNCLEAR"):
        driven = play(
            MajorityVote(k=3, pick="weighted"), [box(8), box(7), box(7)], [judged(word)] * 3
        )
        assert driven.answer == "7"


def test_a_verifier_that_is_lost_is_unclear() -> None:
    first, again = [judged("INCORRECT"), Reply("")], Reply("")
    driven = play(MajorityVote(k=2, pick="weighted"), [box(8), box(7)], first, again)
    assert (driven.answer, driven.noted("lost")) == ("7", ["empty", "empty"])
    assert voted(driven)[1] == 0.5 / 2


def test_several_verdicts_on_each_are_averaged_and_warm() -> None:
    words = ["CORRECT", "INCORRECT", "INCORRECT", "CORRECT", "CORRECT", "UNCLEAR"]
    driven = play(
        MajorityVote(k=2, pick="weighted", checks=3), [box(8), box(7)], [*map(judged, words)]
    )
    assert driven.answer == "7"
    assert voted(driven)[1] == pytest.approx((1 + 1 + 0.5) / 3 / 2)
    assert set(driven.temperatures) == {0.7}
    assert [n.branch for n in driven.notes if n.kind == "verdict"] == [
        (i, j) for i in range(2) for j in range(3)
    ]


def test_best_of_n_takes_the_one_the_verifier_likes() -> None:
    words = ["UNCLEAR", "UNCLEAR", "CORRECT"]
    driven = play(MajorityVote(k=3, pick="best"), [box(8), box(8), box(7)], [*map(judged, words)])
    assert (driven.answer, voted(driven)) == ("7", ("7", 1.0))


def test_best_of_n_liked_alike_takes_the_larger_class() -> None:
    samples = [box(8), box(7), box(7)]
    assert play(MajorityVote(k=3, pick="best"), samples, [judged("CORRECT")] * 3).answer == "7"


def test_a_verifiers_program_runs() -> None:
    driven = play(MajorityVote(k=1, pick="best"), [box(7)], code(), SILENT, judged("CORRECT"))
    assert driven.steps == ["solver", "verifier", "run", "verifier"]


def test_only_a_weighted_vote_needs_a_verifier_and_a_sandbox() -> None:
    assert (MajorityVote().roles, MajorityVote().uses_python) == (("solver",), False)
    for pick in ("weighted", "best"):
        vote = MajorityVote(pick=pick)  # type: ignore[arg-type]
        assert (vote.roles, vote.uses_python) == (("solver", "verifier"), True)


def test_images_reach_all_samples() -> None:
    driven = play(
        MajorityVote(k=2, pick="best"), [box(7)] * 2, [judged("CORRECT")] * 2, problem=PICTURED
    )
    assert all(PICTURE in request.chat[0].content for asked in driven.requests for request in asked)


@pytest.mark.parametrize(
    "options", [{"k": 0}, {"k": -1}, {"checks": 0}, {"prompt": "nope"}, {"verify_prompt": "nope"}]
)
def test_bad_options(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"MajorityVote|nope"):
        MajorityVote(**options)


@pytest.mark.parametrize(
    ("votes", "best", "expected"),
    [
        ([], False, (None, 0.0)),
        ([(None, 1.0)], False, (None, 0.0)),
        ([("1", 1.0), ("2", 1.0), ("2.0", 1.0), (None, 1.0)], False, ("2", 0.5)),
        ([("1", 0.9), ("2", 0.5), ("2", 0.5)], False, ("2", 1 / 3)),
        ([("1", 0.9), ("2", 0.5), ("2", 0.5)], True, ("1", 0.9)),
        ([("1", 0.0), ("2", 0.0), ("2", 0.0)], False, ("2", 0.0)),
        ([("0.5", 0.2), (r"\frac12", 0.8)], True, (r"\frac12", 0.8)),
    ],
)
def test_elections(votes: Any, best: bool, expected: tuple[str | None, float]) -> None:
    answer, share = elect(votes, Problem("p", "?"), best)
    assert (answer, pytest.approx(share)) == expected
