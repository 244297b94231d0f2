"""The zip file of a claim: the same members give the same bytes, and reading trusts nothing."""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

CLAIM, README = "claim.json", "README.md"
RECORDS, MANIFEST, OVERLAP = "records.jsonl.gz", "manifest.json", "overlap.json"
CONTROLS = "controls"
# the names that members may have; a number is the place of a run in the claim
_NAMES = re.compile(
    r"claim\.json|README\.md"
    r"|runs/[1-9][0-9]{0,3}/(?:(?:controls/[a-z][a-z0-9_]{0,40}/)?"
    r"(?:records\.jsonl\.gz|manifest\.json)|overlap\.json)"
)
_TIME = (1980, 1, 1, 0, 0, 0)
_GZIP = bytes.fromhex("1f8b0800000000000203")  # the header: no name, no time, no extra field
# what a file of a stranger may take, in bytes
LARGEST_FILE = 512 << 20  # of a claim
LARGEST_TEXTS = 64 << 20  # of all its members but records
LARGEST_RECORDS = 1 << 30  # of all its records together, decompressed
SMALL_RECORDS = 16 << 20  # records of so many bytes may be compressed to anything
MOST_COMPRESSED = 64  # times; records that differ reach 7 to 16, the same one again and again 117
MOST_VALUES = 1 << 20  # of JSON in a record, and in all members but records: each takes memory
LARGEST_LINE = 16 << 20  # of a record
MOST_MEMBERS = 10_000
_CHUNK = 1 << 20  # bytes that are decompressed at once


class Unreadable(ValueError):
    """Why a file cannot be read as a claim, as one line."""


def archive(members: Mapping[str, bytes]) -> bytes:
    """The bytes of the zip file with these members: sorted, uncompressed and without times, so that
    they depend on nothing else.
    """
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as zipped:
        for name in sorted(members):
            info = zipfile.ZipInfo(name, _TIME)
            info.create_system, info.external_attr = 3, 0o644 << 16
            zipped.writestr(info, members[name])
    return file.getvalue()


def members(path: Path) -> dict[str, bytes]:
    """The members of the zip file of a claim.

    Nothing is written, no member is decompressed, and only names that a claim may have are read.
    Raises `Unreadable` for anything but the very bytes that `archive` makes of these members:
    other names, two members of one name, compression, comments, bytes between or after members.
    """
    if not path.is_file():
        raise Unreadable(f"{path} is not a file")
    if path.stat().st_size > LARGEST_FILE:
        raise Unreadable(f"{path} has more than {LARGEST_FILE >> 20} MiB")
    data = path.read_bytes()
    try:
        found = _members(data)
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise Unreadable(f"{path} is no whole zip file ({error})") from error
    except (ValueError, IndexError, KeyError, zlib.error) as error:
        raise Unreadable(f"{path}: {error}") from error
    if archive(found) != data:
        raise Unreadable(f"{path} has other bytes than a claim with these members has")
    return found


def _members(data: bytes) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    with zipfile.ZipFile(io.BytesIO(data)) as zipped:
        infos = zipped.infolist()
        if len(infos) > MOST_MEMBERS:
            raise ValueError(f"it has {len(infos)} members, more than {MOST_MEMBERS}")
        for info in infos:
            if not _NAMES.fullmatch(info.filename):
                raise ValueError(f"a claim has no member {info.filename!r:.100}")
            if info.filename in found:
                raise ValueError(f"two members have the name {info.filename}")
            if info.compress_type != zipfile.ZIP_STORED or info.file_size > len(data):
                raise ValueError(f"member {info.filename} is compressed, or longer than the file")
            found[info.filename] = zipped.read(info)
    check_sizes(found)  # before anything is parsed
    return found


def check_sizes(found: Mapping[str, bytes]) -> None:
    """Raises ValueError for members that are more than a check reads."""
    budget = Budget.of(found)
    for name in filter(is_records, found):
        try:
            for _ in decompressed_lines(found[name], budget):
                pass
            _check_padding(found[name])
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    _check_texts(found)


def _check_texts(found: Mapping[str, bytes]) -> None:
    texts = {name: data for name, data in found.items() if not is_records(name)}
    if sum(map(len, texts.values())) > LARGEST_TEXTS:
        raise ValueError(f"its members without records have more than {LARGEST_TEXTS >> 20} MiB")
    if sum(map(_most_values, texts.values())) > MOST_VALUES:
        largest = max(texts, key=lambda name: _most_values(texts[name]))
        raise ValueError(
            f"its members without records have more than {MOST_VALUES} values of JSON, most of "
            f"them in {largest}"
        )


def _most_values(data: bytes) -> int:
    """How many values a text has at most, if it is JSON. Nothing is parsed for it."""
    return sum(map(data.count, (b",", b"[", b"{")))


def is_records(name: str) -> bool:
    """Whether a member holds the records of a run."""
    return name.endswith(f"/{RECORDS}")


def compressed(data: bytes) -> bytes:
    """A gzip file without name and time."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    packed = packer.compress(data) + packer.flush()
    return _GZIP + packed[len(_GZIP) :]  # the header of zlib names the operating system


class Budget:
    """The bytes that may still be decompressed of a claim."""

    def __init__(self, left: int = LARGEST_RECORDS) -> None:
        self.total = self.left = left

    @classmethod
    def of(cls, members: Mapping[str, bytes]) -> Budget:
        """That of a claim with these members: a small file is not unpacked into a large one."""
        packed = sum(len(data) for name, data in members.items() if is_records(name))
        return cls(min(LARGEST_RECORDS, max(SMALL_RECORDS, MOST_COMPRESSED * packed)))


def decompressed_lines(data: bytes, budget: Budget, longest: int = LARGEST_LINE) -> Iterator[bytes]:
    """The lines that a gzip file of one part holds, each with its end, read as a stream.

    Raises ValueError for a damaged file, for another header than that of `compressed` (which could
    hide a text), for a line of more than `longest` bytes, for more bytes than the budget has, and
    for anything after the end of the file.
    """
    if not data.startswith(_GZIP):
        raise ValueError("its header is not that of a claim")
    packer, rest, line = zlib.decompressobj(31), data, b""
    while not packer.eof:
        try:
            part = packer.decompress(rest, _CHUNK)
        except zlib.error as error:
            raise ValueError(f"it is not a complete gzip file ({error})") from error
        rest = packer.unconsumed_tail
        budget.left -= len(part)
        if budget.left < 0:
            raise ValueError(
                f"the records of the claim have more than {budget.total} bytes, the most that a "
                f"claim may have ({MOST_COMPRESSED} times as many as its file, at least "
                f"{SMALL_RECORDS >> 20} MiB, at most {LARGEST_RECORDS >> 20})"
            )
        if not part and not rest and not packer.eof:
            raise ValueError("it is cut off")
        *whole, line = (line + part).split(b"\n")
        if max(map(len, (*whole, line))) >= longest:
            raise ValueError(f"a line of it has more than {longest} bytes")
        for each in whole:
            if _most_values(each) > MOST_VALUES:
                raise ValueError(f"a line of it has more than {MOST_VALUES} values of JSON")
            yield each + b"\n"
    if packer.unused_data:
        raise ValueError(f"{len(packer.unused_data)} bytes follow its end")
    if line:
        yield line


def _check_padding(data: bytes) -> None:
    """Raises ValueError for a gzip file, complete and of one part, that has a bit set after the end
    of its last block: these are the highest bits of a byte, and the text does not depend on them.
    """
    last = len(data) - 9  # before the sum and the length of the text
    cleared = bytearray(data)
    cleared[last] &= ~(1 << max(data[last].bit_length() - 1, 0))
    if cleared[last] == data[last]:
        return
    packer, rest = zlib.decompressobj(31), bytes(cleared)
    try:
        while not packer.eof and rest:
            packer.decompress(rest, _CHUNK)
            rest = packer.unconsumed_tail
    except zlib.error:
        return
    if packer.eof and not packer.unused_data:
        raise ValueError("bits are set after its end")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def json_bytes(data: Any) -> bytes:
    """Data as a JSON file, always the same bytes."""
    text = json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "backslashreplace") + b"\n"


def parsed(data: bytes) -> dict[str, Any]:
    """A JSON object. Raises ValueError for anything else, for numbers that are none, and for a key
    that is there twice, of which another reader may take the other value.
    """
    try:
        found = json.loads(
            data.decode("utf-8"), parse_constant=_no_number, object_pairs_hook=_object
        )
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(found, dict):
        raise ValueError("it is no JSON object")
    return found


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number of JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"it has the key {twice!r:.60} twice")
    return found
