"""Contamination: what is found in what, and what `fit` refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from growth import grows_linearly
from hypothesis import given, settings
from hypothesis import strategies as st

from slm_math.data.overlap import near_exact, overlap, refuse_overlap
from slm_math.evaluation.overlap_table import overlap_files
from slm_math.types import Image, Problem

STORY = (
    "A train leaves the northern station with 48 passengers on board and at each of the following "
    "3 stops another 12 "
    "people get on while nobody leaves it, so that the conductor has to check every ticket before "
    "the last stop. "
    "How many tickets does the conductor check in total?"
)
OTHER = (
    "Every morning the baker fills 7 trays with 15 rolls each and sells all but 4 of them to the "
    "people of the town."
)


def problems(*texts: str) -> list[Problem]:
    return [Problem(f"p/{i}", text) for i, text in enumerate(texts)]


def named(name: str, *texts: str) -> list[Problem]:
    return [Problem(f"{name}/{i}", text) for i, text in enumerate(texts)]


# overlap


def same(train: list[str], test: list[str]) -> dict[int, int]:
    return near_exact(problems(*train), problems(*test))


@pytest.mark.parametrize(
    "spelling",
    [
        ("48", "forty 48"),
        ("48 passengers", "48passengers"),
        ("48 passengers", "48,000 passengers"),
        ("12 people", r"$12$ people"),
        ("12 people", r"\frac12 people"),
        ("12 people", "frac12 people"),
        ("3 stops", ".3 stops"),
        ("3 stops", "0.3 stops"),
        ("3 stops", "3{,}000 stops"),
        ("3 stops", "３ stops"),
        ("3 stops", "3² stops"),
        ("48", "480"),
        ("A train", "At 7 a train"),
        ("A train", "0 trains"),
    ],
)
def test_same_problems_are_those_of_the_whole_comparison(spelling: tuple[str, str]) -> None:
    texts = [STORY, OTHER, "Compute .5 + 1,000.", "How many?", STORY.replace(*spelling)]
    for one in texts:
        for other in texts:
            found = overlap(problems(OTHER, one), problems(other, "5 + 5")).near_exact
            expected = {finding.test: finding.train for finding in found}
            assert same([OTHER, one], [other, "5 + 5"]) == expected


def test_equations_are_found_where_a_test_problem_has_no_words() -> None:
    assert same(["7*4=28", "28 + 12 = 40"], [STORY, "28+12=40"]) == {1: 1}


def test_a_sign_that_is_written_as_a_word_is_found() -> None:
    assert same(["7*4=28", "3 × 4 ≤ 20"], [r"$3 \times 4 \leq 20$"]) == {0: 1}


def test_the_closest_finding_of_each_problem() -> None:
    train = problems(OTHER, STORY.upper(), STORY, "Compute $1+1$.")
    found = overlap(train, problems(STORY, OTHER + "!", "compute 1 + 1", "Compute 1 - 1."))
    assert [(f.test, f.train, f.kind) for f in found.findings] == [
        (0, 2, "exact"),
        (1, 0, "normalized"),
        (2, 3, "normalized"),
    ]
    assert (found.trained, found.problems, len(found.near_exact)) == (4, 4, 3)


def test_shares_of_13_grams_in_one_problem_and_in_all() -> None:
    words = [f"w{'abcdefghijklmnopqrst'[i]}" for i in range(20)]  # 8 grams
    test = " ".join(words)
    train = [" ".join(["x", *words[:15]]), " ".join([*words[6:], "y"])]  # grams 0 to 2, and 6 to 7
    [f] = overlap(problems(*train), problems(test)).findings
    assert (f.kind, f.train, f.together, f.anywhere, f.near_exact) == (
        "13-gram",
        0,
        3 / 8,
        5 / 8,
        False,
    )


def test_a_short_problem_is_found_only_as_a_whole() -> None:
    assert not overlap(
        problems("Tell me: what is two and two?"), problems("What is two and two?")
    ).findings


def test_a_text_without_words_is_in_nothing() -> None:
    assert not overlap(problems("", "???", "!"), problems("", "?!")).findings


def test_same_text_about_another_image_is_another_problem(tmp_path: Path) -> None:
    for name, data in (("a", b"1"), ("b", b"2"), ("copy", b"1")):
        (tmp_path / f"{name}.png").write_bytes(data)
    a, b, copy = (
        Problem(n, "Find x.", images=(Image(str(tmp_path / f"{n}.png")),))
        for n in ("a", "b", "copy")
    )
    assert not overlap([a], [b]).findings
    assert overlap([a], [copy]).findings[0].kind == "exact"


def test_choices_belong_to_the_problem() -> None:
    one, two = (
        Problem("p", "Which is right?", "mc", choices) for choices in (("1", "2"), ("3", "4"))
    )
    assert not overlap([one], [two]).findings


def test_phrases_of_many_test_problems_do_not_count() -> None:
    phrase = "think about this problem step by step and put the final answer into a box"  # 15 words
    test = problems(*(f"{phrase} what is {i} and {i + 1} of them" for i in range(11)))
    assert overlap(problems(phrase + " Which day is it?"), test[:10]).findings
    assert not overlap(problems(phrase + " Which day is it?"), test).findings


def by_hand(train: list[str], test: list[str]) -> dict[int, tuple[float, float]]:
    """(share in the one closest, share in all) of test texts of plain words, by comparing lists."""

    def grams(text: str) -> set[tuple[str, ...]]:
        words = text.split()
        return (
            {tuple(words[i : i + 13]) for i in range(len(words) - 12)}
            if len(words) > 12
            else {tuple(words)}
        )

    result = {}
    for i, text in enumerate(test):
        own = grams(text)
        shared = [own & grams(other) for other in train]
        if any(shared):
            result[i] = max(len(s) for s in shared) / len(own), len(set().union(*shared)) / len(own)
    return result


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_grams_agree_with_a_comparison_of_lists(data: st.DataObject) -> None:
    source = [f"{a}{b}" for a in "abcdefgh" for b in "abcde"]
    piece = st.builds(lambda i, n: source[i : i + n], st.integers(0, 30), st.integers(1, 25))
    text = st.lists(piece, min_size=1, max_size=3).map(
        lambda parts: " ".join(word for part in parts for word in part)
    )
    train, test = (data.draw(st.lists(text, min_size=1, max_size=6)) for _ in range(2))
    found = overlap(problems(*train), problems(*test))
    assert {f.test: f.anywhere for f in found.findings} == {
        i: all for i, (_, all) in by_hand(train, test).items()
    }
    for f in found.findings:
        if f.kind == "13-gram" and not f.near_exact:
            assert f.together == by_hand(train, test)[f.test][0]


# what is refused


def test_a_wrapped_problem_is_the_same_problem() -> None:
    wrapped = f"Problem 12. {STORY}\n\nThink in 3 steps, then put the answer into \\boxed{{}}."
    assert same([OTHER, wrapped], [STORY]) == {0: 1}


def test_another_first_word_makes_no_other_problem() -> None:
    assert same([STORY], [STORY.replace("A train", "Some bus", 1)]) == {0: 0}
    assert same([STORY], [STORY.replace("A train", "Two trains", 1)]) == {}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("48", "49"),
        ("3 stops", "4 stops"),
        ("12", "12.5"),
        ("in total", "on average"),
        ("in total", "per stop"),
        ("12", "-12"),
    ],
)
def test_other_numbers_or_another_question_are_another_problem(old: str, new: str) -> None:
    assert same([STORY.replace(old, new)], [STORY]) == {}


def test_a_variable_more_in_the_question_is_another_problem() -> None:
    text = (
        r"There are $A$ and $B$ for which \[\frac A{x-1}+\frac B{x+1}=\frac{x+2}{x^2-1}\] for "
        r"every $x$. Find $B$."
    )
    assert same([text.replace("Find $B$", "Find $A-B$")], [text]) == {}


def test_a_text_that_repeats_itself_is_no_trouble() -> None:
    def work(words: int) -> None:
        text = "no " * words
        assert same([text + "more"], [text]) == {0: 0}

    assert grows_linearly(work, 750)


def test_error_gives_count_names_and_remedy() -> None:
    train, test = named("cot", OTHER, STORY), named("gsm8k", STORY, "What is 1 + 1?", OTHER)
    with pytest.raises(ValueError, match="allow_overlap") as error:
        refuse_overlap(train, test, "the test split of gsm8k")
    assert str(error.value) == (
        "2 of the 3 problems of the test split of gsm8k are among the training problems (gsm8k/0 "
        "= cot/1, "
        "gsm8k/2 = cot/0): remove them from the training data, or set allow_overlap: true"
    )


def test_problems_of_their_own_are_let_through() -> None:
    refuse_overlap(named("a", OTHER), named("b", STORY), "b")


def test_the_command_shows_hostile_text_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = f"[bold]\x1b[31m\x00\ud800 {STORY}"
    for name in ("train", "test"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"problem": evil, "id": evil[:20]}))
    out = tmp_path / "found.json"
    overlap_files(str(tmp_path / "train.jsonl"), str(tmp_path / "test.jsonl"), out=str(out))
    shown = capsys.readouterr().out
    assert "1 of 1" in shown
    assert "[bold]" in shown
    assert "\x1b[31m" not in shown
    data = json.loads(out.read_text(encoding="utf-8"))
    assert (data["exact"], data["near_exact"], data["findings"][0]["kind"]) == (1, 1, "exact")


# real data


def texts(file: Path, field: str) -> list[str]:
    return [json.loads(line)[field] for line in file.read_text(encoding="utf-8").splitlines()]


def test_real_test_sets_are_clean_of_their_training_sets(real_data: Path) -> None:
    """Nothing near-exact, though stories are reused: no false alarm either, as read by eye."""
    for train, test, field in (
        ("gsm8k/train", "gsm8k/test", "question"),
        ("math/train", "math500/test", "problem"),
    ):
        sides = (texts(real_data / f"{name}.jsonl", field) for name in (train, test))
        found = overlap(*(problems(*side) for side in sides))
        assert (len(found.near_exact), found.count("exact"), found.count("normalized")) == (0, 0, 0)
        assert found.count("13-gram") > 0


def test_real_problems_are_found_when_printed_otherwise_but_not_with_another_number(
    real_data: Path,
) -> None:
    test = texts(real_data / "math500/test.jsonl", "problem")[:200]
    printed = [text.replace("$", "").upper().replace(" ", "\n ") for text in test]
    assert same(printed, test) == {i: i for i in range(len(test))}
    numbered = [text for text in test if re.search(r"\d", text)]
    assert (
        same(
            [re.sub(r"\d+", lambda n: str(int(n[0]) + 1), text, count=1) for text in numbered],
            numbered,
        )
        == {}
    )
