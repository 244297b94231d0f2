"""`slm-math export`: a model folder from a checkpoint of a training run, and `check-export`."""

from __future__ import annotations

import contextlib
import gc
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

UNFINISHED = ".slm-math-export-"  # in the name of a folder that is being written


def export(
    checkpoint: str,
    out: str,
    merge: bool = False,
    dtype: Literal["float32", "bfloat16"] = "float32",
    path: str | dict[str, str] | None = None,
    check: bool = True,
    gguf: Literal["f16", "f32"] | None = None,
    push: str | None = None,
    private: bool = True,
) -> None:
    """Makes a model folder of a training checkpoint: the one that ExportHF would have written then.

    A checkpoint holds the trained weights and the settings of their policy; the model or adapter
    that the run started from must still be there.

    Args:
        checkpoint: a file that training wrote, such as runs/x/checkpoints/last.ckpt, or the folder
            of a run, whose last checkpoint it is then.
        out: the new folder; one that holds something is refused.
        merge: merge adapters into the model's weights, as programs without peft need it.
        dtype: float32, or bfloat16 to halve the files.
        path: where the model or adapter of the run's policy.path is, if it has moved.
        check: load the folder in a fresh process, compare it with the policy and write
            certificate.json; a folder that differs is kept as OUT.failed. It takes 4 bytes of
            memory for each weight, once the policy has been left.
        gguf: also write model-f16.gguf or model-f32.gguf for llama.cpp, by its converter
            convert_hf_to_gguf.py on PATH, or where SLM_MATH_GGUF_CONVERTER names it, and compare
            what its llama-server makes of the file, where there is one.
        push: OWNER/NAME on the Hugging Face hub, where the folder goes, too; the token is that of
            HF_TOKEN in the environment.
        private: whether nobody else may see a repository that is made by this.
    """
    from slm_math.checkpoint_files import saving
    from slm_math.exports.certificate import summary
    from slm_math.exports.gguf_file import find_converter
    from slm_math.exports.push import check_push, push_folder
    from slm_math.modules.saved_policy import read_checkpoint

    file, folder = Path(checkpoint).expanduser().absolute(), Path(out).expanduser().resolve()
    check_new(folder)
    file = last_checkpoint(file)
    if push is not None:
        check_push(push)
    if gguf is not None:
        find_converter()
    content = read_checkpoint(file)
    settings = content["policy"]["settings"]
    if gguf is not None and settings["lora"] and not settings["scratch"]:
        _check_whole(merge)
    with _beside(folder) as new:
        certificate = _written(
            file,
            content,
            path,
            new=new,
            folder=folder,
            merge=merge,
            dtype=dtype,
            check=check,
            gguf=gguf,
        )
        passed = certificate is None or certificate["passed"]
        target = folder if passed else _free(folder.with_name(folder.name + ".failed"))
        with saving(target):
            os.rename(new, target)
    if not passed:
        assert certificate is not None
        raise ValueError(
            f"{out} was not exported, since plain transformers does not make the same of it as the "
            f"policy ({summary(certificate)[8:]}); what was written is kept as {target}"
        )
    print(f"{out} is the model of epoch {content['epoch']}, step {content['global_step']}")
    if certificate is not None:
        print(f"certificate {summary(certificate)}")
    if push is not None:
        print(f"pushed: {push_folder(folder, push, private)}")


def last_checkpoint(place: Path) -> Path:
    """The last checkpoint in the folder of a run, and it says so; a file as it is.

    Raises ValueError for another folder.
    """
    found = next(
        (each for each in (place / "checkpoints/last.ckpt", place / "last.ckpt") if each.is_file()),
        None,
    )
    if found is None:
        if place.is_dir():
            raise ValueError(f"{place} {_instead(place)}")
        return place
    others = sorted(each.name for each in found.parent.glob("*.ckpt") if each != found)
    more = f"; others there: {', '.join(others)}" if others else ""
    print(f"checkpoint: {found}, the last of the run{more}")
    return found


def _instead(place: Path) -> str:
    """What a folder without a checkpoint is, and what to name instead."""
    if (place / "config.json").is_file() or (place / "adapter_config.json").is_file():
        run = next((each for each in place.parents if (each / "checkpoints").is_dir()), None)
        own = f"; to export its run again name {run}" if run else ""
        return f"is a model already, which needs no export{own}"
    runs = sorted(file.parent.parent for file in place.glob("**/checkpoints/last.ckpt"))
    if runs:
        shown = ", ".join(str(run) for run in runs[:5]) + (", ..." if len(runs) > 5 else "")
        return f"holds the runs {shown}: name one of them"
    return (
        "holds no checkpoint: name the folder of a run, such as runs/sft-lora, or a .ckpt file "
        "that training wrote"
    )


def check_export(folder: str) -> None:
    """Checks an exported model against its certificate: that no file has changed since, and that a
    fresh process still makes of its prompts what the policy made of them; where vLLM is installed,
    one with vLLM, too.

    Args:
        folder: an export with certificate.json.
    """
    from slm_math.exports.certificate import (
        certified,
        changed_files,
        read_certificate,
        summary,
    )
    from slm_math.exports.served import served

    place = Path(folder).expanduser().resolve()
    certificate = read_certificate(place)
    changes = changed_files(place, certificate)
    if changes:
        more = f", and {len(changes) - 3} more" if len(changes) > 3 else ""
        raise ValueError(
            f"{folder} is not what its certificate is of: {'; '.join(changes[:3])}{more}"
        )
    now = certified(place, certificate, write=False)
    if not now["passed"]:
        raise ValueError(f"{folder} {summary(now)}")
    print(f"{folder}: no file has changed since {certificate['checked']}; {summary(now)}")
    said = served(place, certificate)
    if said is not None:
        print(f"vLLM: {said}")


def check_new(folder: Path) -> None:
    """Raises ValueError for a folder that could not be written without losing what it holds."""
    if folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"--out {folder} is not empty: name a new folder, or remove it")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--out {folder} is a file, and a model is a folder")


def _check_whole(whole: bool) -> None:
    if not whole:
        raise ValueError("--gguf needs a whole model, and this export is an adapter: add --merge")


@contextlib.contextmanager
def _beside(folder: Path) -> Iterator[Path]:
    """A folder to write, beside its place: it is there whole or not at all, and nothing else is
    touched.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = f".{folder.name}{UNFINISHED}"
    for leftover in folder.parent.glob(glob.escape(unfinished) + "*"):  # of a killed export
        shutil.rmtree(leftover, ignore_errors=True)
    beside = Path(tempfile.mkdtemp(prefix=unfinished, dir=folder.parent))
    try:
        yield beside / "model"
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _free(folder: Path) -> Path:
    """The folder, or, if there is something, one with a number behind its name."""
    names = (folder, *(folder.with_name(f"{folder.name}-{n}") for n in range(2, 1 << 16)))
    return next(name for name in names if not name.exists())


def _written(
    file: Path,
    content: dict[str, Any],
    path: str | dict[str, str] | None,
    *,
    new: Path,
    folder: Path,
    merge: bool,
    dtype: str,
    check: bool,
    gguf: str | None,
) -> dict[str, Any] | None:
    """Writes the model of a checkpoint to the folder `new`, which will be renamed to `folder`; its
    certificate, if it is checked.
    """
    from slm_math.checkpoint_files import saving
    from slm_math.exports.card import Origin, write_card
    from slm_math.exports.certificate import begun, certified
    from slm_math.exports.gguf_file import write_gguf
    from slm_math.exports.llama import with_llama
    from slm_math.modules.saved_policy import load_policy
    from slm_math.policy.export import export_policy, layout_of

    policy, loaded, chat, place = load_policy(file, content, path)
    layout = {"merge": True} if merge else layout_of(policy, loaded)
    merged = layout["merge"] and bool(loaded.adapters)
    if gguf is not None:
        _check_whole(merged or not loaded.adapters)
    with saving(folder):
        export_policy(loaded, chat, new, **layout, dtype=dtype)
    if gguf is not None:
        print(f"written and read back: {write_gguf(new, gguf)}")
    origin = Origin(
        policy,
        roots=(file.parent.parent, file.parent),
        run=content.get("run"),
        epoch=content["epoch"],
        step=content["global_step"],
        name=folder.name,
    )
    certificate = None
    if check:
        with contextlib.chdir(place):
            certificate = begun(loaded, chat, new, dtype=dtype, merged=merged)
        del loaded, chat  # two models at once would need the memory of both
        gc.collect()
        certificate = certified(new, certificate, place)
        if gguf is not None and certificate["passed"]:
            certificate = with_llama(new, certificate, gguf)
            print(f"llama.cpp: {certificate['llama.cpp']}")
    with contextlib.chdir(place):
        write_card(new, origin, certificate)
    return certificate
