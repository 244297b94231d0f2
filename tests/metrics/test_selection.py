"""Metrics of a selector, with values worked out by hand."""

from typing import Any

import pytest
from metrics.test_rounds import note, row

from slm_math.evaluation.table import metric_lines
from slm_math.metrics.intervals import wilson
from slm_math.metrics.observed import means
from slm_math.metrics.records import record_metrics
from slm_math.metrics.rounds import selection_observations
from slm_math.metrics.summary import summarize
from slm_math.records.encoding import from_json, json_line
from slm_math.records.record import Record


def sample(name: str, answers: list[str | None], choice: Any, correct: bool) -> Record:
    """Candidates of which "7" is correct; `choice` is False where nobody was asked."""
    events = [
        note("candidate", answer, place, correct=answer == "7")
        for place, answer in enumerate(answers)
    ]
    if choice is not False:
        events += [note("choice", choice, correct=choice == "7", role="selector", value=1)]
    return row(correct, *events, id=name)


FIVE = [
    sample("a", ["7", "6", "6"], "7", True),  # better than the majority
    sample("b", ["7", "7", "6"], "6", False),  # worse
    sample("c", ["7", "7", "6", None], None, True),  # no choice: the majority's
    sample("d", ["5", "6"], "6", False),  # nothing to choose
    sample("e", ["7", "7"], False, True),  # nothing to ask
]


def test_choices_count_where_there_is_one_to_make() -> None:
    metrics = record_metrics(FIVE)
    names = ("oracle", "majority", "selection_made", "selection_accuracy", "selection_majority")
    assert {name: metrics[name] for name in names} == {
        "oracle": 4 / 5,
        "majority": 3 / 5,
        "selection_made": 3 / 4,
        "selection_accuracy": 1 / 3,
        "selection_majority": 2 / 3,
    }


def test_equal_answers_in_other_spellings_are_one_class_of_the_majority() -> None:
    split = sample("a", ["8", "7", "8.0", "6"], "7", True)
    assert selection_observations([split])["majority"].mean == 0.0
    tie = sample("a", ["7", "8"], "7", True)
    assert selection_observations([tie])["majority"].mean == 1.0


def test_without_choices_there_are_no_such_metrics() -> None:
    assert selection_observations(FIVE[4:]) == {}
    assert selection_observations([]) == {}
    assert "majority" not in record_metrics(FIVE[4:])


def test_records_keep_choices() -> None:
    [choice] = [note for note in from_json(_json(FIVE[1])).notes if note.kind == "choice"]
    assert (choice.text, choice.correct, choice.value, choice.role) == ("6", False, 1, "selector")
    small = [record.without_texts() for record in FIVE]
    assert means(selection_observations(small)) == means(selection_observations(FIVE))


def _json(record: Record) -> Any:
    import json

    return json.loads(json_line(record))


def test_results_show_them_with_their_intervals() -> None:
    summary = summarize(FIVE)
    assert summary.intervals["selection_accuracy"] == pytest.approx((*wilson(1, 3), 3))
    lines = metric_lines({"selector": summary})
    assert max(map(len, lines)) <= 80
    text = " ".join(lines)
    assert text.startswith("selector: any candidate right 80.0 [")
    assert "right choices among right and wrong candidates 33.3 [6.1, 79.2], n = 3;" in text
    assert "right majorities among the same 66.7 [" in text
