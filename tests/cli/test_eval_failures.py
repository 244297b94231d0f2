"""`slm-math eval` where something goes wrong: what it says, what it leaves, how it exits."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import tiny
import torch
from cli.evaluating import ONE, SHORT, Said, ask, gsm8k, manifest, ours, rows
from engines.endpoint import ChatServer, completion
from safetensors.torch import load_file, save_file

Script = Callable[[int, dict], tuple]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.model_folder(tmp_path_factory.mktemp("model"), 0)


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Said:
    monkeypatch.setenv("COLUMNS", "80")
    return partial(ask, capsys)


@pytest.fixture
def served() -> Iterator[Callable[..., str]]:
    """Starts a chat server with a script, and gives the option that names it as an engine."""
    servers: list[ChatServer] = []

    def start(script: Script, **options: object) -> str:
        servers.append(ChatServer(script))
        init = {"base_url": servers[-1].url, "model": "m", "retries": 0, **options}
        return "--engines=" + json.dumps(
            {"default": {"class_path": "OpenAIEngine", "init_args": init}}
        )

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def summary(out: Path, agent: str = "one") -> dict:
    return json.loads((out / agent / "summary.json").read_text())


def test_a_misspelled_template_leaves_nothing_and_is_named(
    model: Path, data: Path, tmp_path: Path, said: Said
) -> None:
    command = ["eval", gsm8k(data), ONE, *SHORT, "--limit=2", f"--model={model}"]
    status, _, error = said(*command, f"--out={tmp_path / 'out'}", "--chat_template=plane")
    assert status == 2
    assert ours(error) == (
        "slm-math: error: chat_template plane is neither a file nor one of chatml, plain\n"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (["--chat_template=plain"], "chat_template plain has no variables: remove"),
        ([], "chat_template_kwargs: the chat template of {model} does not use enable_thinking"),
    ],
)
def test_variables_that_the_template_does_not_use_are_refused(
    model: Path, data: Path, tmp_path: Path, said: Said, template: list[str], reason: str
) -> None:
    command = ["eval", gsm8k(data), ONE, *SHORT, "--limit=2", f"--model={model}", *template]
    variables = '--chat_template_kwargs={"enable_thinking": false}'
    status, _, error = said(*command, f"--out={tmp_path / 'out'}", variables)
    assert (status, reason.format(model=model) in error) == (2, True)


def test_a_template_that_fails_does_not_block_the_next_command(
    model: Path, data: Path, tmp_path: Path, said: Said
) -> None:
    wrong = tmp_path / "wrong.jinja"
    wrong.write_text("{% for m in messages %}")
    out = tmp_path / "out"
    command = ["eval", gsm8k(data), ONE, *SHORT, "--limit=2", f"--model={model}", f"--out={out}"]
    status, _, error = said(*command, f"--chat_template={wrong}")
    assert status == 2
    assert f"chat template {wrong}, line 1: Unexpected end of template" in ours(error)
    assert said(*command)[0] == 0
    assert len(rows(out)) == 2


def test_a_broken_workflow_is_an_exit_status_until_it_is_tried_again(
    data: Path, tmp_path: Path, said: Said, served: Callable[..., str]
) -> None:
    def script(number: int, _: dict) -> tuple:
        if number == 1:
            return 418, {"error": "no coffee"}, {}
        return 200, completion(r"\boxed{2}"), {}

    command = ["eval", gsm8k(data), ONE, "--limit=3", served(script), f"--out={tmp_path}"]
    status, shown, _ = said(*command)
    assert status == 1
    assert "1 broken" in shown
    assert "one: 1 workflows failed" in shown
    assert len((tmp_path / "one" / "records.jsonl").read_text().splitlines()) == 3
    status, shown, _ = said(*command)
    assert status == 0
    assert ", 1 broken" not in shown
    assert len((tmp_path / "one" / "records.jsonl").read_text().splitlines()) == 3
    assert [row["error"] for row in rows(tmp_path)] == [None] * 3


def test_an_agent_whose_programs_never_run_says_so(
    data: Path, tmp_path: Path, said: Said, served: Callable[..., str]
) -> None:
    tools = "--agents={tools: PythonTools, one: SingleShot}"
    engine = served(lambda *_: (200, completion(r"\boxed{2}"), {}))
    status, shown, _ = said("eval", gsm8k(data), tools, "--limit=3", engine, f"--out={tmp_path}")
    line = (
        "no program ran in any of 3 samples, although this agent can run programs: the model "
        "wrote none"
    )
    assert status == 0
    assert f"warning: tools: {line}" in " ".join(shown.split())
    assert "warning: one" not in shown
    assert summary(tmp_path, "tools")["warnings"] == [line]
    assert summary(tmp_path, "one")["warnings"] == []
    _, shown, _ = said("results", tmp_path)
    assert f"warning: tools: {line}" in " ".join(shown.split())


def test_programs_that_a_reply_holds_but_that_did_not_run_are_counted(
    data: Path, tmp_path: Path, said: Said, served: Callable[..., str]
) -> None:
    held = completion("```python\nprint(1)\n```\nSo it is \\boxed{1}.")
    engine = served(lambda *_: (200, held, {}))
    tools = "--agents.tools=PythonTools"
    said("eval", gsm8k(data), tools, "--limit=2", engine, f"--out={tmp_path}")
    [line] = summary(tmp_path, "tools")["warnings"]
    assert "in 2 of them the model wrote one" in line


def lengthy(folder: Path, long: int) -> str:
    """Six problems, of which the first `long` have 600 words."""
    folder.mkdir()
    lines = [
        {"question": f"{i} and {i}" + " or so" * (300 if i < long else 1) + "?", "answer": "#### 2"}
        for i in range(6)
    ]
    (folder / "test.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return f"--source={{class_path: GSM8K, init_args: {{path: {folder}}}}}"


def test_problems_that_do_not_fit_are_skipped_and_counted(
    model: Path, tmp_path: Path, said: Said
) -> None:
    out = tmp_path / "out"
    source = lengthy(tmp_path / "long", 2)
    command = ["eval", source, ONE, *SHORT, f"--model={model}", f"--out={out}"]
    status, shown, _ = said(*command)
    assert status == 0
    assert ", 2 skipped" in shown
    assert "broken" not in shown
    [line] = summary(out)["warnings"]
    assert line.startswith("2 of 6 problems do not fit into the model's context: they were skipped")
    assert "context holds" in line
    assert summary(out)["n"] == 6  # they count as incorrect
    assert [row.get("skipped", False) for row in sorted(rows(out), key=lambda row: row["id"])] == [
        True, True, False, False, False, False,
    ]  # fmt: skip
    before = (out / "one" / "records.jsonl").read_bytes()
    assert said(*command)[0] == 0
    assert (out / "one" / "records.jsonl").read_bytes() == before  # not tried again


def test_if_no_problem_fits_nothing_was_evaluated(model: Path, tmp_path: Path, said: Said) -> None:
    source, out = lengthy(tmp_path / "long", 6), tmp_path / "out"
    assert said("eval", source, ONE, *SHORT, f"--model={model}", f"--out={out}")[0] == 1


@pytest.mark.parametrize(
    ("message", "skipped"),
    [
        ("This model's maximum context length is 512 tokens. However, your messages resulted in "
         "604 tokens.", 3),
        ("the request exceeds the available context size, try increasing it", 3),
        ("'max_tokens' is too large: 900. This model's maximum context length is 512 tokens", 0),
        ("no such model", 0),
    ],
)  # fmt: skip
def test_an_endpoint_says_that_a_problem_does_not_fit(
    data: Path, tmp_path: Path, said: Said, served: Callable[..., str], message: str, skipped: int
) -> None:
    engine = served(lambda *_: (400, {"error": {"message": message}}, {}))
    said("eval", gsm8k(data), ONE, "--limit=3", engine, f"--out={tmp_path}")
    counted = summary(tmp_path)
    assert (counted["skipped"], counted["errors"]) == (skipped, 3 - skipped)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_model_that_computes_no_numbers_is_an_error_and_nothing_is_scored(
    model: Path, data: Path, tmp_path: Path, said: Said, dtype: str
) -> None:
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for file in model.iterdir():
        (damaged / file.name).write_bytes(file.read_bytes())
    weights = load_file(damaged / "model.safetensors")
    for name in (name for name in weights if "mlp" in name):
        weights[name] = torch.full_like(weights[name], 3e38)  # finite, but not their products
    save_file(weights, damaged / "model.safetensors", {"format": "pt"})
    command = ["eval", gsm8k(data), ONE, *SHORT, "--limit=3", f"--out={tmp_path / 'out'}"]
    status, shown, error = said(*command, f"--model={damaged}", f"--dtype={dtype}")
    assert status not in (0, None)
    assert "computes logits that are no numbers" in ours(error)
    assert str(damaged) in ours(error)
    assert dtype in ours(error)
    assert "Traceback" not in error
    assert "%" not in shown
    assert rows(tmp_path / "out") == []
    assert said(*command, f"--model={model}", f"--dtype={dtype}")[0] == 0


def test_records_know_the_prompt_that_was_rendered(
    model: Path, data: Path, tmp_path: Path, said: Said
) -> None:
    for name in ("chatml", "plain"):
        command = ["eval", gsm8k(data), ONE, *SHORT, "--limit=2", f"--model={model}"]
        assert said(*command, f"--out={tmp_path / name}", f"--chat_template={name}")[0] == 0
    hashes = [
        event["prompt_hash"]
        for name in ("chatml", "plain")
        for row in rows(tmp_path / name)
        for event in row["events"]
        if event["kind"] == "turn"
    ]
    assert len(set(hashes)) == 4
    engine = manifest(tmp_path / "plain")["identity"]["engines"]["default"]
    assert engine["template_date"] == "2024-07-26"


def test_an_agent_that_cannot_take_the_problems_is_named_before_a_model_is_loaded(
    model: Path, data: Path, tmp_path: Path, said: Said
) -> None:
    agents = "--agents={one: {class_path: Judge}, two: {class_path: SingleShot}}"
    out = tmp_path / "out"
    status, _, error = said("eval", gsm8k(data), agents, *SHORT, f"--model={model}", f"--out={out}")
    assert status == 2
    assert ours(error).startswith("slm-math: error: agent one: problem gsm8k/")
    assert "has no draft to judge" in ours(error)
    assert not out.exists()
