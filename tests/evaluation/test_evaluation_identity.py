"""Which evaluation a folder holds: the same one goes on, another is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from evaluation.one_by_one import GREEDY, TASKS, OneByOne, parts, run

from slm_math.agents import FewShot, MajorityVote, SingleShot
from slm_math.engines.base import EngineError
from slm_math.types import Problem, Sampling, Task


def test_settings_of_tuples_are_the_same_when_read_back(tmp_path: Path) -> None:
    agent, sampling = SingleShot(not_first=("####",)), {"default": Sampling(0.5, stop=("\n\n",))}
    run(tmp_path, OneByOne(), agent, sampling=sampling)
    again = OneByOne()
    run(tmp_path, again, agent, sampling=sampling)
    assert again.requests == []


def test_manifest_entries_outside_the_identity_may_change(tmp_path: Path) -> None:
    run(
        tmp_path,
        OneByOne(lambda request: EngineError("it is down")),
        about={"split": "test", "configuration": {"slots": 4}},
    )
    run(tmp_path, OneByOne(), about={"split": "test", "configuration": {"slots": 8}})
    about = parts(tmp_path)[0]["about"]
    assert (about["split"], about["configuration"]) == ("test", {"slots": 8})


def other(**changes: Any) -> list[Task]:
    return [replace(TASKS[0], **changes), *TASKS[1:]]


LESSON = Task(Problem("t/1", "What is 2 + 2?"), "4", "It is 4.")
CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "agent": ({"agent": MajorityVote(k=2)}, "agent.class"),
    "setting of the agent": ({"agent": SingleShot(temperature=0.5)}, "agent.temperature"),
    "prompt": ({"agent": SingleShot("solve_tags")}, "agent.prompt"),
    "examples": ({"agent": FewShot(SingleShot(), [LESSON])}, "agent"),
    "text of a problem": ({"tasks": other(problem=Problem("p/0", "What is 1 + 1?"))}, "data"),
    "gold": ({"tasks": other(gold="2")}, "data"),
    "fewer problems": ({"tasks": TASKS[:5]}, "problems"),
    "samples": ({"samples": 2}, "samples"),
    "seed": ({"seed": 1}, "seed"),
    "temperature": ({"sampling": {"default": Sampling(0.7)}}, "sampling.default.temperature"),
    "sampling of a role": ({"sampling": {**GREEDY, "solver": Sampling(0.1)}}, "sampling.solver"),
    "model": ({"engine": OneByOne(model="b")}, "engines.default.model"),
    "weights": ({"identity": {"weights": "abc"}}, "weights"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_another_evaluation_is_refused_by_the_name_of_what_changed(
    name: str, tmp_path: Path
) -> None:
    run(tmp_path, OneByOne())
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    change, key = CHANGES[name]
    options = {"engine": OneByOne(), **change}
    with pytest.raises(ValueError, match="holds another evaluation") as caught:
        run(tmp_path, **options)
    assert any(word.strip("(,").startswith(key) for word in str(caught.value).split())
    assert options["engine"].requests == []
    assert files == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


NUM = [Task(Problem("p/0", "How many?", "num"), "3.14")]
MC = [Task(Problem("p/0", "Which?", "mc", choices=("1", "2")), "B")]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (NUM, [replace(NUM[0], tolerance=0.1)]),
        (NUM, [replace(NUM[0], problem=replace(NUM[0].problem, answer_type="math"))]),
        (MC, [replace(MC[0], problem=replace(MC[0].problem, choices=("2", "1")))]),
    ],
    ids=["tolerance", "answer type", "choices"],
)
def test_other_rules_of_grading_are_other_data(
    old: list[Task], new: list[Task], tmp_path: Path
) -> None:
    run(tmp_path, OneByOne(), tasks=old)
    with pytest.raises(ValueError, match="data"):
        run(tmp_path, OneByOne(), tasks=new)


def test_other_text_of_the_examples_is_another_evaluation(tmp_path: Path) -> None:
    run(tmp_path, OneByOne(), FewShot(SingleShot(), [LESSON]))
    with pytest.raises(ValueError, match="agent"):
        run(tmp_path, OneByOne(), FewShot(SingleShot(), [replace(LESSON, solution="Four.")]))


def test_manifest_holds_a_digest_of_the_examples_instead_of_their_answers(tmp_path: Path) -> None:
    lesson = Task(Problem("t/1", "What is 2 + 2?"), "four-as-gold", "four-as-solution")
    run(tmp_path, OneByOne(), FewShot(SingleShot(), [lesson, LESSON]))
    text = (tmp_path / "manifest.json").read_text()
    assert "four-as" not in text
    examples = json.loads(text)["identity"]["agent"]["examples"]
    assert examples["count"] == 2
    assert len(bytes.fromhex(examples["sha256"])) == 8


def test_two_problems_of_one_id_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="same id"):
        run(
            tmp_path / "out",
            OneByOne(),
            tasks=[TASKS[0], replace(TASKS[1], problem=TASKS[0].problem)],
        )
    assert not (tmp_path / "out").exists()
