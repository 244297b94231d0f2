"""What `slm-math download` fetches: models and data sets that configs name."""

import sys
from pathlib import Path
from typing import Any

import pytest
from cli.configs import CONFIGS

from slm_math.cli import run


def test_download_fetches_what_configs_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fetched: list[str] = []

    def snapshot(name: str, **options: Any) -> str:
        fetched.append(name)
        if name == "no/model":
            raise OSError("the hub is away")
        return "/cache/" + name

    def file(repo: str, name: str, **options: Any) -> str:
        fetched.append(f"{repo}/{name}")
        return "/cache/" + name

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", file)
    files = (
        f"[{CONFIGS / 'sft/full.yaml'}, {CONFIGS / 'eval/gsm8k.yaml'}, "
        f"{CONFIGS / 'quickstart/grpo.yaml'}]"
    )
    run(["download", f"--config={files}"])
    models = ["Qwen/Qwen2.5-Math-1.5B", "Qwen/Qwen2.5-Math-1.5B-Instruct"]
    assert [name for name in fetched if "gsm8k" not in name] == models
    assert any("gsm8k" in name for name in fetched)
    with pytest.raises(SystemExit) as stop:
        run(["download", "--models=[no/model, a/b]"])
    assert stop.value.code == 1
    assert "no/model" in capsys.readouterr().err
    assert fetched[-1] == "a/b"


MODELS = {
    "a teacher": ("model: {teacher: {path: me/teacher, dtype: bfloat16}}", ["me/teacher"]),
    "a teacher for each role": (
        "model: {teacher: {path: {solver: me/one, verifier: me/two}}}",
        ["me/one", "me/two"],
    ),
    "the tokenizer of servers": (
        "model: {teacher: {path: me/teacher, servers: ['http://localhost:1']}}",
        ["me/teacher"],
    ),
    "a policy itself": ("model: {policy: {path: me/a}, teacher: {itself: now}}", ["me/a"]),
    "frozen roles": ("model: {frozen: {verifier: me/frozen, judge: base}}", ["me/frozen"]),
    "adapters of roles": (
        "model: {policy: {path: {solver: me/one, verifier: me/two}}}",
        ["me/one", "me/two"],
    ),
    "servers": (
        "engines: {judge: {class_path: VLLMServers, urls: ['http://h:1'], path: me/served}}",
        ["me/served"],
    ),
    "servers of roles": (
        "engines: {default: {class_path: slm_math.engines.vllm_servers.VLLMServers, init_args: "
        "{path: {solver: me/one, verifier: me/two}}}}",
        ["me/one", "me/two"],
    ),
    "an endpoint": (
        "model: me/a\nengines: {judge: {class_path: OpenAIEngine, init_args: {model: org/far}}}",
        ["me/a"],
    ),
    "a batch endpoint": (
        "model: me/a\nengines: {judge: {class_path: OpenAIBatches, init_args: {model: org/far}}}",
        ["me/a"],
    ),
    "an agent called teacher": (
        "model: me/a\nagents: {teacher: {class_path: SingleShot, prompt: my/prompt.txt}}",
        ["me/a"],
    ),
}


@pytest.mark.parametrize("kind", MODELS)
def test_download_fetches_the_models_of_every_place(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[str] = []
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download", lambda name, **_: fetched.append(name) or "/cache"
    )
    config, models = MODELS[kind]
    (tmp_path / "a.yaml").write_text(config)
    run(["download", f"--config={tmp_path / 'a.yaml'}"])
    assert fetched == models


OWN = """
from slm_math.data.base import Source
from slm_math.data.files import HubFile


class Mine(Source):
    name = "mine"

    def __init__(self, revision: str = "main"):
        self.revision = revision

    def hub_files(self):
        return [HubFile("me/mine", "test.jsonl", self.revision)]
"""


@pytest.mark.parametrize(
    "config",
    [
        "data: {class_path: ProblemData, source: my_set.Mine}",
        "source: {class_path: my_set.Mine, revision: v2}\nwhere: {source: amc}",
        "shots_source: my_set.Mine\nsource: {class_path: Arithmetic, train: 4}",
        "trainer: {callbacks: [{class_path: AgentEval, sources: {x: my_set.Mine, y: GSM8K}}]}",
    ],
)
def test_download_fetches_the_files_of_ones_own_data_set(
    config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[str] = []

    def file(repo: str, name: str, **options: Any) -> str:
        fetched.append(f"{repo}/{name}@{options['revision']}")
        return "/cache/" + name

    monkeypatch.setattr("huggingface_hub.hf_hub_download", file)
    (tmp_path / "my_set.py").write_text(OWN)
    (tmp_path / "a.yaml").write_text(config)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        run(["download", f"--config={tmp_path / 'a.yaml'}"])
    finally:
        sys.modules.pop("my_set", None)
    assert f"me/mine/test.jsonl@{'v2' if 'v2' in config else 'main'}" in fetched
    assert any("gsm8k" in name for name in fetched) == ("GSM8K" in config)
