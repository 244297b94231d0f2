"""What llama.cpp's server makes of a GGUF file, against what the policy made of the chats; the
server is one that answers from a table.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slm_math.exports import llama
from slm_math.exports.llama import replies_agree, with_llama

CASE = {
    "messages": [{"role": "user", "content": "1 + 1?"}],
    "text": "<user>1 + 1?<end>",
    "ids": [7, 8, 9],
    "reply": [5, 6, 2],  # 2 ends a turn
    "logprobs": [-0.5, -0.25, -0.125],
}
PLAIN: dict[str, Any] = {"variables": {}, "before": ""}


def place(id: int, logprob: float, **others: float) -> dict[str, Any]:
    known = [{"id": int(name[1:]), "logprob": value} for name, value in others.items()]
    return {
        "id": id,
        "logprob": logprob,
        "top_logprobs": [{"id": id, "logprob": logprob}, *known],
    }


def answers(**changed: Any) -> dict[str, Any]:
    return {
        "apply-template": {"prompt": CASE["text"]},
        "tokenize": {"tokens": CASE["ids"]},
        "completion": {
            "tokens": [5, 6],
            "stop_type": "eos",
            "completion_probabilities": [place(5, -0.5), place(6, -0.2501)],
        },
    } | changed


def completed(*places: dict[str, Any], stop: str = "eos") -> dict[str, Any]:
    tokens = [each["id"] for each in places]
    return {
        "completion": {
            "tokens": tokens,
            "stop_type": stop,
            "completion_probabilities": list(places),
        }
    }


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Says what the server answers."""
    server = tmp_path / "llama-server"
    server.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    class Serving:
        def __init__(self, *arguments: Any) -> None: ...
        def __enter__(self) -> str:
            return "http://127.0.0.1:1"

        def __exit__(self, *error: object) -> None: ...

    def say(table: dict[str, Any]) -> None:
        monkeypatch.setattr(llama, "_serving", Serving)
        monkeypatch.setattr(llama, "_ask", lambda url, path, body: table[path])

    return say


def certificate(**template: Any) -> dict[str, Any]:
    return {
        "parts": {"": {"cases": [CASE]}},
        "template": PLAIN | template,
        "passed": True,
        "problems": [],
    }


def test_what_agrees_passes_with_its_largest_difference(serve: Any, tmp_path: Path) -> None:
    serve(answers())
    said = replies_agree(tmp_path, certificate(), "f32")
    assert said.startswith("passed: 2 log-probabilities, the largest difference 1.0e-04 nats (at")


def test_two_tokens_that_are_equally_likely_may_part(serve: Any, tmp_path: Path) -> None:
    serve(answers(**completed(place(5, -0.5), place(3, -0.2499, t6=-0.2501), stop="limit")))
    assert replies_agree(tmp_path, certificate(), "f32").startswith("passed: 1 log-prob")


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"apply-template": {"prompt": "<user>1 + 1?"}}, "template: it writes"),
        ({"tokenize": {"tokens": [7, 8, 1]}}, "tokens: it makes others of the same text, from to"),
        (completed(place(5, -0.5), place(3, -0.1, t6=-2.0)), "another, where .* 1.9 nats less"),
        (completed(place(5, -0.5), place(3, -0.1)), "another, where .* nats less likely"),
        (completed(place(5, -0.5), place(6, -0.5)), "log-probabilities differ by 0.25 nats"),
        (completed(place(5, -0.5)), "its reply ends after 1 tokens"),
    ],
)
def test_what_differs_is_refused(
    serve: Any, tmp_path: Path, table: dict[str, Any], says: str
) -> None:
    serve(answers(**table))
    with pytest.raises(ValueError, match=rf"llama\.cpp: .*{says}"):
        replies_agree(tmp_path, certificate(), "f32")
    written = with_llama(tmp_path, certificate(), "f32")
    assert not written["passed"]
    assert json.loads((tmp_path / "certificate.json").read_text()) == written


def test_a_template_that_the_server_is_not_told_about_is_not_compared(
    serve: Any, tmp_path: Path
) -> None:
    serve(answers(**{"apply-template": {"prompt": "another"}}))
    assert replies_agree(tmp_path, certificate(variables={"a": 1}), "f32").startswith("passed")


def test_without_a_server_nothing_is_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "convert_hf_to_gguf.py").touch()
    monkeypatch.setenv("SLM_MATH_GGUF_CONVERTER", str(tmp_path / "convert_hf_to_gguf.py"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert replies_agree(tmp_path, certificate(), "f32").startswith("replies not compared: there")
