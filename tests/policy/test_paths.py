"""Paths of models: resolved, or named as what they are."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from tiny import LORA, model_folder

from slm_math.engines.checkpoint import CheckpointEngine
from slm_math.policy.chat import ChatFormat
from slm_math.policy.config import Policy
from slm_math.policy.export import export_policy
from slm_math.policy.loading import load_model, load_tokenizer


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a model in `zoo/base` and an adapter of it in `zoo/adapter`."""
    home = tmp_path_factory.mktemp("home")
    base = model_folder(home / "zoo" / "base")
    policy = Policy(path=str(base), lora=LORA)
    export_policy(policy.load(), policy.chat(), home / "zoo" / "adapter")
    return home


@pytest.fixture(autouse=True)
def home(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(made))
    return made


def based_on(home: Path, base: str) -> str:
    file = home / "zoo" / "adapter" / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": base}))
    return str(home / "zoo" / "adapter")


USES: dict[str, Callable[[str], Any]] = {
    "policy": lambda path: Policy(path=path).load(),
    "engine": lambda path: CheckpointEngine(path)._load(),
    "model": load_model,
    "tokenizer": load_tokenizer,
}


@pytest.mark.parametrize("path", ["~/zoo/base", "~/zoo/adapter"])
@pytest.mark.parametrize("use", USES)
def test_home_in_a_path_is_resolved(use: str, path: str, home: Path) -> None:
    based_on(home, "~/zoo/base")
    USES[use](path)


@pytest.mark.parametrize(
    ("base", "place"), [("zoo/base", "."), ("../base", "zoo"), ("../base", ".")]
)
def test_relative_base_is_found_from_here_or_from_the_adapter(
    base: str, place: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home / place)
    path = based_on(home, base)
    Policy(path=path).load()
    load_model(path)


@pytest.mark.parametrize("base", ["./gone", "/gone/base", "a/b/c", "zoo/gone", "~/gone"])
@pytest.mark.parametrize("make", [lambda path: Policy(path=path), CheckpointEngine])
def test_base_that_does_not_exist_is_named_as_a_folder(
    base: str, make: Callable[[str], Any], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    with pytest.raises(ValueError, match=r"the base of adapter .*gone|a/b/c") as caught:
        make(based_on(home, base))
    assert "does not exist" in str(caught.value)
    assert "hub" not in str(caught.value)


def test_new_adapter_names_its_base_without_the_home(home: Path, tmp_path: Path) -> None:
    policy = Policy(path="~/zoo/base", lora=LORA)
    export_policy(policy.load(), policy.chat(), tmp_path / "export")
    config = json.loads((tmp_path / "export" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(home / "zoo" / "base")


def test_continued_adapter_names_the_base_that_was_found(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = Policy(path=based_on(home, "../base"))
    export_policy(policy.load(), policy.chat(), tmp_path / "export")
    load_model(str(tmp_path / "export"))


def test_template_may_be_in_the_home(home: Path) -> None:
    text = "{% for m in messages %}<{{ m.content }}>{{ eos_token }}{% endfor %}@"
    (home / "mine.jinja").write_text(text.replace("@", "{{ '@' if add_generation_prompt }}"))
    for chat in (
        Policy(path="~/zoo/base", chat_template="~/mine.jinja").chat(),
        ChatFormat(load_tokenizer("~/zoo/base"), "~/mine.jinja"),
    ):
        assert chat.tokenizer.chat_template.startswith("{% for")
    CheckpointEngine("~/zoo/base", chat_template="~/mine.jinja").identity()


def test_name_that_may_be_of_the_hub_is_named_as_a_folder_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"there is no folder models/base in .*, and as a hub"):
        load_model("models/base")
