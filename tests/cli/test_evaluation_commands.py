"""`slm-math eval`: who serves whom, which problems, what the manifest says, and Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import tiny
from cases import some
from cli.evaluating import (
    LONG,
    ONE,
    SHORT,
    Said,
    ask,
    gsm8k,
    manifest,
    math500,
    ours,
    rows,
)

from slm_math.engines.base import Request
from slm_math.engines.checkpoint import CheckpointEngine
from slm_math.engines.transformers import TransformersEngine
from slm_math.types import Sampling, user

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folders = [tmp_path_factory.mktemp(f"model{seed}") for seed in (0, 1)]
    return [str(tiny.model_folder(folder, seed)) for seed, folder in enumerate(folders)]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Said:
    monkeypatch.setenv("COLUMNS", "200")
    return partial(ask, capsys)


def test_each_role_is_served_by_its_engine(
    models: list[str], data: Path, tmp_path: Path, said: Said
) -> None:
    engines = [
        f"--engines.{role}={{class_path: slm_math.engines.checkpoint.CheckpointEngine, init_args: "
        f"{{path: {path}}}}}"
        for role, path in zip(("solver", "judge"), models)
    ]
    options = ["--agents={two: {class_path: tiny.Duo}}", *SHORT, *engines, "--limit=3"]
    assert said("eval", gsm8k(data), *options, f"--out={tmp_path}")[0] == 0
    identity = manifest(tmp_path, "two")["identity"]["engines"]
    assert [identity[role]["path"] for role in ("solver", "judge")] == models
    assert len({identity[role]["weights"] for role in ("solver", "judge")}) == 2
    for row in rows(tmp_path, "two"):
        said_by = {event["role"]: event["reply"] for event in row["events"]}
        for role, path in zip(("solver", "judge"), models):
            engine = CheckpointEngine(path)
            engine.submit(Request(user(row["problem"]), Sampling(0.0, max_new_tokens=4)))
            [(_, reply)] = engine.poll(timeout=60)
            assert said_by[role] == reply.text


def test_engine_of_a_role_that_nobody_has_is_refused(
    models: list[str], data: Path, tmp_path: Path, said: Said
) -> None:
    engine = (
        f"{{class_path: slm_math.engines.checkpoint.CheckpointEngine, init_args: {{path: "
        f"{models[0]}}}}}"
    )
    out = tmp_path / "out"
    common = ["eval", gsm8k(data), ONE, f"--out={out}"]
    status, _, error = said(*common, f"--policy={models[0]}", f"--engines.verifier={engine}")
    assert status == 2
    assert "verifier" in error
    assert "solver" in error
    status, _, error = said(*common, "--policy=null")
    assert (status, "nothing serves solver" in error) == (2, True)
    assert not out.exists()


def test_subset_by_tags_and_order(
    models: list[str], data: Path, tmp_path: Path, said: Said
) -> None:
    common = ["eval", math500(data), ONE, *SHORT, f"--policy={models[0]}"]
    some = ["--where={level: [4, 5], subject: Algebra}", "--by=level"]
    status, shown, _ = said(*common, *some, f"--out={tmp_path / 'a'}")
    assert status == 0
    # of 0, ..., 19 the even ones are algebra, and those with 3 or 4 over after division by five of
    # level 4 or 5
    assert sorted(int(row["gold"]) for row in rows(tmp_path / "a")) == [4, 8, 14, 18]
    assert "one by level" in shown
    said(*common, "--shuffle=5", "--limit=6", f"--out={tmp_path / 'b'}")
    said(*common, "--shuffle=6", "--limit=6", f"--out={tmp_path / 'c'}")
    assert len(rows(tmp_path / "b")) == 6
    assert {row["id"] for row in rows(tmp_path / "b")} != {
        row["id"] for row in rows(tmp_path / "c")
    }
    status, _, error = said(*common, "--where={levl: 4}", f"--out={tmp_path / 'd'}")
    assert (status, "no problem has such a tag" in error) == (2, True)


def test_shots_are_of_the_training_split(
    models: list[str], data: Path, tmp_path: Path, said: Said
) -> None:
    status, _, error = said(
        "eval",
        gsm8k(data),
        ONE,
        *SHORT,
        f"--policy={models[0]}",
        "--shots=2",
        "--limit=3",
        f"--out={tmp_path}",
    )
    assert (status, ours(error)) == (0, "")
    for row in rows(tmp_path):
        prompt = row["events"][0]["prompt"]
        assert [message["role"] for message in prompt] == ["user", "assistant"] * 2 + ["user"]
        for asked, told in zip(prompt[:-1:2], prompt[1::2]):
            assert asked["content"].startswith("train: ")
            number = int(asked["content"].split()[1])
            assert f"\\boxed{{{2 * number}}}" in told["content"]
        assert prompt[-1]["content"] == row["problem"]


def test_manifest_says_what_ran(models: list[str], data: Path, tmp_path: Path, said: Said) -> None:
    options = [
        *SHORT,
        "--chat_template=plain",
        "--samples=2",
        "--seed=7",
        "--limit=5",
        "--split=validation",
    ]
    assert (
        said("eval", gsm8k(data), ONE, *options, f"--policy={models[0]}", f"--out={tmp_path}")[0]
        == 0
    )
    found = manifest(tmp_path)
    identity, environment, about = found["identity"], found["environment"], found["about"]
    n = identity["problems"]
    assert (identity["samples"], identity["seed"], found["records"]) == (2, 7, 2 * n)
    assert identity["sampling"]["default"]["max_new_tokens"] == 4
    engine = identity["engines"]["default"]
    assert (engine["path"], engine["chat_template"], engine["dtype"]) == (
        models[0],
        "plain",
        "torch.float32",
    )
    assert engine["weights"]
    assert "revision" in engine
    assert len(identity["data"]) == 16
    assert (about["source"], about["split"]) == ("gsm8k", "validation")
    config = about["configuration"]
    assert config["limit"] == 5
    assert config["source"]["init_args"]["path"] == str(data)
    assert config["agents"]["one"]["init_args"]["prompt"] == "solve_plain"
    assert {"shuffle", "where", "shots", "inference", "sandbox", "engines", "dtype"} <= set(config)
    assert environment["versions"]["torch"] == version("torch")
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    assert (environment["commit"] or "").removesuffix(" with changes") == head
    assert {"python", "machine", "processor", "memory_gb", "gpus", "cores", "grader"} <= set(
        environment
    )
    assert found["started"] <= found["finished"]


def test_changed_option_is_refused_by_its_name(
    models: list[str], data: Path, tmp_path: Path, said: Said
) -> None:
    common = ["eval", gsm8k(data), ONE, *SHORT, f"--out={tmp_path}", "--limit=2"]
    assert said(*common, f"--policy={models[0]}")[0] == 0
    for change, key in (
        ("--seed=3", "seed"),
        ("--samples=2", "samples"),
        ("--chat_template=plain", "chat_template"),
    ):
        status, _, error = said(*common, f"--policy={models[0]}", change)
        assert (status, key in error) == (2, True)
    status, _, error = said(*common, f"--policy={models[1]}")
    assert (status, "engines.default.weights" in error) == (2, True)
    # speed is no other evaluation
    status, _, error = said(*common, f"--policy={models[0]}", "--slots=2")
    assert (status, ours(error)) == (0, "")


def command(model: str, data: Path, out: Path) -> list[str]:
    return ["eval", gsm8k(data), ONE, *LONG, f"--policy={model}", f"--out={out}"]


def saved(out: Path) -> int:
    """How many records are written."""
    file = out / "one" / "records.jsonl"
    return file.read_bytes().count(b"\n") if file.is_file() else 0


def interrupted_here(arguments: list[str], out: Path, said: Said) -> tuple[int, str, str]:
    """The signal comes while the model decodes, after two records."""
    poll, sent = TransformersEngine.poll, []

    def polled(engine: TransformersEngine, timeout: float = 0.0) -> Any:
        if not sent and saved(out) >= 2:
            sent.append(True)
            signal.raise_signal(signal.SIGINT)
        return poll(engine, timeout)

    # a background job of a shell would be deaf to it
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(TransformersEngine, "poll", polled)
            patch.setenv("COLUMNS", "200")
            return said(*arguments)
    finally:
        signal.signal(signal.SIGINT, before)


def interrupted_process(arguments: list[str], out: Path, said: Said) -> tuple[int, str, str]:
    """The signal comes from another process, whenever two records are there."""
    process = subprocess.Popen(
        [sys.executable, "-m", "slm_math", *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        # a background job of a shell would be deaf to it
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=out.parent,
    )
    try:
        while process.poll() is None and saved(out) < 2:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        shown, error = process.communicate(timeout=200)
    finally:
        process.kill()
    assert error.count("Interrupted. ") == 1
    return process.returncode, shown, error


@pytest.mark.timeout(280)
@pytest.mark.parametrize(
    "interrupted_by", some((interrupted_here, interrupted_process), [interrupted_here])
)
def test_interrupt_leaves_a_partial_result_that_a_rerun_completes(
    interrupted_by: Any, models: list[str], data: Path, tmp_path: Path, said: Said
) -> None:
    out = tmp_path / "out"
    file = out / "one" / "records.jsonl"
    status, shown, error = interrupted_by(command(models[0], data, out), out, said)
    assert status == 130, error
    done = len(rows(out))
    assert 2 <= done < 12
    assert "(interrupted)" in shown
    assert f"n = {done} of 12 (partial)" in shown
    assert "Traceback" not in error
    assert ours(error) == ""
    summary = json.loads((out / "one" / "summary.json").read_text())
    assert (manifest(out)["partial"], summary["partial"], summary["n"]) == (True, True, done)
    before = file.read_bytes()
    assert said("results", out)[1].count("partial") >= 1
    status, shown, _ = said(*command(models[0], data, out))
    assert (status, "partial" in shown, "n = 12" in shown) == (0, False, True)
    assert file.read_bytes().startswith(before)
    assert (manifest(out)["partial"], len(rows(out))) == (False, 12)


TWO = "--agents={a: slm_math.agents.SingleShot, b: slm_math.agents.SingleShot}"
AT_ONCE = [TWO, "--policy=null", "--engines.default=tiny.Endpoint"]


def test_interrupt_beside_the_folder_of_a_killed_run(
    data: Path, tmp_path: Path, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["eval", gsm8k(data), *AT_ONCE, f"--out={tmp_path}"]
    assert said(*command)[0] == 0
    (tmp_path / "a" / "records.jsonl").write_text("")
    (tmp_path / "b" / "summary.json").unlink()  # a kill leaves none
    monkeypatch.setattr(tiny.Endpoint, "poll", interrupted)
    monkeypatch.setattr(tiny.Endpoint, "cancel", lambda self, ticket: None)
    assert said(*command)[0] == 130


def test_interrupt_before_the_first_file_of_records_is_open(
    data: Path, tmp_path: Path, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slm_math.records.files.environment", interrupted)
    assert said("eval", gsm8k(data), *AT_ONCE, f"--out={tmp_path}")[0] == 130


def interrupted(*arguments: Any, **options: Any) -> Any:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "option",
    [
        "--slots=0",
        "--shots=-1",
        "--samples=0",
        "--limit=-1",
        "--limit=0",
    ],
)
def test_number_that_means_nothing_is_refused(
    option: str, models: list[str], data: Path, tmp_path: Path, said: Said
) -> None:
    out = tmp_path / "out"
    status, _, error = said(
        "eval", gsm8k(data), ONE, f"--policy={models[0]}", option, f"--out={out}"
    )
    assert status == 2
    assert option.strip("-").partition("=")[0] in error
    assert not out.exists()
