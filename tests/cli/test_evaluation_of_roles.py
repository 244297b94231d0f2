"""`slm-math eval --model` of several roles: one base, an adapter each."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from cli.evaluating import ONE, SHORT, Said, ask, gsm8k, manifest, ours, rows

from slm_math.engines import checkpoint
from slm_math.engines.base import Request
from slm_math.engines.checkpoint import CheckpointEngine
from slm_math.policy.config import Lora, Policy
from slm_math.policy.export import export_policy
from slm_math.types import Sampling, user

ROLES = ("solver", "judge")
TWO = "--agents={two: {class_path: tiny.Duo}}"


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two bases, the export of two roles on one of them, and an adapter of the other."""
    root = tmp_path_factory.mktemp("zoo")
    for name, seed in (("model", 0), ("other", 1)):
        tiny.model_folder(root / name, seed)
    for base, folder, roles in (("model", "pair", ROLES), ("other", "stranger", ("solver",))):
        policy = Policy(path=str(root / base), lora=Lora(r=2, dropout=0.0))
        torch.manual_seed(4)
        loaded = policy.load(roles)
        with torch.no_grad():
            for parameter in loaded.parameters():
                parameter += 0.3 * torch.randn_like(parameter)
        export_policy(loaded, policy.chat(), root / folder)
    return root


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Said:
    monkeypatch.setenv("COLUMNS", "200")
    return partial(ask, capsys)


def alone(path: Path, problem: str) -> str:
    """The greedy reply of one adapter, or of the base, in an engine of its own."""
    engine = CheckpointEngine(str(path))
    engine.submit(Request(user(problem), Sampling(0.0, max_new_tokens=4)))
    [(_, reply)] = engine.poll(timeout=60)
    assert not isinstance(reply, Exception)
    return reply.text


@pytest.mark.parametrize("kind", ["folder", "mapping", "with the base"])
def test_each_role_is_served_by_its_adapter_and_the_base_is_loaded_once(
    kind: str,
    zoo: Path,
    data: Path,
    tmp_path: Path,
    said: Said,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loads: list[str] = []
    load = checkpoint.load_model
    monkeypatch.setattr(
        checkpoint, "load_model", lambda *a, **o: loads.append(a[0]) or load(*a, **o)
    )
    paths = {role: zoo / "pair" / role for role in ROLES}
    if kind == "with the base":
        paths["judge"] = zoo / "model"
    written = ", ".join(f"{role}: {path}" for role, path in paths.items())
    model = str(zoo / "pair") if kind == "folder" else f"{{{written}}}"
    out = tmp_path / "out"
    assert (
        said("eval", gsm8k(data), TWO, *SHORT, "--limit=3", f"--model={model}", f"--out={out}")[0]
        == 0
    )
    assert loads == [str(zoo / "model")]
    engine = manifest(out, "two")["identity"]["engines"]["default"]
    assert engine["path"] == {role: str(path) for role, path in sorted(paths.items())}
    assert engine["weights"]["solver"] != engine["weights"]["judge"]
    for row in rows(out, "two"):
        found = {event["role"]: event["reply"] for event in row["events"]}
        assert found == {role: alone(path, row["problem"]) for role, path in paths.items()}


def test_of_a_pair_one_role_may_be_evaluated(
    zoo: Path, data: Path, tmp_path: Path, said: Said
) -> None:
    out = tmp_path / "out"
    common = ["eval", gsm8k(data), ONE, *SHORT, "--limit=2", f"--out={out}"]
    assert said(*common, f"--model={zoo / 'pair'}")[0] == 0
    engine = manifest(out)["identity"]["engines"]["default"]
    assert engine["path"] == {"solver": str(zoo / "pair" / "solver")}


WRONG: dict[str, tuple[Any, str, str]] = {
    "a role without": (
        "{{solver: {zoo}/pair/solver}}",
        TWO,
        "nothing serves judge: add judge: ADA",
    ),
    "an unknown role": (
        "{{solver: {zoo}/pair/solver, judge: {zoo}/model, jugde: {zoo}/pair/judge}}",
        TWO,
        "--model names jugde; the agents' roles are judge, solver",
    ),
    "another base": (
        "{{solver: {zoo}/stranger, judge: {zoo}/pair/judge}}",
        TWO,
        "--model names models of two bases",
    ),
    "no folder": ("{{solver: ./gone, judge: {zoo}/model}}", TWO, "./gone does not exist"),
    "no mapping": ("{{}}", TWO, "--model names no role"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_models_that_cannot_serve_the_roles_are_refused(
    kind: str, zoo: Path, data: Path, tmp_path: Path, said: Said
) -> None:
    model, agents, message = WRONG[kind]
    out = tmp_path / "out"
    model = f"--model={model.format(zoo=zoo)}"
    status, _, error = said("eval", gsm8k(data), agents, *SHORT, model, f"--out={out}")
    assert status == 2
    assert message in ours(error)
    assert len(ours(error).strip().splitlines()) == 1
    assert not out.exists()


def test_role_of_a_model_and_of_an_engine_is_refused(zoo: Path, data: Path, said: Said) -> None:
    model = f"--model={{solver: {zoo}/pair/solver, judge: {zoo}/pair/judge}}"
    engine = f"--engines={{judge: {{class_path: CheckpointEngine, path: {zoo}/model}}}}"
    status, _, error = said("eval", gsm8k(data), TWO, *SHORT, model, engine, "--out=gone")
    assert status == 2
    assert "--model and --engines.judge both serve judge: remove it from one" in ours(error)


def test_engine_of_all_other_roles_serves_those_without_a_model(
    zoo: Path, data: Path, tmp_path: Path, said: Said
) -> None:
    out = tmp_path / "out"
    options = (f"--model={{judge: {zoo}/pair/judge}}", "--engines.default=tiny.Endpoint")
    status, _, error = said("eval", gsm8k(data), TWO, *SHORT, "--limit=2", *options, f"--out={out}")
    assert status == 0, error
    for row in rows(out, "two"):
        found = {event["role"]: event["reply"] for event in row["events"]}
        assert found == {"solver": "yes", "judge": alone(zoo / "pair/judge", row["problem"])}


@pytest.mark.parametrize("model", ["model", "pair/judge", "pair"])
@pytest.mark.parametrize("role", ["default", "solver"])
def test_model_beside_an_engine_that_serves_all_roles_is_refused(
    model: str, role: str, zoo: Path, data: Path, said: Said
) -> None:
    if (model, role) == ("pair", "default"):
        pytest.skip("it names its roles, which it serves")
    options = (f"--model={zoo / model}", f"--engines.{role}=tiny.Endpoint", "--out=gone")
    status, _, error = said("eval", gsm8k(data), ONE, *SHORT, *options)
    assert status == 2
    assert f"--model {zoo / model}" in ours(error)
    assert "remove one of them" in ours(error)
    assert len(ours(error).strip().splitlines()) == 1


def test_unknown_role_of_an_export_is_refused(
    zoo: Path, data: Path, tmp_path: Path, said: Said
) -> None:
    """Of a run with one trained and one frozen role, which were the solver's alone before."""
    policy = Policy(path=str(zoo / "model"), lora=Lora(r=2))
    export_policy(policy.load(frozen={"critic": "base"}), policy.chat(), tmp_path / "export")
    options = (f"--model={tmp_path / 'export'}", "--out=gone")
    status, _, error = said("eval", gsm8k(data), TWO, *SHORT, *options)
    assert status == 2
    assert "names solver, critic, and nothing serves judge" in ours(error)


def test_roles_of_an_engine_are_decoded_side_by_side(zoo: Path) -> None:
    """Requests of both roles in one engine: each is answered by its adapter, canceled ones never,
    whatever is under way beside them.
    """
    engine = CheckpointEngine(str(zoo / "pair"), slots=4)
    asked = [
        Request(user(f"{n} + {n}"), Sampling(0.0, max_new_tokens=4 + n), role=ROLES[n % 2])
        for n in range(6)
    ]
    tickets = [engine.submit(request) for request in asked]
    engine.cancel(tickets[4])
    assert len(set(tickets)) == 6
    found: dict[int, Any] = {}
    while engine.busy:
        found |= dict(engine.poll())
    assert set(found) == {*tickets} - {tickets[4]}
    for ticket, request in zip(tickets, asked):
        one = CheckpointEngine(str(zoo / "pair" / request.role))
        one.submit(request)
        [(_, reply)] = one.poll(60)
        if ticket in found:
            assert found[ticket].token_ids == reply.token_ids
