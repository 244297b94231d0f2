"""Logs of Inspect and other files around rows: what is read of them, and what is refused."""

from __future__ import annotations

import gzip
import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from foreign.files import ONE, ROWS, TWO, inspect_log

from slm_math.data import formats
from slm_math.data.json_lines import RowError
from slm_math.foreign import containers
from slm_math.foreign.containers import rows_of

SAMPLES = ROWS["inspect"]


def inputs(file: Path) -> list[Any]:
    return [row["input"][0]["content"] for _, row, _ in rows_of(file) if isinstance(row, dict)]


def test_samples_of_an_inspect_log_are_rows_without_their_events(tmp_path: Path) -> None:
    file = inspect_log(tmp_path / "a.eval", SAMPLES)
    rows = list(rows_of(file))
    assert [number for number, _, _ in rows] == [1, 2]
    assert rows[-1][2] == file.stat().st_size
    assert inputs(file) == [ONE, TWO]
    assert "events" not in rows[0][1]  # type: ignore[operator]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_the_json_log_of_inspect_has_the_same_samples(
    indent: int | None, pack: Any, tmp_path: Path
) -> None:
    log = {"version": 2, "status": "success", "eval": {"task": "t"}, "samples": SAMPLES}
    file = tmp_path / ("a.json" if pack is bytes else "a.json.gz")
    file.write_bytes(pack(json.dumps(log, indent=indent).encode()))
    assert inputs(file) == [ONE, TWO]


def test_predictions_of_opencompass_are_an_object_of_rows(tmp_path: Path) -> None:
    file = tmp_path / "gsm8k.json"
    rows = {"0": {"origin_prompt": "p", "prediction": "5", "gold": "5"}}
    file.write_text(json.dumps(rows, indent=4))
    assert [row for _, row, _ in rows_of(file)] == [{"number": "0"} | rows["0"]]


def test_the_newest_try_of_a_sample_counts(tmp_path: Path) -> None:
    file = inspect_log(tmp_path / "a.eval", SAMPLES)
    again = SAMPLES[1] | {"input": [{"role": "user", "content": "again"}]}
    with zipfile.ZipFile(file, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("samples/2_epoch_1.json", json.dumps(again))
    assert inputs(file) == [ONE, "again"]


def zstd_entry(file: Path, name: str, content: bytes) -> None:
    """An archive with one file that zstd compressed, as Inspect writes them now."""
    packed = pyarrow.Codec("zstd").compress(content, asbytes=True)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, packed)
        entry = archive.infolist()[0]
    data = bytearray(file.read_bytes())
    central = data.index(b"PK\x01\x02")
    for method, size in ((8, 22), (central + 10, central + 24)):
        struct.pack_into("<H", data, method, 93)
        struct.pack_into("<I", data, size, len(content))
    assert entry.file_size == len(packed)
    file.write_bytes(data)


def test_samples_that_zstd_compressed_are_read(tmp_path: Path) -> None:
    file = tmp_path / "a.eval"
    zstd_entry(file, "samples/1_epoch_1.json", json.dumps(SAMPLES[0]).encode())
    assert inputs(file) == [ONE]


def test_broken_samples_are_errors_in_their_place(tmp_path: Path) -> None:
    file = inspect_log(tmp_path / "a.eval", SAMPLES)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("samples/3_epoch_1.json", "{broken")
        archive.writestr("samples/4_epoch_1.json", "[1]")
    *_, (_, third, _), (_, fourth, _) = rows_of(file)
    assert isinstance(third, RowError)
    assert "samples/3_epoch_1.json is not JSON" in str(third)
    assert "samples/4_epoch_1.json is not a JSON object" in str(fourth)
    zstd_entry(tmp_path / "b.eval", "samples/1_epoch_1.json", b"{}" * 99)
    data = bytearray((tmp_path / "b.eval").read_bytes())
    data[60:64] = b"\xff\xff\xff\xff"
    (tmp_path / "b.eval").write_bytes(data)
    [(_, broken, _)] = rows_of(tmp_path / "b.eval")
    assert isinstance(broken, RowError)


def test_a_sample_that_is_too_large_is_an_error_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(containers, "MAX_LINE", 600)
    large = SAMPLES[1] | {"more": "abcdefg" * 100}
    file = inspect_log(tmp_path / "a.eval", [SAMPLES[0], large])
    (_, first, _), (_, second, _) = rows_of(file)
    assert isinstance(first, dict)
    assert "larger than" in str(second)


def test_an_archive_that_would_grow_without_end_is_refused(tmp_path: Path) -> None:
    file = inspect_log(tmp_path / "a.eval", SAMPLES)
    data = bytearray(file.read_bytes())
    central = data.index(b"PK\x01\x02")
    struct.pack_into("<I", data, central + 24, 1 << 30)  # what the directory says of one file
    file.write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.eval: its files would be more than 1100 times"):
        list(rows_of(file))


def test_other_archives_are_refused_by_their_names(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.eval", "w") as archive:
        archive.writestr("header.json", "{}")
    with pytest.raises(ValueError, match=r"a\.eval: no log of Inspect"):
        list(rows_of(tmp_path / "a.eval"))
    (tmp_path / "b.eval").write_bytes(b"PK\x03\x04" + bytes(30))
    with pytest.raises(ValueError, match=r"b\.eval: not a whole \.eval file"):
        list(rows_of(tmp_path / "b.eval"))


def test_json_that_unpacks_to_more_than_memory_holds_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "MAX_WHOLE", 1000)
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(b"[" + b" " * 2000 + b"]"))
    with pytest.raises(ValueError, match=r"a\.json\.gz: .* save it as JSON lines"):
        list(rows_of(tmp_path / "a.json.gz"))
