"""The ladder's driver: what runs, what is skipped, what is repeated, and how a step fails."""

from __future__ import annotations

import copy
import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from ladder.driver import StepFailed, locked
from scripts.climbing import CONTENT, Ladder

from slm_math.evaluation.runs import evaluation_folders
from slm_math.stopping import stoppable

EVERY = ["base", "tuned", "base", "tuned", "pair"]  # two steps, three rows


@pytest.fixture
def ladder(tmp_path: Path) -> Ladder:
    return Ladder(tmp_path, copy.deepcopy(CONTENT))


def options(ladder: Ladder, step: str) -> dict:
    return ladder.content["profiles"]["embedded"]["steps"][step]["options"]


def test_steps_run_once_behind_their_inputs(ladder: Ladder) -> None:
    steps = ladder.climb()
    assert ladder.calls() == EVERY
    assert list(steps.done) == ["base", "tuned", "toy-base", "toy-tuned", "toy-pair"]
    ladder.climb()
    assert ladder.calls() == []


def test_changed_options_repeat_a_step_and_all_that_reads_it(ladder: Ladder) -> None:
    ladder.climb()
    ladder.calls()
    options(ladder, "tuned")["lr"] = 1
    ladder.climb()
    assert ladder.calls() == ["tuned", "tuned", "pair"]
    replaced = sorted(path.parent.name for path in (ladder.out / "replaced").glob("*/1"))
    assert replaced == ["toy-pair", "toy-tuned", "tuned"]
    aside = ladder.out / "replaced/toy-pair/1"
    assert "\ntuned: made again: other command; the old one is in " in ladder.shown
    assert f"toy-pair: made again: other inputs; the old one is in {aside}\n" in ladder.shown


@pytest.mark.slow
def test_changed_seed_repeats_everything(ladder: Ladder) -> None:
    ladder.climb()
    ladder.calls()
    ladder.climb(seed=1)
    assert ladder.calls() == EVERY


def test_limit_repeats_only_the_rows(ladder: Ladder) -> None:
    ladder.climb()
    ladder.calls()
    ladder.climb(limit=2)
    assert ladder.calls() == EVERY[2:]


def test_changed_config_file_repeats_its_steps(
    ladder: Ladder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "own.yaml"
    config.write_text("a: 1")
    ladder.content["profiles"]["embedded"]["steps"]["tuned"]["config"] = [str(config)]
    ladder.climb()
    ladder.calls()
    config.write_text("a: 2")
    ladder.climb()
    assert ladder.calls()[0] == "tuned"
    assert "tuned: made again: other config files" in ladder.shown


def test_removed_model_is_made_again_and_nothing_else_if_it_is_the_same(ladder: Ladder) -> None:
    ladder.climb()
    ladder.calls()
    (ladder.out / "train/base/export/model.safetensors").unlink()
    ladder.climb()
    assert ladder.calls() == ["base"]


def test_changed_model_is_made_again(ladder: Ladder) -> None:
    ladder.climb()
    ladder.calls()
    (ladder.out / "train/tuned/export/model.safetensors").write_text("another one")
    ladder.climb()
    assert ladder.calls() == ["tuned"]


@pytest.mark.parametrize("damage", ["removed", "changed", "broken"])
def test_changed_records_are_made_again(ladder: Ladder, damage: str) -> None:
    ladder.climb()
    ladder.calls()
    file = ladder.out / "toy/tuned/records.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    if damage == "removed":
        rows = rows[:-1]
    elif damage == "changed":
        rows[0]["correct"] = not rows[0]["correct"]
    else:
        rows[0]["error"] = "the sandbox ended"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    ladder.climb()
    assert ladder.calls() == ["tuned"]


def test_other_times_in_records_are_no_change(ladder: Ladder) -> None:
    ladder.climb()
    ladder.calls()
    file = ladder.out / "toy/tuned/records.jsonl"
    rows = [json.loads(line) | {"seconds": 9.0} for line in file.read_text().splitlines()]
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    ladder.climb()
    assert ladder.calls() == []


def test_failed_step_names_itself_its_log_and_its_command(ladder: Ladder) -> None:
    (ladder.folder / "fail-tuned").touch()
    with pytest.raises(StepFailed) as failure:
        ladder.climb()
    log = ladder.out / "logs" / "tuned.log"
    command = next(step for step in ladder.plan().steps if step.name == "tuned").shown()
    assert "step tuned ended with status 3: it went wrong" in str(failure.value)
    assert str(log) in str(failure.value)
    assert command in str(failure.value)
    assert log.read_text() == f"$ {command}\nit went wrong\n"


def test_ladder_goes_on_at_the_failed_step_in_its_folder(ladder: Ladder) -> None:
    (ladder.folder / "fail-tuned").touch()
    with pytest.raises(StepFailed):
        ladder.climb()
    ladder.calls()
    (ladder.folder / "fail-tuned").unlink()
    ladder.climb()
    assert ladder.calls() == EVERY[1:]
    assert not (ladder.out / "replaced").exists()
    assert "tuned: resumed" in ladder.shown


def test_step_without_a_result_is_tried_afresh_and_then_fails(ladder: Ladder) -> None:
    (ladder.folder / "empty-tuned").touch()
    with pytest.raises(StepFailed, match="step tuned left no whole result"):
        ladder.climb()
    assert ladder.calls() == ["base", "tuned", "tuned"]
    assert (ladder.out / "replaced/tuned/1/begun").exists()


def test_folder_of_another_ladder_is_set_aside(ladder: Ladder) -> None:
    foreign = ladder.out / "train/base/export/model.safetensors"
    foreign.parent.mkdir(parents=True)
    foreign.write_text("somebody's")
    ladder.climb()
    [kept] = (ladder.out / "replaced").rglob("model.safetensors")
    assert kept.read_text() == "somebody's"


@pytest.mark.slow
def test_two_at_once_give_the_same_results(tmp_path: Path) -> None:
    results = []
    for jobs in (1, 2):
        content = copy.deepcopy(CONTENT)
        content["profiles"]["embedded"]["jobs"] = jobs
        folder = tmp_path / str(jobs)
        folder.mkdir()
        # the arguments name the folder of the ladder, of which the stand-in's results depend
        (tmp_path / "now").unlink(missing_ok=True)
        (tmp_path / "now").symlink_to(folder)
        done = Ladder(tmp_path / "now", content).climb().done
        results.append({name: each.result for name, each in done.items()})
    assert results[0] == results[1]


def test_signal_stops_the_steps_and_the_next_run_resumes(ladder: Ladder) -> None:
    waits = ladder.folder / "wait-tuned"
    waits.touch()

    def interrupt() -> None:
        while not (ladder.out / "train/tuned/begun").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt), stoppable():
        ladder.climb()
    assert "stopping tuned" in ladder.shown
    waits.unlink()
    ladder.calls()
    ladder.climb()
    assert ladder.calls() == EVERY[1:]


def test_options_in_the_environment_reach_no_step(
    ladder: Ladder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLM_MATH_FIT__TRAINER__MAX_EPOCHS", "7")
    program = ladder.folder / "program.py"
    program.write_text(
        program.read_text() + "\nassert not any(n.startswith('SLM_MATH_FIT') for n in os.environ)"
    )
    ladder.climb()


def test_what_was_replaced_is_in_no_report(ladder: Ladder) -> None:
    ladder.climb()
    ladder.climb(limit=1)
    assert list(evaluation_folders(ladder.out)) == ["toy/base", "toy/pair", "toy/tuned"]


def test_second_driver_is_refused(tmp_path: Path) -> None:
    with (
        locked(tmp_path),
        pytest.raises(ValueError, match=f"in use by process {os.getpid()} on"),
        locked(tmp_path),
    ):
        pass
    with locked(tmp_path):
        pass


def test_progress_names_the_running_step_and_the_time_left(ladder: Ladder) -> None:
    ladder.climb()
    assert "step 2 of 5: tuned (log: " in ladder.shown
    assert "1 of 5 steps done" in ladder.shown
    assert "about 0 min" in ladder.shown
