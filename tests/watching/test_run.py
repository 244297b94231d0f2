"""What a page is told of a run: curves, groups, problems, evaluations; each byte is read once."""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path
from typing import Any

import pytest
from report.runs import HOSTILE
from report.test_page import check_inert
from watching.made import evaluation, lines, run, sample

from slm_math.metrics.intervals import wilson
from slm_math.watching.run import WatchedRun
from slm_math.watching.steps import Steps

LOG = "epoch,step,train/loss,train/reward,eval/a/accuracy,eval/a/low,eval/a/high\n"


def batch(epoch: int, number: int, *rewards: list[float]) -> bytes:
    """A batch of a group for each list of rewards."""
    return lines(
        epoch,
        number,
        [
            sample(f"p/{problem}", place, right=reward > 0, reward=reward)
            for problem, group in enumerate(rewards)
            for place, reward in enumerate(group)
        ],
    )


def told(watched: WatchedRun, last: dict[str, Any] | None = None) -> dict[str, Any]:
    known = {name: str(last[name]) for name in ("generation", "revision")} if last else {}
    return watched.state(known | ({"rows": str(last["count"])} if last else {}))


def test_the_reward_of_a_step_is_the_mean_of_its_groups_with_students_interval(
    tmp_path: Path,
) -> None:
    groups = [[1.0, 0.0], [1.0, 1.0], [0.0, 0.0, 0.0, 1.0]]
    watched = WatchedRun(run(tmp_path, batch(0, 0, *groups)))
    [step] = told(watched)["steps"]
    means = [0.5, 1.0, 0.25]
    half = 4.302652730 * statistics.stdev(means) / math.sqrt(3)  # t of 2 degrees of freedom
    mean = sum(means) / 3
    assert step["rewards"]["solver"] == pytest.approx((mean, mean - half, mean + half))
    assert (step["groups"], step["samples"], step["right"]) == (3, 8, 4)


def test_only_what_is_new_is_told_and_read(tmp_path: Path) -> None:
    root = run(tmp_path, batch(0, 0, [1.0, 0.0]), log=LOG + "0,0,2.5,0.5,,,\n")
    watched = WatchedRun(root)
    first = told(watched)
    assert len(first["steps"]) == 1
    assert first["rows"] == [[1, {"train/loss": 2.5, "train/reward": 0.5}]]
    with (root / "rollouts.jsonl").open("ab") as file:
        file.write(new := batch(0, 1, [1.0, 1.0]))
    with (root / "logs" / "version_0" / "metrics.csv").open("a") as file:
        file.write("0,1,nan,0.5,,,\n0,1,,,0.75,0.5,0.9\n")
    read = watched.steps.bytes_read
    second = told(watched, first)
    assert [(step["batch"], step["place"]) for step in second["steps"]] == [(1, 2)]
    assert second["rows"][0] == [2, {"train/loss": None, "train/reward": 0.5}]
    assert second["rows"][1][1] == {"eval/a/accuracy": 0.75, "eval/a/low": 0.5, "eval/a/high": 0.9}
    assert watched.steps.bytes_read - read == len(new) + 64
    third = told(watched, second)
    assert (third["steps"], third["rows"]) == ([], [])


def test_another_page_costs_no_reading(tmp_path: Path) -> None:
    batches = [batch(0, number, [1.0, 0.0]) for number in range(20)]
    root = run(tmp_path, *batches, log=LOG + "0,0,1,1,,,\n")
    watched = WatchedRun(root)
    first = told(watched)
    read = watched.steps.bytes_read, watched.curves.bytes_read
    assert read[0] == (root / "rollouts.jsonl").stat().st_size
    assert told(watched) == first
    assert (watched.steps.bytes_read, watched.curves.bytes_read) == read


def test_a_resumed_run_drops_the_steps_that_it_repeats(tmp_path: Path) -> None:
    log = LOG + "0,0,1,1,,,\n0,1,2,1,,,\n"
    root = run(tmp_path, batch(0, 0, [1.0]), batch(0, 1, [1.0]), log=log)
    watched = WatchedRun(root)
    first = told(watched)
    (root / "new").write_bytes(batch(0, 0, [1.0]) + batch(0, 1, [0.0]))
    (root / "new").replace(root / "rollouts.jsonl")
    folder = root / "logs" / "version_1"
    folder.mkdir()
    (folder / "metrics.csv").write_text("epoch,step,train/loss\n0,1,7\n")
    second = told(watched, first)
    assert second["generation"] != first["generation"]
    assert [step["right"] for step in second["steps"]] == [1, 0]
    assert [(step, values["train/loss"]) for step, values in second["rows"]] == [(1, 1.0), (2, 7.0)]


def test_a_session_that_begins_with_a_validation_keeps_the_step_before_it(tmp_path: Path) -> None:
    root = run(tmp_path, log="epoch,step,train/loss,val/loss\n0,0,3,\n0,1,2,\n")
    folder = root / "logs" / "version_1"
    folder.mkdir()
    (folder / "metrics.csv").write_text("epoch,step,train/loss,val/loss\n0,1,,5\n1,2,1,\n")
    rows = told(WatchedRun(root))["rows"]
    assert [values for _, values in rows] == [
        {"train/loss": 3.0},
        {"train/loss": 2.0},
        {"val/loss": 5.0},
        {"train/loss": 1.0},
    ]


def test_ranks_and_roles_are_one_run(tmp_path: Path) -> None:
    root = run(tmp_path, batch(0, 0, [1.0, 0.0]))
    other = [sample("q/1", place, role="judge", reward=2.0) for place in range(2)]
    (root / "rollouts.rank-1.jsonl").write_bytes(lines(0, 0, other))
    [step] = told(WatchedRun(root))["steps"]
    assert (step["groups"], step["samples"]) == (2, 4)
    assert step["rewards"]["judge"][0] == 2.0


def test_groups_have_problem_gold_answers_rewards_and_advantages(tmp_path: Path) -> None:
    watched = WatchedRun(run(tmp_path, batch(0, 0, [1.0, 0.0], [0.0]), batch(2, 1, [1.0])))
    told(watched)
    first, second = watched.step({"epoch": "0", "batch": "0"})["groups"]
    assert (first["id"], first["gold"], first["rewards"]) == ("p/0", "4", {"solver": 0.5})
    assert [one["answer"] for one in first["samples"]] == ["4", "5"]
    assert [one["advantages"]["solver"] for one in first["samples"]] == [0.5, -0.5]
    assert second["group"] == 1
    problem = watched.problem({"number": "0"})
    assert [(group["epoch"], group["batch"]) for group in problem["groups"]] == [(0, 0), (2, 1)]
    rows = watched.problems({"q": "p/1"})["rows"]
    assert [(row["id"], row["times"], row["samples"]) for row in rows] == [("p/1", 1, 1)]


@pytest.mark.parametrize(
    "asked", [{}, {"epoch": "-1", "batch": "0"}, {"epoch": "../..", "batch": "0"}]
)
def test_numbers_are_numbers(asked: dict[str, str], tmp_path: Path) -> None:
    watched = WatchedRun(run(tmp_path, batch(0, 0, [1.0])))
    with pytest.raises(ValueError, match="is a number"):
        watched.step(asked)
    with pytest.raises(KeyError):
        watched.step({"epoch": "9", "batch": "0"})
    with pytest.raises(KeyError):
        watched.transcript({"epoch": "0", "batch": "0", "group": "0", "number": "5"})


def test_an_evaluation_under_way_counts_what_there_is(tmp_path: Path) -> None:
    samples = [sample(f"e/{number}", right=number < 3) for number in range(4)]
    root = run(tmp_path, batch(0, 0, [1.0]))
    ends = {"accuracy": 0.5, "low": 0.25, "high": 0.75, "n": 4}
    evaluation(root / "eval" / "epoch-0" / "a", samples, ends)
    evaluation(root / "eval" / "epoch-1" / "a", samples, None)
    watched = WatchedRun(root)
    done, partial = told(watched)["evaluations"]
    assert (done["name"], done["partial"]) == ("epoch-0/a", False)
    assert done["accuracy"] == [0.5, 0.25, 0.75]
    assert partial["accuracy"] == pytest.approx((0.75, *wilson(3, 4)))
    again = sample("e/0", right=False)  # a sample that was run again
    with (root / "eval" / "epoch-1" / "a" / "records.jsonl").open("ab") as file:
        file.write(json.dumps(json.loads(lines(0, 0, [again]))).encode() + b"\n")
    partial = told(watched)["evaluations"][1]
    assert (partial["done"], partial["accuracy"][0]) == (4, 0.5)
    wrong = watched.evaluation({"name": "epoch-1/a", "filter": "wrong"})
    assert [row["id"] for row in wrong["rows"]] == ["e/0", "e/3"]
    for name in ("epoch-9/a", "../epoch-0/a", "/etc", ""):
        with pytest.raises(KeyError):
            watched.evaluation({"name": name})
    with pytest.raises(KeyError):
        watched.evaluation({"name": "epoch-1/a", "filter": "else"})


def test_hostile_text_is_text(tmp_path: Path) -> None:
    texts = dict.fromkeys(("reply", "problem", "gold", "answer", "error"), HOSTILE)
    hostile = sample(HOSTILE, tags={HOSTILE: HOSTILE}, **texts)
    watched = WatchedRun(run(tmp_path, lines(0, 0, [hostile])))
    told(watched)
    place = {"epoch": "0", "batch": "0", "group": "0", "number": "0"}
    check_inert(watched.transcript(place)["html"])
    data = json.dumps(watched.step(place), ensure_ascii=False)
    assert "\x1b" not in data
    assert "\u202e" not in data


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no training run"):
        WatchedRun(tmp_path)
    with pytest.raises(ValueError, match="not a folder"):
        WatchedRun(tmp_path / "else")


def test_lines_that_are_no_rollouts_are_left_out(tmp_path: Path) -> None:
    root = run(tmp_path, b"nonsense\n", batch(0, 0, [1.0]), b"{}\n\n")
    steps = Steps(root)
    while steps.poll():
        pass
    assert len(steps.problems) == 1
