"""A certificate for an exported model: a fresh process loads it with plain transformers and peft,
and its tokens, greedy replies and log-probabilities are compared with the policy's.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from slm_math import __version__
from slm_math.exports import plain, plain_vllm
from slm_math.exports.agreement import Agreement, compare, tolerance_of
from slm_math.exports.expected import NEW_TOKENS, compared_weights, expected_cases, parts_of
from slm_math.exports.processes import NO_GPU, run_python
from slm_math.policy.adapter_files import CONFIG, adapter_config, base_of
from slm_math.policy.chat import ChatFormat
from slm_math.policy.folders import CERTIFICATE
from slm_math.policy.loaded import LoadedPolicy
from slm_math.policy.loading import weights_hash
from slm_math.records.files import write_json

NOT_HASHED = {CERTIFICATE, "README.md"}  # what is written of the model
Certificate = dict[str, Any]
NAMES = {plain.__name__: "plain transformers", plain_vllm.__name__: "vLLM"}


def begun(
    loaded: LoadedPolicy,
    chat: ChatFormat,
    folder: Path,
    dtype: str = "float32",
    merged: bool = False,
    quantized: bool = False,
) -> Certificate:
    """The certificate of an export before the fresh process has looked at it: what the policy makes
    of a few prompts, the hashes of all files, and which weights are the policy's bit for bit.

    Args:
        loaded: the policy that was exported; it is not needed any more then.
        chat: its chat format.
        folder: the export.
        dtype: of the files.
        merged: whether adapters were merged into the weights.
        quantized: whether the policy computes over a base of 4 bits, which the export does not.
    """
    variables, before = chat.template_options
    on_cpu = loaded.model.device.type == "cpu"
    if loaded.model.dtype == torch.bfloat16:
        dtype = "bfloat16"  # also of its files
    parts: dict[str, Any] = {}
    for part, role in parts_of(loaded, folder).items():
        weights = compared_weights(loaded, folder / part, role=role, dtype=dtype, merged=merged)
        cases = expected_cases(loaded, chat, role)
        parts[part] = {"role": role, "weights": weights, "cases": cases} | _base(folder / part)
    return {
        "passed": None,
        "problems": [],
        "dtype": dtype,
        "tolerance": tolerance_of(dtype, on_cpu=on_cpu, quantized=quantized),
        "template": {"variables": variables, "before": before},
        "eyes": loaded.sight is not None,
        "banned": [] if loaded.sight is None else list(map(int, loaded.sight.banned)),
        "ends": sorted(chat.ends(loaded.model.config, loaded.model.generation_config)),
        "files": hashes(folder),
        "parts": parts,
    }


def fresh(request: dict[str, Any], place: Path, program: Any = plain) -> dict[str, Any]:
    """What `plain`, or another program, finds in a process of its own, with `place` as its working
    directory. Raises ValueError if it could not load the model.
    """
    environment = NO_GPU if program is plain else {}
    with tempfile.TemporaryDirectory(prefix="slm-math-certificate-") as scratch:
        asked, found = (Path(scratch) / name for name in ("request.json", "result.json"))
        asked.write_text(json.dumps(request), encoding="utf-8")
        arguments = ("-P", Path(program.__file__).resolve(), asked, found)
        done = run_python(arguments, environment, place)
        if done.returncode or not found.is_file():
            raise ValueError(f"{NAMES[program.__name__]} could not load it: {_last_line(done)}")
        return json.loads(found.read_text(encoding="utf-8"))


def certified(
    folder: Path,
    certificate: Certificate,
    place: Path | None = None,
    write: bool = True,
    run: Callable[[dict[str, Any], Path], dict[str, Any]] = fresh,
) -> Certificate:
    """A certificate with what a fresh process found, which is written into the folder.

    Args:
        folder: the export.
        certificate: the one that was begun, or an earlier one, which is checked again.
        place: the working directory in which relative paths of bases are right.
        write: whether to write it.
        run: what runs `plain`.
    """
    problems: list[str] = []
    agreed: dict[str, Agreement] = {}
    versions: dict[str, str] = {}
    for name, part in certificate["parts"].items():
        weights = part["weights"]
        if weights["different"]:
            problems.append(
                f"{_where(name)}weights: {weights['different']} tensors in the files are not the "
                f"policy's, the first {weights['first']}"
            )
    try:
        found = run(request_of(folder, certificate), place or Path.cwd())
    except ValueError as error:
        problems.append(str(error))
    else:
        versions = found["versions"]
        right = certificate.get("ends")  # which certificates of earlier versions do not have
        for name, ends in zip(certificate["parts"], found["ends"], strict=True):
            if right is not None and ends != right:
                problems.append(
                    f"{_where(name)}generation_config.json: a reply ends with one of the tokens "
                    f"{ends}, and the policy's with one of {right}"
                )
        for (name, part), answers in zip(certificate["parts"].items(), found["parts"], strict=True):
            agreed[name] = compare(part["cases"], answers, certificate["tolerance"])
            problems += [_where(name) + problem for problem in agreed[name].problems]
    result = certificate | {
        "passed": not problems,
        "problems": problems,
        "checked": datetime.now(UTC).isoformat(timespec="seconds"),
        "largest_difference": max((each.largest for each in agreed.values()), default=None),
        "agreement": {name: each.as_json() for name, each in agreed.items()},
        "versions": {"slm-math": __version__} | versions,
    }
    if write:
        write_json(folder / CERTIFICATE, result)
    return result


def summary(certificate: Certificate) -> str:
    """A certificate in a line for people."""
    if not certificate["passed"]:
        return "failed: " + (certificate["problems"] or ["it was not checked"])[0]
    parts = certificate["agreement"].values()
    limit = certificate["tolerance"]
    return (
        f"passed: {sum(each['prompts'] for each in parts)} prompts, "
        f"{sum(each['tokens'] for each in parts)} log-probabilities, the largest difference "
        f"{certificate['largest_difference']:.1e} nats (at most {limit['largest']:g}, "
        f"{certificate['dtype']})"
    )


def read_certificate(folder: Path) -> Certificate:
    """The certificate in a folder. Raises ValueError if there is none, or if it is none."""
    path = folder / CERTIFICATE
    if not path.is_file():
        raise ValueError(
            f"{folder} has no {CERTIFICATE}: slm-math export and ExportHF write one, "
            "unless their check is false, as in --config fast"
        )
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    needed = {"parts": dict, "files": dict, "tolerance": dict, "template": dict}
    wrong = [
        name
        for name, kind in needed.items()
        if not isinstance(data, dict) or not isinstance(data.get(name), kind)
    ]
    if wrong:
        raise ValueError(f"{path} is no certificate: it has no {', '.join(wrong)}")
    for name, part in data["parts"].items():
        inside = Path(name).name == name != ".."
        if not inside or not isinstance(part, dict) or not {"weights", "cases"} <= part.keys():
            raise ValueError(f"{path} is no certificate: its part {name!r} is none")
    return data


def changed_files(folder: Path, certificate: Certificate) -> list[str]:
    """What differs from the files that a certificate is of, in words."""
    now, then = hashes(folder), certificate["files"]
    changes = [f"{name} is missing" for name in sorted(then.keys() - now.keys())]
    changes += [f"{name} was added" for name in sorted(now.keys() - then.keys())]
    changes += [
        f"{name} has changed"
        for name in sorted(now.keys() & then.keys())
        if now[name] != then[name]
    ]
    for name, part in certificate["parts"].items():
        if part.get("base_weights") != _base(folder / name).get("base_weights"):
            changes.append(f"{_where(name)}the base of the adapter has changed")
    return changes


def hashes(folder: Path) -> dict[str, str]:
    """The sha256 of each file of an export: weights, tokenizer, templates, configs."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in NOT_HASHED and not path.name.startswith("."):
            with path.open("rb") as file:
                name = path.relative_to(folder).as_posix()
                found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _where(part: str) -> str:
    return f"{part}: " if part else ""


def _base(part: Path) -> dict[str, Any]:
    """Of an adapter, a hash of its base's weights."""
    if not (part / CONFIG).is_file():
        return {}
    base = base_of(str(part))
    return {"base_weights": None if base is None else weights_hash(base)}


def request_of(folder: Path, certificate: Certificate) -> dict[str, Any]:
    """What `plain` is asked."""
    own = certificate["template"]
    parts = [
        {
            "folder": str(folder / name),
            "base": _plain_base(folder / name),
            "before_template": own["before"],
            "eyes": certificate["eyes"],
            "banned": certificate["banned"],
            "cases": part["cases"],
        }
        for name, part in certificate["parts"].items()
    ]
    return {"variables": own["variables"], "new_tokens": NEW_TOKENS, "parts": parts}


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    lines = done.stderr.strip().splitlines()
    if done.returncode < 0:
        return f"the process was ended by signal {-done.returncode} (out of memory?)"
    return lines[-1][:300] if lines else f"exit status {done.returncode}"


def _plain_base(part: Path) -> str | None:
    """The base of an adapter as its config names it; one that begins with a dot is seen from the
    adapter, in an export that holds its base.
    """
    config: Mapping[str, Any] | None = adapter_config(str(part))
    if config is None:
        return None
    base = str(config.get("base_model_name_or_path"))
    return str((part / base).resolve()) if base.startswith(".") else base
