"""Claims with clusters, over seeds, and with the control arms of a training run."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from claims.claimed import ABOUT, TASKS, changed, checked, runs_in, solves, written
from evaluation.one_by_one import OneByOne, run

from slm_math.agents import SingleShot
from slm_math.claims.archive import json_bytes
from slm_math.claims.command import claim
from slm_math.claims.figures import Design, claim_members
from slm_math.claims.frozen import FrozenRun, runs_of
from slm_math.evaluation.clusters import by_cluster
from slm_math.evaluation.compare import compare
from slm_math.metrics.columns import Samples
from slm_math.metrics.summary import summarize

Members = dict[str, bytes]


def claimed(members: Members) -> dict[str, Any]:
    return json.loads(members["claim.json"])


def edited(members: Members, change: Callable[[dict[str, Any]], Any]) -> Members:
    data = claimed(members)
    change(data)
    return members | {"claim.json": json_bytes(data)}


def test_clusters_are_the_units_of_a_claim(tmp_path: Path) -> None:
    runs = runs_of(runs_in(tmp_path)[:2])
    members = claim_members(runs, Design(cluster="level"))
    data = claimed(members)
    samples = [by_cluster(Samples.of(one.records), "level") for one in runs]
    [expected] = compare({"a": samples[0], "b": samples[1]})
    [found] = data["comparisons"]
    assert (found["low"], found["p"]) == pytest.approx((expected.low, expected.p))
    assert found["test"] == "sign-flip permutation by level"
    assert data["runs"][0]["units"] == 2
    assert data["runs"][0]["low"] == pytest.approx(summarize(samples[0], tags=False).low)
    assert data["runs"][0]["low"] != pytest.approx(summarize(runs[0].records, tags=False).low)
    assert "12 problems in 2 clusters by level" in data["statement"][0]
    assert checked(written(tmp_path / "c.zip", members)).moved == []


def over_seeds(folder: Path) -> list[FrozenRun]:
    folders = []
    for name, seed, every in (("a", 0, 3), ("a", 1, 4), ("b", 0, 2), ("b", 1, 2)):
        place = folder / f"{name}{seed}" / "agent"
        engine = OneByOne(solves(lambda n, every=every, seed=seed: n % every == seed % every))
        run(place, engine, SingleShot(), TASKS, seed=seed, **ABOUT)
        folders.append(str(place))
    return runs_of(folders)


def test_a_claim_over_seeds_is_about_the_method(tmp_path: Path) -> None:
    members = claim_members(over_seeds(tmp_path), Design(over="seeds"))
    data = claimed(members)
    one = data["over_seeds"]
    # 4 and 3 of 12 against 6 and 6
    assert one["differences"] == pytest.approx([2 / 12, 3 / 12])
    assert data["comparisons"] == []
    assert any("the method (b0/agent, b1/agent) against its baseline" in s
               for s in data["statement"])  # fmt: skip
    assert any(s.startswith("t-test over seeds: p = ") for s in data["statement"])
    assert checked(written(tmp_path / "c.zip", members)).moved == []


OVER_SEEDS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "difference": lambda c: c["over_seeds"].update(difference=0.5),
    "interval": lambda c: c["over_seeds"].update(over_both=[0.1, 0.2]),
    "a seed": lambda c: c["over_seeds"]["differences"].pop(),
    "no seeds": lambda c: c["design"].update(over=None),
    "p": lambda c: c["over_seeds"].update(p=0.001),
}


@pytest.mark.parametrize("name", OVER_SEEDS)
def test_a_changed_claim_over_seeds_is_caught(tmp_path: Path, name: str) -> None:
    members = claim_members(over_seeds(tmp_path), Design(over="seeds"))
    assert checked(written(tmp_path / "c.zip", edited(members, OVER_SEEDS[name]))).moved


def of_training(arm: str, batches: int = 60) -> dict[str, Any]:
    """What an evaluation of a training run, or of a control arm of it, says besides its plan."""
    name = Path(arm).name
    control = {"control": {"arm": name, "run": "a"}} if name else {}
    trained = {"run": name or "a", "batches": batches, **control}
    return {"about": ABOUT["about"] | trained, "identity": {"weights": name}}


def with_arms(folder: Path) -> FrozenRun:
    """A training run's last evaluation, with those of two control arms beside it."""
    place = Path("eval") / "epoch-2" / "single"
    arms = {".": 2, "controls/random_reward": 3, "controls/format_only": 4}
    for arm, every in arms.items():
        engine = OneByOne(solves(lambda n, every=every: n % every == 0))
        run(folder / "run" / arm / place, engine, SingleShot(), TASKS, **of_training(arm))
    [found] = runs_of([str(folder / "run" / place)])
    return found


def test_control_arms_of_a_training_run_are_part_of_its_claim(tmp_path: Path) -> None:
    members = claim_members([with_arms(tmp_path)])
    data = claimed(members)
    assert list(data["runs"][0]["controls"]) == ["format_only", "random_reward"]
    found = data["runs"][0]["controls"]["random_reward"]
    assert found["difference"] == pytest.approx(6 / 12 - 4 / 12)
    assert any("control random_reward (trained without" in s for s in data["statement"])
    assert not any("no control:" in s for s in data["statement"])
    result = checked(written(tmp_path / "c.zip", members))
    assert result.moved == []
    assert result.counts["verdicts"] == 3 * 12


ARM = "runs/1/controls/random_reward"
ARMS: dict[str, Callable[[Members], Members]] = {
    "gain": lambda m: edited(
        m, lambda c: c["runs"][0]["controls"]["random_reward"].update(difference=0.5)
    ),
    "left out": lambda m: {n: d for n, d in m.items() if not n.startswith(ARM)},
    "left out, and in the figures": lambda m: edited(
        {n: d for n, d in m.items() if not n.startswith(ARM)},
        lambda c: c["runs"][0]["controls"].pop("random_reward"),
    ),
    "of another name": lambda m: {n.replace("random_reward", "noise"): d for n, d in m.items()},
    "exchanged": lambda m: m | {
        f"{ARM}/records.jsonl.gz": m["runs/1/controls/format_only/records.jsonl.gz"]
    },
    "without manifest": lambda m: {n: d for n, d in m.items() if n != f"{ARM}/manifest.json"},
}  # fmt: skip


@pytest.mark.parametrize("name", ARMS)
def test_a_changed_arm_is_caught(tmp_path: Path, name: str) -> None:
    members = claim_members([with_arms(tmp_path)])
    assert checked(written(tmp_path / "c.zip", ARMS[name](copy.deepcopy(members)))).moved


def test_an_arm_that_was_made_worse_is_caught_although_all_figures_fit(tmp_path: Path) -> None:
    one = with_arms(tmp_path)
    arm = one.controls["random_reward"]
    assert arm.records[0].correct
    worse = changed(arm, 0, lambda r: replace(r, correct=False, reason="different"))
    forged = replace(one, controls=dict(one.controls) | {"random_reward": worse})
    found = checked(written(tmp_path / "c.zip", claim_members([forged])))
    assert any("random_reward, problem" in line for line in found.moved)


def test_the_command_takes_clusters_and_seeds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = runs_in(tmp_path)[:2]
    claim(folders, out=str(tmp_path / "c.zip"), cluster="level")
    assert "clusters by level" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(ValueError, match="no problem has a tag size"):
        claim(folders, out=str(tmp_path / "d.zip"), cluster="size")
    with pytest.raises(ValueError, match="at least four, got 2"):
        claim(folders, out=str(tmp_path / "d.zip"), over="seeds")
    assert not (tmp_path / "d.zip").exists()
