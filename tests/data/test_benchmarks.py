"""Benchmarks by name: hand-made files in the shapes of the hub, real ones in another, and what is
known of each.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from data.published import write_json, write_jsonl, write_parquet

from slm_math.answers.grade import grade_answer
from slm_math.data import Mixture
from slm_math.data.base import NoProblems, read_tasks
from slm_math.data.benchmark_facts import BENCHMARKS
from slm_math.data.benchmarks import NAMED, Benchmark
from slm_math.data.named import source_class
from slm_math.data.problems import problems_of
from slm_math.types import Task

DOCS = Path(__file__).parents[2] / "docs" / "benchmarks.md"
WORDS = "How many pens?"
# name -> rows as the hub has them, and (text, answer type, gold, tolerance) of the first
SHAPES: dict[str, tuple[list[dict[str, Any]], tuple[Any, ...]]] = {
    "aime24": (
        [{"id": 60, "problem": WORDS, "solution": "\\boxed{25}", "url": "u"}],
        (WORDS, "math", "25", None),
    ),
    "aime25": ([{"problem": WORDS, "answer": "025", "id": "0"}], (WORDS, "math", "25", None)),
    "aime26": ([{"id": 1, "problem": WORDS, "answer": 25}], (WORDS, "math", "25", None)),
    "amc23": (
        [{"id": 0, "answer": 27.0, "url": "u", "question": WORDS}],
        (WORDS, "math", "27", None),
    ),
    "hmmt_feb25": (
        [{"problem_idx": 1, "problem": WORDS, "answer": "\\frac{1}{3}", "problem_type": ["A"]}],
        (WORDS, "math", "\\frac{1}{3}", None),
    ),
    "olympiadbench": (
        [
            {
                "question": WORDS,
                "context": "Ann has some.",
                "final_answer": ["$2$,$-3$"],
                "is_multiple_answer": True,
                "unit": None,
                "error": None,
                "subfield": "Algebra",
            }
        ],
        (f"Ann has some. {WORDS}", "math", "$2$,$-3$", None),
    ),
    "minerva_math": (
        [{"question": WORDS, "answer": "4.5e33"}],
        (WORDS, "num", "4.5e33", "1%"),
    ),
    "svamp": (
        [{"Body": "Ann has 4 pens.", "Question": WORDS, "Answer": "4.0", "Type": "Sum"}],
        (f"Ann has 4 pens. {WORDS}", "math", "4.0", None),
    ),
    "asdiv": (
        [{"body": "Ann has 4.", "question": WORDS, "answer": "4 (pens)", "solution_type": "Sum"}],
        (f"Ann has 4. {WORDS}", "math", "4", None),
    ),
    "mawps": (
        [{"id": "mawps__1", "question": WORDS, "result": "8_1/2", "result_float": 8.5}],
        (WORDS, "math", "8 1/2", None),
    ),
    "gsm_plus": (
        [
            {"question": WORDS, "answer": "4", "solution": "2+2", "perturbation_type": "digits"},
            {"question": "?", "answer": "None", "solution": "x", "perturbation_type": "critical"},
        ],
        (WORDS, "math", "4", None),
    ),
    "gsm8k_platinum": (
        [{"question": WORDS, "answer": "2+2=<<2+2=4>>4\n#### 4", "cleaning_status": "consensus"}],
        (WORDS, "math", "4", None),
    ),
    "gsm_symbolic": (
        [{"id": 0, "instance": 3, "question": WORDS, "answer": "2+2=4\n#### 4", "canary": "c"}],
        (WORDS, "math", "4", None),
    ),
    "college_math": ([{"problem": WORDS, "answer": "$x^2$"}], (WORDS, "math", "$x^2$", None)),
    "gaokao_en": (
        [{"question": WORDS, "answer": "$4$"}, {"question": WORDS, "answer": ""}],
        (WORDS, "math", "$4$", None),
    ),
}
SAME_SHAPE = {
    "hmmt_nov25": "hmmt_feb25",
    "hmmt_feb26": "hmmt_feb25",
    "gsm_symbolic_p1": "gsm_symbolic",
    "gsm_symbolic_p2": "gsm_symbolic",
}


def facts_of(task: Task) -> tuple[Any, ...]:
    return task.problem.text, task.problem.answer_type, task.gold, task.tolerance


@pytest.mark.parametrize("name", [name for name in BENCHMARKS if "process" not in name])
def test_rows_in_the_shape_of_the_hub(tmp_path: Path, name: str) -> None:
    rows, expected = SHAPES[SAME_SHAPE.get(name, name)]
    source = NAMED[name](str(write_jsonl(tmp_path / "test.jsonl", rows)))
    tasks = read_tasks(source, "test")
    assert facts_of(tasks[0]) == expected
    assert tasks[0].problem.id == f"{name}/test/0"
    assert len(tasks) == 1  # rows without an answer to compare are left out
    assert bool(source.about("test")) == (len(rows) > 1)


@pytest.mark.parametrize("write", [write_json, write_parquet])
def test_formats(tmp_path: Path, write: Callable[..., Path]) -> None:
    rows, expected = SHAPES["olympiadbench"]
    file = write(tmp_path / f"x.{write.__name__.removeprefix('write_')}", rows)
    [task] = read_tasks(NAMED["olympiadbench"](str(file)), "test")
    assert facts_of(task) == expected
    assert grade_answer("-3 and 2", task).equal


def test_an_allowed_error_and_a_unit(tmp_path: Path) -> None:
    row = SHAPES["olympiadbench"][0][0]
    row |= {"final_answer": ["4.2"], "is_multiple_answer": False, "error": "1e-1", "unit": "$km$"}
    file = write_jsonl(tmp_path / "test.jsonl", [row])
    [task] = read_tasks(NAMED["olympiadbench"](str(file)), "test")
    assert task.problem.text.endswith("(Unit: km)")
    verdicts = [grade_answer(answer, task).equal for answer in ("4.3", "4.2 km", "4.31")]
    assert verdicts == [True, True, False]


def test_measured_quantities_are_equal_within_a_percent(tmp_path: Path) -> None:
    rows = [{"question": WORDS, "answer": gold} for gold in ("4.5e33", "0.50", "12", "-1./3")]
    file = write_jsonl(tmp_path / "test.jsonl", rows)
    tasks = read_tasks(NAMED["minerva_math"](str(file)), "test")
    close = ["4.53 \\times 10^{33}", "0.503", "12.1", "-0.334"]
    found = [grade_answer(answer, task).equal for answer, task in zip(close, tasks)]
    assert found == [True, True, False, False]


def test_drafts_of_processbench(tmp_path: Path) -> None:
    usual = {"id": "gsm8k-0", "generator": "a model", "problem": WORDS}
    rows = [
        usual | {"steps": ["2+2=5.", "So \\boxed{5}."], "final_answer_correct": False, "label": 0},
        usual | {"steps": ["2+2=4.", "It is 4 pens."], "final_answer_correct": True, "label": -1},
    ]
    file = write_json(tmp_path / "gsm8k.json", rows)
    wrong, right = read_tasks(NAMED["processbench_gsm8k"](str(file)), "test")
    assert wrong.problem.draft is not None
    assert wrong.problem.draft.text == "2+2=5.\n\nSo \\boxed{5}."
    assert (wrong.problem.draft.answer, wrong.gold) == ("5", "INCORRECT")
    assert right.gold == "CORRECT"
    assert (wrong.problem.tags["first_error"], right.problem.tags["first_error"]) == ("0", "none")


def test_only_sets_with_training_problems_are_trained_on(tmp_path: Path) -> None:
    for name in BENCHMARKS:
        if BENCHMARKS[name].test_only:
            with pytest.raises(NoProblems, match=f"^{name} is a test set, which is never trained"):
                NAMED[name]().tasks("train")
    rows = [{"Body": f"Ann has {n} pens.", "Question": WORDS, "Answer": n} for n in range(60)]
    write_jsonl(tmp_path / "train.jsonl", rows)
    write_jsonl(tmp_path / "test.jsonl", rows[:3])
    source = NAMED["svamp"](str(tmp_path))
    sizes = [len(source.tasks(split)) for split in ("train", "validation", "test")]
    assert sizes[0] + sizes[1] == 60
    assert sizes[2] == 3
    with pytest.raises(NoProblems, match="no train problems of svamp here"):
        NAMED["svamp"](str(tmp_path / "test.jsonl")).tasks("train")


def test_a_mixture_does_not_train_on_what_a_benchmark_asks(tmp_path: Path) -> None:
    rows = [{"question": f"What is {n} + {n}?", "answer": f"#### {2 * n}"} for n in range(40)]
    train = write_jsonl(tmp_path / "own" / "train.jsonl", rows)
    test = write_jsonl(tmp_path / "test.jsonl", [{"problem": "What is 7 + 7?", "answer": "14"}])
    own = source_class("GSM8K")(path=str(train), validation=0.0)  # type: ignore[call-arg]
    mixture = Mixture({"own": own, "aime25": NAMED["aime25"](str(test))})
    assert len(mixture.tasks("train")) == 39
    assert [task.problem.tags["source"] for task in mixture.tasks("test")] == ["aime25"]


def test_names_on_the_command_line(tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "any_name.jsonl", SHAPES["aime25"][0])
    assert [problem.text for problem in problems_of(f"aime25:test={file}")] == [WORDS]
    assert source_class("aime25") is NAMED["aime25"]
    with pytest.raises(ValueError, match="aime27 is not a data set"):
        source_class("aime27")
    with pytest.raises(ValueError, match="name one of aime24"):
        Benchmark()


def test_the_hub_file_is_read_at_its_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def hf_hub_download(repo: str, file: str, *, repo_type: str, revision: str) -> str:
        asked.append((repo, file, repo_type, revision))
        return str(write_jsonl(tmp_path / file, SHAPES["aime25"][0]))

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hf_hub_download)
    assert len(NAMED["aime25"]().tasks("test")) == 1
    revision = "563bb8404243c5f09de6ec262f2db674fe5bce9b"
    assert asked == [("math-ai/aime25", "test.jsonl", "dataset", revision)]


def test_what_is_not_pinned_is_said_to_be_so() -> None:
    for name, facts in BENCHMARKS.items():
        assert facts.pinned == ("revision" not in facts.unconfirmed), name
        assert facts.train is None or facts.train.revision == facts.file.revision


def test_the_page_has_the_facts() -> None:
    rows = re.findall(r"^\| `(\w+)` \|(.*)\|$", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    page = {name: [cell.strip() for cell in rest.split("|")] for name, rest in rows}
    assert page.keys() == BENCHMARKS.keys()
    for name, facts in BENCHMARKS.items():
        title, size, kind, license, file, revision, *_ = page[name]
        assert (title, size, license) == (facts.title, f"{facts.size:,}", facts.license or "?")
        assert file == f"`{facts.file}`"
        assert revision == (facts.file.revision[:8] if facts.pinned else "not pinned")
        assert ("to train on, too" in kind) != facts.test_only


REAL = {"aime24": 30, "amc23": 40, "olympiadbench": 675, "minerva_math": 272}
REAL |= {"svamp": 1000, "asdiv": 2215, "mawps": 2065}


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_every_real_reference_answer_equals_itself(real_data: Path, name: str) -> None:
    file = real_data / "benchmarks" / f"{name}.jsonl"
    if not file.is_file():
        pytest.skip(f"there is no {file.name}")
    source = NAMED[name](str(file))
    splits = ("test",) if source.facts.test_only else ("train", "validation")
    tasks = [task for split in splits for task in read_tasks(source, split)]
    assert len(tasks) == REAL[name]
    # without the text, from which an answer may be copied
    bare = [replace(task, problem=replace(task.problem, text="")) for task in tasks]
    assert [task.gold for task in bare if not grade_answer(task.gold, task).equal] == []


def test_variations_of_one_problem_are_one_template(tmp_path: Path) -> None:
    seeds = ["Ann has 4 pens and buys 3. " * 5, "Bo has 4 pens and buys 3. " * 5]
    rows = [
        {"question": f"{n}", "answer": "4", "perturbation_type": "digits", "seed_question": seed}
        for seed in seeds
        for n in range(3)
    ]
    file = tmp_path / "test.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    tags = [t.problem.tags["template"] for t in NAMED["gsm_plus"](path=str(file)).tasks("test")]
    assert tags == [tags[0]] * 3 + [tags[3]] * 3
    assert tags[0] != tags[3]
    assert len(tags[0]) == 12  # no text of a problem stands in a tag
