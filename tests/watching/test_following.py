"""Files that grow: every line comes once, only what was appended is read, and a file that is
another one begins anew.
"""

from __future__ import annotations

import os
from pathlib import Path

from slm_math.watching.following import FollowedFile


def texts(file: FollowedFile, most: int = 1 << 20) -> list[bytes]:
    found: list[bytes] = []
    while lines := file.lines(most):
        found += [line.text for line in lines]
    return found


def append(path: Path, text: bytes) -> None:
    with path.open("ab") as file:
        file.write(text)


def test_a_half_written_line_waits(tmp_path: Path) -> None:
    file = FollowedFile(tmp_path / "log")
    assert texts(file) == []
    append(file.path, b"one\ntw")
    assert texts(file) == [b"one"]
    assert texts(file) == []
    append(file.path, b"o\n\nthree\n")
    assert texts(file) == [b"two", b"", b"three"]
    assert (file.end, file.behind, file.generation) == (15, 0, 0)


def test_only_what_was_appended_is_read(tmp_path: Path) -> None:
    file = FollowedFile(tmp_path / "log")
    append(file.path, b"0123456789\n" * 1000)
    assert len(texts(file)) == 1000
    assert file.bytes_read == 11_000
    for _ in range(5):
        assert texts(file) == []
    assert file.bytes_read == 11_000
    append(file.path, b"new\n")
    assert texts(file) == [b"new"]
    assert file.bytes_read == 11_000 + 64 + 4  # and what must still be there


def test_lines_are_where_they_are_said_to_be_in_pieces_of_any_size(tmp_path: Path) -> None:
    lines = [b"x" * (7 * i % 23) for i in range(50)]
    (tmp_path / "log").write_bytes(b"\n".join(lines) + b"\n")
    for most in (1, 5, 64, 10_000):
        file = FollowedFile(tmp_path / "log")
        found = []
        while some := file.lines(most):
            found += some
        assert [line.text for line in found] == lines
        assert all(file.line_at(line.at) == line.text + b"\n" for line in found)


def test_a_replaced_file_begins_anew(tmp_path: Path) -> None:
    file = FollowedFile(tmp_path / "log")
    append(file.path, b"old\nlines\n")
    assert len(texts(file)) == 2
    (tmp_path / "new").write_bytes(b"old\nlines\nand more\n")
    os.replace(tmp_path / "new", file.path)
    assert texts(file) == [b"old", b"lines", b"and more"]
    assert file.generation == 1


def test_a_cut_or_rewritten_file_begins_anew(tmp_path: Path) -> None:
    file = FollowedFile(tmp_path / "log")
    append(file.path, b"a,b\n1,2\n3,4\n")
    assert len(texts(file)) == 3
    os.truncate(file.path, 4)
    assert texts(file) == [b"a,b"]
    append(file.path, b"5,6\n")
    assert texts(file) == [b"5,6"]
    file.path.write_bytes(b"a,b,c\n5,6,\n7,8,9\n")  # the same inode, and longer
    assert texts(file) == [b"a,b,c", b"5,6,", b"7,8,9"]
    file.path.unlink()
    assert texts(file) == []
    assert file.generation == 3
