"""What the scripts train and print that compare trainings; the command line is replaced by one that
writes what a training or an evaluation would.
"""

from __future__ import annotations

import json
import subprocess
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import compare_distillation
import compare_roles
import compare_self_distillation
import compare_verifier
import comparing
import pytest

from slm_math.data.cot import CoT
from slm_math.records.encoding import json_line
from slm_math.records.record import Record, TurnEvent

Command = tuple[str, dict[str, str]]  # fit or eval, and its options


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[Command]:
    """The commands that ran."""
    commands: list[Command] = []

    def run(*arguments: object) -> None:
        command, *rest = map(str, arguments)
        # what comes before a config file, it overrides
        files = [each.startswith("--config") for each in rest]
        assert files == sorted(files, reverse=True)
        options = dict(each[2:].split("=", 1) for each in rest)
        commands.append((command, options))
        if command == "fit":
            root = Path(options["trainer.default_root_dir"])
            (root / "export").mkdir(parents=True, exist_ok=True)
            (root / "rollouts.jsonl").write_text('{"events": [{"tokens": 7}, {"seconds": 1}]}\n')
            return
        if command == "generate-cot":
            write_rows(Path(options["out"]))
            return
        for agent in ("judge", "single_shot", "solver_verifier"):
            folder = Path(options["out"]) / agent
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "records.jsonl").write_bytes(b"".join(map(json_line, verdicts(3))))
            (folder / "summary.json").write_text('{"partial": false}')

    monkeypatch.setattr(comparing, "run", run)
    return commands


def write_rows(out: Path) -> None:
    """Forty accepted rows of a cascade."""
    out.mkdir(parents=True)
    lines = [{"question": f"{n}+1?", "ground_truth": f"{n + 1}"} for n in range(40)]
    rows = [line | {"solution": f"#### {line['ground_truth']}", "correct": True} for line in lines]
    (out / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (out / "summary.json").write_text('{"partial": false}')


def verdicts(right: int) -> list[Record]:
    """Verdicts on four drafts, of which the first ones are right."""
    golds = ("CORRECT", "INCORRECT") * 2
    return [
        Record(
            id=f"drafts/p/{n}/x",
            sample=0,
            problem=f"{n}?",
            gold=gold,
            answer_type="verdict",
            answer="CORRECT" if (gold == "CORRECT") == (n < right) else "INCORRECT",
            correct=n < right,
            events=(TurnEvent(reply=f"{n}", tokens=10),),
        )
        for n, gold in enumerate(golds)
    ]


def chosen(folder: Path) -> Namespace:
    return Namespace(
        model="base", teacher=Path("teacher"), steps=7, problems=5, n=4, out=folder, seeds=[3]
    )


def trainings(ran: list[Command]) -> dict[str, dict[str, str]]:
    return {
        Path(options["trainer.default_root_dir"]).name: options
        for command, options in ran
        if command == "fit"
    }


def test_each_verifier_starts_where_it_says(ran: list[Command], tmp_path: Path) -> None:
    for row in compare_verifier.STAGES:
        compare_verifier.judged(row, 3, chosen(tmp_path))
    trained = trainings(ran)
    assert sorted(trained) == sorted(row.replace(" ", "-") for row in compare_verifier.STAGES)
    assert [row for row in trained if "data.source.shuffle_labels" in trained[row]] == [
        "shuffled-GRPO"
    ]
    for row in ("GRPO", "shuffled-GRPO"):
        assert trained[row]["model.policy"] == f"{{path: {tmp_path}/3/SFT/export}}"
        assert trained[row]["trainer.limit_train_batches"] == "7"


def test_one_role_learns_at_the_rate_that_it_has_in_the_pair(
    ran: list[Command], tmp_path: Path
) -> None:
    for who in ("pair", "solver", "verifier"):
        compare_roles.trained(who, 3, chosen(tmp_path))
    trained = trainings(ran)
    assert "model.frozen" not in trained["pair"]
    assert trained["solver"]["model.frozen"] == "{verifier: base}"
    assert trained["verifier"]["model.train_roles"] == "[verifier]"
    config = comparing.QUICKSTART / compare_roles.CONFIG
    text = config.read_text(encoding="utf-8")
    assert "optim: {lr: 1.0e-3, role_lr: {verifier: 2.0e-3}" in text
    assert [trained[who]["model.optim.lr"] for who in ("solver", "verifier")] == ["1e-3", "2e-3"]


@pytest.mark.parametrize(
    ("one_seed", "commands"),
    [
        (lambda options: compare_verifier.judged("GRPO", 0, options), 5),
        (lambda options: compare_roles.solved("base", "before", options), 1),
        (lambda options: compare_distillation.one_seed(0, options), 10),
        (lambda options: compare_self_distillation.one_seed(0, options), 6),
    ],
)
def test_what_is_done_is_not_run_again(
    ran: list[Command], tmp_path: Path, one_seed: Callable[[Namespace], Any], commands: int
) -> None:
    first = one_seed(chosen(tmp_path))
    assert one_seed(chosen(tmp_path)) == first
    assert len(ran) == commands


def test_what_was_interrupted_is_run_again(ran: list[Command], tmp_path: Path) -> None:
    """It left an export of its first epochs, and a summary of its first records."""
    (tmp_path / "root" / "export").mkdir(parents=True)
    folder = tmp_path / "out" / "judge"
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text('{"partial": true}')
    for _ in range(2):
        comparing.train(tmp_path / "root", "sft.yaml")
        comparing.evaluate(tmp_path / "out", "judge")
    assert [command for command, _ in ran] == ["fit", "eval"]
    assert ran[0][1]["ckpt_path"] == "last_if_any"


def test_training_that_failed_is_not_done(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def run(*arguments: object) -> None:
        (tmp_path / "export").mkdir(exist_ok=True)
        raise subprocess.CalledProcessError(1, "fit")

    monkeypatch.setattr(comparing, "run", run)
    for _ in range(2):
        with pytest.raises(subprocess.CalledProcessError):
            comparing.train(tmp_path, "sft.yaml")


def test_generated_and_embedded_rows_are_equally_many(ran: list[Command], tmp_path: Path) -> None:
    compare_self_distillation.one_seed(0, chosen(tmp_path))
    sources = [options["data.source"] for command, options in ran if command == "fit"]
    file = tmp_path / "0" / "cot" / "rows.jsonl"
    learned = len(CoT(str(file)).tasks("train"))
    assert 0 < learned <= 40
    generated, embedded = sources
    assert generated == f"{{class_path: CoT, init_args: {{path: {file}}}}}"
    assert f"solve: {learned}, code: 0, check: 0, copies: 0, drills: 0" in embedded


def test_figures_of_verifiers_have_intervals_and_paired_differences(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = {"plain model": verdicts(2), "SFT": verdicts(3)}
    ways = (compare_verifier.figures, compare_verifier.differences)
    comparing.show({0: rows, 5: rows}, [("plain model", "SFT")], *ways)
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("seed")] == ["seed 0", "seed 5", "seeds 0, 5"]
    plain, sft, difference = lines[-3:]
    assert plain.startswith("plain model            balanced 50.0 [")
    assert "right 50.0, wrong 50.0, 8 samples" in plain
    assert "balanced 75.0 [" in sft
    assert "right 100.0, wrong 50.0, 8 samples" in sft
    assert difference.startswith("SFT - plain model: +25.0 [")
    assert difference.endswith(", n = 4 problems")


def test_teacher_writes_until_it_has_as_many_tokens(tmp_path: Path) -> None:
    records = [
        Record(
            id=str(n),
            sample=0,
            problem=f"{n} + 1?",
            gold=str(n + 1),
            events=(TurnEvent(reply=f"{n}+1={n + 1}\n#### {n + 1}", tokens=10),),
        )
        for n in range(9)
    ]
    assert compare_distillation.write_texts(records, 25, tmp_path / "texts.jsonl") == 30
    lines = (tmp_path / "texts.jsonl").read_text().splitlines()
    assert [json.loads(line)["question"] for line in lines] == ["0 + 1?", "1 + 1?", "2 + 1?"]
    tasks = CoT(str(tmp_path / "texts.jsonl"), validation=0.0).tasks("train")
    assert [task.solution for task in tasks] == [f"{n}+1={n + 1}\n#### {n + 1}" for n in range(3)]
