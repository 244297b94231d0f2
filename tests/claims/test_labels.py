"""The words of a claim that stand for something: names, agents, controls, twins, clusters. Each is
confirmed by what is inside, and so is every other leaf of claim.json.
"""

from __future__ import annotations

import copy
import io
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from claims.claimed import ABOUT, TASKS, N, checked, claimed, overlap, solves, written
from claims.test_design import of_training, with_arms
from evaluation.one_by_one import OneByOne, run
from rich.console import Console

from slm_math.agents import SingleShot
from slm_math.claims.archive import json_bytes
from slm_math.claims.check import Checked, check_members
from slm_math.claims.figures import Design, claim_members, described
from slm_math.claims.frozen import FrozenRun, frozen, named, runs_of
from slm_math.data.twins import as_twin
from slm_math.evaluation.compare import mcnemar
from slm_math.types import Problem, Task


def with_twins(folder: Path, know: int = 8) -> FrozenRun:
    """A run that knows 8 of 12 answers by heart, and solves 3 of 12 twins."""
    twins = [
        as_twin(Task(Problem("", f"What is {n} + 70?"), str(n + 70)), task.problem)
        for n, task in enumerate(TASKS)
    ]
    run(folder / "one", OneByOne(solves(lambda n: n < know)), SingleShot(), TASKS, **ABOUT)
    engine = OneByOne(lambda request: rf"\boxed{{{_number(request) + 70}}}" if _number(request) < 3
                      else r"\boxed{0}")  # fmt: skip
    run(folder / "one.twins", engine, SingleShot(), twins, identity={"twins": True}, **ABOUT)
    [found] = runs_of([str(folder / "one")])
    return found


def _number(request: Any) -> int:
    return int(request.key[-3].rpartition("/")[2].removesuffix("~twin"))


def test_names_are_those_of_the_manifests_whatever_folders_are_called_now(tmp_path: Path) -> None:
    first = runs_of([str(tmp_path / "a" / one.agent) for one in claimed(tmp_path / "a")])
    assert [one.name for one in first] == ["weak", "strong", "checked"]
    shutil.move(tmp_path / "a" / "weak", tmp_path / "a" / "best")
    moved = runs_of([str(tmp_path / "a" / name) for name in ("best", "strong", "checked")])
    assert [(one.name, one.agent) for one in moved] == [
        ("weak", "weak"), ("strong", "strong"), ("checked", "checked")
    ]  # fmt: skip


def test_runs_of_one_name_are_told_apart_by_their_place(tmp_path: Path) -> None:
    one, other, _ = claimed(tmp_path)
    manifest = json.loads(other.manifest)
    manifest["folder"] = json.loads(one.manifest)["folder"]
    same = named([one, replace(other, manifest=json.dumps(manifest).encode())])
    assert [each.name for each in same] == ["weak (run 1)", "weak (run 2)"]


def test_a_manifest_without_a_folder_is_called_by_its_agents_class(tmp_path: Path) -> None:
    [one, *_] = claimed(tmp_path)
    manifest = json.loads(one.manifest)
    del manifest["folder"]
    [found] = named([replace(one, manifest=json.dumps(manifest).encode())])
    assert (found.name, found.agent) == ("SingleShot", "SingleShot")


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all values that hold no others; an empty list or object is one."""
    if isinstance(value, dict | list) and value:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            yield from leaves(item, (*path, key))
    else:
        yield path


def other(value: Any) -> Any:
    """Another value of the same kind, as a forger would choose it."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, str):
        return value + "x"
    return "x" if value is None else [*value, "x"] if isinstance(value, list) else {"x": 1}


def everything(folder: Path) -> list[tuple[str, dict[str, bytes]]]:
    """Claims that together have all that a claim may have."""
    twins, arms = with_twins(folder / "twins"), with_arms(folder / "arms")
    seeds = []
    for name in ("a0", "a1", "b0", "b1"):
        place = folder / "seeds" / name / "agent"
        engine = OneByOne(solves(lambda n, name=name: n % (2 + "a0a1b0".find(name)) == 0))
        run(place, engine, SingleShot(), TASKS, seed=int(name[1]), **ABOUT)
        seeds.append(str(place))
    compared = claimed(folder / "compared")
    compared[0] = replace(compared[0], overlap=overlap())
    return [
        ("compared", claim_members(compared)),
        ("clustered", claim_members([twins], Design(cluster="level"))),
        ("arms", claim_members([arms])),
        ("seeds", claim_members(runs_of(seeds), Design(over="seeds"))),
    ]


def test_every_leaf_of_a_claim_is_confirmed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at = 0
    for name, members in everything(tmp_path):
        assert checked(written(tmp_path / "c.zip", members)).moved == []
        claim, runs = (
            json.loads(members["claim.json"]),
            frozen(members, {"runs": [0] * _runs(members)}),
        )
        compute = cache(lambda design, runs=runs, members=members: described(runs, design, members))
        with monkeypatch.context() as patch:  # the members are the same in all of these
            patch.setattr("slm_math.claims.check._check_run", lambda *args: None)
            patch.setattr(
                "slm_math.claims.check.described", lambda _, design, __, c=compute: c(design)
            )
            for path in leaves(claim):
                forged = copy.deepcopy(claim)
                inside = forged
                for key in path[:-1]:
                    inside = inside[key]
                inside[path[-1]] = other(inside[path[-1]])
                result, console = Checked(), Console(file=io.StringIO())
                tampered = members | {"claim.json": json_bytes(forged)}
                check_members(tampered, forged, runs, checked=result, console=console)
                assert result.moved, f"{name}: {path} is not confirmed"
                looked_at += 1
    assert looked_at > 400


def _runs(members: Mapping[str, bytes]) -> int:
    return len({name.split("/")[1] for name in members if name.startswith("runs/")})


def test_twins_are_claimed_and_the_gap_is_computed_again(tmp_path: Path) -> None:
    members = claim_members([with_twins(tmp_path)])
    gap = json.loads(members["claim.json"])["runs"][0]["twins"]
    # 8 of 12 problems, 3 of 12 twins: 5 problems are right and their twins wrong, none the reverse
    assert (gap["difference"], gap["p"]) == pytest.approx((5 / N, mcnemar(5, 0)))
    found = checked(written(tmp_path / "c.zip", members))
    assert found.moved == []
    assert found.counts["verdicts"] == 2 * N
    assert any(
        line.startswith("one, unseen twins of its problems: 66.7 % right, on twins 25.0 %, "
                        "memorization gap +41.7")
        for line in found.statement
    )  # fmt: skip


def test_twins_left_out_or_graded_otherwise_are_caught(tmp_path: Path) -> None:
    one = with_twins(tmp_path)
    members = claim_members([one])
    without = {name: data for name, data in members.items() if "twins" not in name}
    assert checked(written(tmp_path / "c.zip", without)).moved
    twins = one.controls["twins"]
    right = replace(twins.records[5], correct=True, reason="equal", lenient=True)
    records = [*twins.records[:5], right, *twins.records[6:]]
    forged = replace(one, controls={"twins": replace(twins, records=records)})
    lines = checked(written(tmp_path / "c.zip", claim_members([forged]))).moved
    assert any(line.startswith("one, twins, problem") for line in lines)


def test_a_blind_control_cannot_pass_for_twins(tmp_path: Path) -> None:
    one = with_twins(tmp_path)
    with pytest.raises(ValueError, match=r"does not say identity\.blank_images"):
        claim_members([replace(one, controls={"blind": one.controls["twins"]})])


def _stating(run: FrozenRun, **about: Any) -> FrozenRun:
    manifest = json.loads(run.manifest)
    manifest["about"] |= about
    return replace(run, manifest=json.dumps(manifest).encode())


def test_an_arm_of_another_name_run_or_time_is_refused(tmp_path: Path) -> None:
    one = with_arms(tmp_path)
    arm = one.controls["random_reward"]
    for name, control, words in (
        ("shuffled_gold", arm, "is the control arm shuffled_gold of this run"),
        ("random_reward", _stating(arm, control={"arm": "random_reward", "run": "b"}), "this run"),
        ("random_reward", _stating(arm, batches=20), "after 20 batches, and the run after 60"),
    ):
        with pytest.raises(ValueError, match=words):
            claim_members([replace(one, controls={name: control})])


def test_a_control_of_another_model_is_refused(tmp_path: Path) -> None:
    one = with_twins(tmp_path)
    manifest = json.loads(one.controls["twins"].manifest)
    manifest["identity"]["engines"]["default"]["model"] = "larger"
    other_model = replace(one.controls["twins"], manifest=json.dumps(manifest).encode())
    with pytest.raises(ValueError, match=r"engines\.default\.model of its manifest"):
        claim_members([replace(one, controls={"twins": other_model})])


@pytest.mark.parametrize(
    "odd", [{"environment": []}, {"environment": None}, {"about": {"batches": [1]}}, {"about": 1}]
)
def test_a_manifest_of_another_shape_is_named(tmp_path: Path, odd: dict[str, Any]) -> None:
    members = claim_members(claimed(tmp_path)[:1])
    manifest = json.loads(members["runs/1/manifest.json"]) | odd
    forged = members | {"runs/1/manifest.json": json.dumps(manifest).encode()}
    [line] = checked(written(tmp_path / "c.zip", forged)).moved
    assert line.startswith("runs/1/manifest.json: it")


@pytest.mark.parametrize("unread", [52, -1, "x", True])
def test_a_file_of_which_rows_could_not_be_read_is_no_claim(tmp_path: Path, unread: Any) -> None:
    members = claim_members(claimed(tmp_path)[:1])
    manifest = json.loads(members["runs/1/manifest.json"])
    manifest["about"]["unread"] = unread
    forged = members | {"runs/1/manifest.json": json_bytes(manifest)}
    [line] = checked(written(tmp_path / "c.zip", forged)).moved
    assert "rows of its file could not be read and are missing" in line


def test_before_training_nothing_is_a_control_arm(tmp_path: Path) -> None:
    place = Path("eval") / "start" / "single"
    for arm in (".", "controls/random_reward"):
        engine = OneByOne(solves(lambda n: n % 2 == 0))
        run(tmp_path / arm / place, engine, SingleShot(), TASKS, **of_training(arm, batches=0))
    members = claim_members(runs_of([str(tmp_path / place)]))
    claim = json.loads(members["claim.json"])
    assert claim["runs"][0]["controls"] == {}
    assert any(
        line.startswith("single before training: 50.0 % right") for line in claim["statement"]
    )
    said = "no control, since it is of a time before training, as its manifest says: single"
    assert said in claim["statement"]


def test_instances_of_templates_are_units_of_a_claim_by_themselves(tmp_path: Path) -> None:
    tasks = [
        Task(Problem(f"p/{n}", f"What is {n} + 7?", tags={"template": str(n // 4)}), str(n + 7))
        for n in range(N)
    ]
    run(tmp_path / "one", OneByOne(solves(lambda n: n < 5)), SingleShot(), tasks, **ABOUT)
    runs = runs_of([str(tmp_path / "one")])
    by_template, alone = (
        json.loads(claim_members(runs, design)["claim.json"])
        for design in (Design(), Design(cluster="problem"))
    )
    assert "12 problems in 3 clusters by template" in by_template["statement"][0]
    assert by_template["runs"][0]["units"] == 3
    assert alone["runs"][0]["units"] == 12
    assert by_template["runs"][0]["low"] < alone["runs"][0]["low"]
