"""The tables and the filter of the boundary, for both architectures, tested without a kernel."""

import os
import re
import signal
import struct
from pathlib import Path

import pytest

from slm_math.sandbox import boundary

PID = 4242
HEADERS = {
    "x86_64": "/usr/include/x86_64-linux-gnu/asm/unistd_64.h",
    "aarch64": "/usr/include/asm-generic/unistd.h",
}
TABLES = boundary.ALLOWED | boundary.CHECKED | boundary.READING | boundary.OPENING
ALLOW, KILL, EPERM, ENOTTY = 0x7FFF0000, 0x80000000, 0x00050001, 0x00050019


def verdict(
    machine: str, number: int, *arguments: int, reading: bool = False, arch: int | None = None
) -> int:
    """Run the filter as the kernel does: an accumulator, forward jumps, a verdict."""
    code = boundary.program(machine, PID, reading)
    steps = [struct.unpack_from("=HBBI", code, at) for at in range(0, len(code), 8)]
    values = [value & (1 << 64) - 1 for value in (*arguments, 0, 0, 0, 0, 0, 0)[:6]]
    data = struct.pack(
        "=IIQ6Q", number, boundary.ARCHITECTURES[machine][1] if arch is None else arch, 0, *values
    )
    at = accumulator = 0
    while True:
        operation, then, otherwise, value = steps[at]
        at += 1
        if operation == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, value)
        elif operation == 0x06:
            return value
        else:
            hit = {
                0x15: accumulator == value,
                0x35: accumulator >= value,
                0x45: bool(accumulator & value),
            }[operation]
            at += then if hit else otherwise


def number(name: str, machine: str) -> int:
    found = TABLES[name][boundary.ARCHITECTURES[machine][0]]
    if found is None:
        pytest.skip(f"{machine} has no {name}")
    return found


@pytest.mark.parametrize("machine", HEADERS)
def test_the_numbers_are_those_of_the_kernels_headers(machine: str) -> None:
    header = Path(HEADERS[machine])
    if not header.exists():
        pytest.skip(f"{header} is not installed")
    known = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", header.read_text()))
    known["newfstatat"] = known.get("newfstatat", known.get("fstatat"))
    column = boundary.ARCHITECTURES[machine][0]
    wrong = {
        name: (numbers[column], known.get(name))
        for name, numbers in TABLES.items()
        if numbers[column] is not None and str(numbers[column]) != known.get(name)
    }
    assert not wrong


@pytest.mark.parametrize("reading", [False, True])
@pytest.mark.parametrize("machine", HEADERS)
def test_what_is_in_no_table_is_refused(machine: str, reading: bool) -> None:
    column = boundary.ARCHITECTURES[machine][0]
    plain = {
        numbers[column]
        for numbers in (boundary.ALLOWED | (boundary.READING if reading else {})).values()
    }
    checked = {
        numbers[column]
        for numbers in (boundary.CHECKED | (boundary.OPENING if reading else {})).values()
    }
    for call in [*range(700), 0x40000000, 0x40000001, 0x400000FF, 0xFFFFFFFF]:
        if call not in checked:
            assert verdict(machine, call, reading=reading) == (ALLOW if call in plain else EPERM), (
                call
            )


@pytest.mark.parametrize("machine", HEADERS)
def test_another_architectures_calls_kill(machine: str) -> None:
    for arch in (0x40000003, 0x40000028, 0):  # 32-bit x86, 32-bit arm
        assert verdict(machine, 1, arch=arch) == KILL


@pytest.mark.parametrize(
    ("call", "arguments", "allowed"),
    [
        ("kill", (PID, signal.SIGABRT), True), ("kill", (PID, signal.SIGKILL), False), ("kill", (1,
        0), False),
        ("kill", (0, 0), False), ("kill", (-1, 0), False), ("kill", (-PID, 0), False),
        ("tkill", (PID, 6), True), ("tkill", (PID + 1, 6), False), ("tkill", (PID, 9), False),
        ("tgkill", (PID, PID, 6), True), ("tgkill", (1, PID, 6), False), ("tgkill", (PID, 1, 6),
        False),
        ("tgkill", (PID, PID, 9), False),
        ("mmap", (0, 4096, 3, 0x22), True), ("mmap", (0, 4096, 7, 0x22), False), ("mmap", (0, 4096,
        4, 2), False),
        ("mmap", (0, 4096, 3, 0x40022), False), ("mmap", (0, 4096, 3, 0x21), False), ("mmap", (0,
        4096, 3, 3), False),
        ("mremap", (0, 1, 2, 1), True), ("mremap", (0, 1, 2, 5), False),
        ("madvise", (0, 4096, 4), True), ("madvise", (0, 4096, 9), False), ("madvise", (0, 4096,
        -1), False),
        ("futex", (0, 128, 1), True), ("futex", (0, 393, 1), True), ("futex", (0, 6, 1), False),
        ("futex", (0, 0, 1), False), ("futex", (0, 1, 1), False), ("futex", (0, 129, 1), True),
        ("clock_gettime", (1,), True), ("clock_gettime", (-14,), False), ("clock_nanosleep", (12,),
        False),
        ("sched_getaffinity", (0,), True), ("sched_getaffinity", (PID,), True),
        ("sched_getaffinity", (1,), False),
        ("mprotect", (0, 4096, 3), True), ("mprotect", (0, 4096, 5), False),
        ("fcntl", (1, 3), True), ("fcntl", (1, 1030), True), ("fcntl", (1, 8), False), ("fcntl", (1,
        1031), False),
        ("fcntl", (1, 4), False),
        ("prlimit64", (0, 7, 0, 1), True), ("prlimit64", (0, 7, 1, 0), False), ("prlimit64", (1, 7,
        0, 1), False),
        ("prlimit64", (0, 7, 1 << 32, 0), False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("machine", HEADERS)
def test_arguments_decide(
    machine: str, call: str, arguments: tuple[int, ...], allowed: bool
) -> None:
    assert verdict(machine, number(call, machine), *arguments) == (ALLOW if allowed else EPERM)


@pytest.mark.parametrize(
    ("flags", "allowed"),
    [
        (0, True),
        (0x80000, True),
        (1, False),
        (2, False),
        (0x40, False),
        (0x200, False),
        (0x200000, False),
    ],
)
@pytest.mark.parametrize("machine", HEADERS)
def test_files_are_opened_for_reading_only(machine: str, flags: int, allowed: bool) -> None:
    assert verdict(machine, number("openat", machine), 0, 0, flags, reading=True) == (
        ALLOW if allowed else EPERM
    )
    assert verdict(machine, number("openat", machine), 0, 0, flags) == EPERM


@pytest.mark.parametrize("machine", HEADERS)
def test_reading_maps_the_code_of_files_only(machine: str) -> None:
    mmap = number("mmap", machine)
    assert verdict(machine, mmap, 0, 4096, 5, 0x02, reading=True) == ALLOW
    assert verdict(machine, mmap, 0, 4096, 5, 0x22, reading=True) == EPERM
    assert verdict(machine, mmap, 0, 4096, 7, 0x02, reading=True) == EPERM
    assert verdict(machine, mmap, 0, 4096, 3, 0x22, reading=True) == ALLOW
    assert verdict(machine, number("ioctl", machine), 1, 0x5401) == ENOTTY


def test_other_architectures_are_refused() -> None:
    with pytest.raises(OSError, match="riscv64, only for x86_64 and aarch64"):
        boundary.program("riscv64", 1, False)


@pytest.mark.parametrize("reading", [False, True])
def test_a_filter_that_was_built_before_has_the_number_of_its_process(reading: bool) -> None:
    machine = os.uname().machine
    built = boundary.Filter(reading)
    for pid in (1, 4242, 0x01010101, 4194304, 300):  # each time in the place of the one before
        assert built.of(pid) == boundary.program(machine, pid, reading)
