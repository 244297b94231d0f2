"""A GGUF file in llama.cpp's own server, where it is installed, against the certificate: the chats
as text and tokens, greedy replies and their log-probabilities.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path
from typing import Any

from slm_math.engines.http import TransportError, request
from slm_math.exports.agreement import FAR, tolerance_of
from slm_math.exports.expected import NEW_TOKENS
from slm_math.exports.gguf_file import find_converter
from slm_math.exports.processes import NO_GPU
from slm_math.policy.folders import CERTIFICATE
from slm_math.records.files import write_json

SERVER = "llama-server"
LOADED = 600.0  # seconds in which it loads a model
LIKELIEST = 20  # tokens whose log-probabilities it tells
ROOM = 64  # tokens beside prompt and reply
# numbers of full precision for keys and values, as the policy has them, and the CPU alone
EXACT = (
    *("--cache-type-k", "f32", "--cache-type-v", "f32", "--flash-attn", "off"),
    *("--n-gpu-layers", "0", "--parallel", "1"),
)
Certificate = Mapping[str, Any]


def find_server() -> Path | None:
    """llama.cpp's server: on PATH, or built in the clone that has the converter."""
    found = shutil.which(SERVER)
    built = found or find_converter().parent / "build" / "bin" / SERVER
    return Path(built).resolve() if os.access(built, os.X_OK) else None


def with_llama(folder: Path, certificate: dict[str, Any], kind: str) -> dict[str, Any]:
    """A certificate with what llama.cpp made of the GGUF files, written into the folder."""
    said, problems = "", list(certificate["problems"])
    try:
        said = replies_agree(folder, certificate, kind)
    except ValueError as error:
        said = f"failed: {error}"
        problems.append(str(error))
    result = certificate | {"llama.cpp": said, "passed": not problems, "problems": problems}
    write_json(folder / CERTIFICATE, result)
    return result


def replies_agree(folder: Path, certificate: Certificate, kind: str) -> str:
    """What llama.cpp makes of the GGUF files of an export, in a line.

    Raises ValueError if it differs from the policy by more than it may; see `tolerance_of`: its
    kernels are others, and f16 rounds weights.
    """
    server = find_server()
    if server is None:
        return f"replies not compared: there is no {SERVER} on PATH, or built beside the converter"
    limit = tolerance_of("float32" if kind == "f32" else "bfloat16", on_cpu=False)
    gaps: list[float] = []
    for name, part in certificate["parts"].items():
        file, cases = folder / name / f"model-{kind}.gguf", [c for c in part["cases"] if c["ids"]]
        longest = max((len(case["ids"]) for case in cases), default=0)
        with _serving(server, file, longest + NEW_TOKENS + ROOM) as url:
            for number, case in enumerate(cases, 1):
                try:
                    gaps += _compared(url, case, certificate["template"], limit["largest"])
                except ValueError as error:
                    raise ValueError(f"llama.cpp: {file.name}, prompt {number}: {error}") from None
    largest, mean = max(gaps, default=0.0), sum(gaps) / max(len(gaps), 1)
    for what, gap in {"largest": largest, "mean": mean}.items():
        if gap > limit[what]:
            raise ValueError(
                f"llama.cpp: log-probabilities differ by {gap:.3g} nats ({what} of {len(gaps)}), "
                f"and {limit[what]:g} is allowed"
            )
    return (
        f"passed: {len(gaps)} log-probabilities, the largest difference {largest:.1e} nats (at "
        f"most {limit['largest']:g}, {kind})"
    )


def _compared(
    url: str, case: Mapping[str, Any], template: Mapping[str, Any], tolerance: float
) -> list[float]:
    """Differences of the log-probabilities of a greedy reply, up to where it parts from the
    policy's. Raises ValueError for another text, other tokens, or another reply.
    """
    if not template["variables"] and not template["before"]:  # which it is not told
        text = _ask(url, "apply-template", {"messages": case["messages"]})["prompt"]
        if text != case["text"]:
            raise ValueError(f"template: it writes {text[-60:]!r}, and the policy's another text")
    question = {"content": case["text"], "add_special": False, "parse_special": True}
    if (ids := _ask(url, "tokenize", question)["tokens"]) != case["ids"]:
        at = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(ids, case["ids"]))))
        raise ValueError(f"tokens: it makes others of the same text, from token {at} on")
    asked = {"prompt": case["ids"], "n_predict": NEW_TOKENS, "temperature": 0.0}
    asked |= {"n_probs": LIKELIEST, "return_tokens": True, "cache_prompt": False}
    made = _ask(url, "completion", asked)
    gaps = []
    for place, token, logprob in zip(
        made["completion_probabilities"], case["reply"], case["logprobs"]
    ):
        known = {each["id"]: each["logprob"] for each in place["top_logprobs"]}
        if place["id"] != token:
            lost = place["logprob"] - known.get(token, -FAR)
            if lost > 2 * tolerance:
                raise ValueError(
                    f"weights: the greedy reply is another, where the policy's token is {lost:.3g} "
                    "nats less likely"
                )
            return gaps  # two tokens are equally likely
        gaps.append(min(abs(place["logprob"] - logprob), FAR))
    missing = len(case["reply"]) - len(made["tokens"])
    if missing not in (0, 1) or (missing and made["stop_type"] != "eos"):
        raise ValueError(
            f"tokens: its reply ends after {len(made['tokens'])} tokens ({made['stop_type']}), the "
            f"policy's after {len(case['reply'])}"
        )
    return gaps


def _ask(url: str, path: str, body: Mapping[str, Any]) -> Any:
    response = request("POST", f"{url}/{path}", dict(body))
    if response.status != 200:
        raise ValueError(f"its server answers /{path} with status {response.status}")
    return response.json()


@contextmanager
def _serving(server: Path, model: Path, context: int) -> Iterator[str]:
    """The address of the server of a model, for as long as it is needed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    address: Sequence[str] = ("--host", "127.0.0.1", "--port", str(port))
    command = [server, "--model", model, "--ctx-size", str(context), *address, *EXACT]
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        process = subprocess.Popen(
            list(map(str, command)),
            env=os.environ | NO_GPU,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            end = time.monotonic() + LOADED
            while time.monotonic() < end and process.poll() is None and not _is_ready(url):
                time.sleep(0.2)
            if process.poll() is not None or not _is_ready(url):
                log.seek(0)
                last = (log.read().strip().splitlines() or ["it says nothing"])[-1]
                raise ValueError(f"llama.cpp's {SERVER} does not load {model.name}: {last[:200]}")
            yield url
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            process.wait()


def _is_ready(url: str) -> bool:
    with suppress(TransportError):
        return request("GET", f"{url}/health").status == 200
    return False
