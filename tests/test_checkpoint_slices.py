"""Checkpoints in slices, of which each rank writes its own."""

import struct
from pathlib import Path
from typing import Any

import pytest
import torch

from slm_math.checkpoint_files import CheckpointFiles, damage, slice_names


def saved(path: Path, save: str, value: float) -> list[str]:
    """Writes a checkpoint of two ranks, whose weight is (3, 2) of one value."""
    files, names = CheckpointFiles(), slice_names(path, save, ranks=2)

    def part(rows: int) -> dict[str, Any]:
        weight = torch.full((rows, 2), value)
        states = [{"state": {0: {"exp_avg": weight}}}]
        return {"state_dict": {"w": weight}, "optimizer_states": states}

    files.save_checkpoint(part(1), path.with_name(names[0]))
    files.save_checkpoint(part(2) | {"slices": names}, path)
    return names


def test_slices_are_put_together(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    saved(path, "a", 1.0)
    [first] = saved(path, "b", 2.0)
    content = CheckpointFiles().load_checkpoint(path)
    assert torch.equal(content["state_dict"]["w"], torch.full((3, 2), 2.0))
    [optimizer] = content["optimizer_states"]
    assert optimizer["state"][0]["exp_avg"].shape == (3, 2)
    # those of the save before are gone
    assert sorted(each.name for each in tmp_path.iterdir()) == ["last.ckpt", first]
    CheckpointFiles().remove_checkpoint(path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("how", ["lost", "torn", "changed"])
def test_checkpoint_without_a_slice_is_damaged(how: str, tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    [name] = saved(path, "a", 1.0)
    assert damage(path) is None
    content = bytearray((tmp_path / name).read_bytes())
    at = content.index(struct.pack("<f", 1.0))  # of the weight
    content[at] ^= 1
    (tmp_path / name).write_bytes(content if how == "changed" else b"")
    if how == "lost":
        (tmp_path / name).unlink()
    assert damage(path) == f"damaged: its slice {name} is not there, or not whole"
