"""Run the programs of attacks/*.yaml on a sandbox and report which of them succeeded.

A file of attacks is a list of entries:

    name    unique in all files
    code    the program; a line before it defines the names in capitals (see `Host.names` in
            surroundings.py)
    each    optional list: the program runs once per item, with ITEM set to the item
    grow    optional: {text, times}; GROWN in the code is replaced by the text, repeated
    uses    optional: `syscall` defines syscall(name, *args) -> (result, errno) and REFUSED, see
            helpers.yaml
    then    optional second program, run after the first on the same target
    breach  how a successful attack shows:
              output   it printed BREACH (it does so only if the attack worked)
              ok       the last program's result was ok
              failure  run() raised an exception instead of returning a result
              never    a control: it must succeed and print `expect`
    slow    true: it takes a whole time limit and adds little to the others
    why     what would be wrong

Whatever `breach` says, these are findings for every program: BREACH in the output, the secret in
any field of the result, an exception from run(), a changed file, a connection, a signal to this
process, a bystander that is dead, stopped or reniced, a process left behind, too much time, a field
that is too long or not plain text, and a target on which the next program does not run.

    python tests/sandbox/attack.py --target naive
    python tests/sandbox/attack.py --target sandbox --cpu-seconds 0.5 --wall-seconds 2
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import yaml
from surroundings import HangError, Host, Limits, descendants, standing

from slm_math.types import RunResult

ATTACKS = Path(__file__).resolve().parent / "attacks"
PROBE, PROBED = "print(6 * 7)", "42"
SLACK_SECONDS, SLACK_BYTES = 60.0, 1024  # the machine may be busy


class Target(Protocol):
    def run(self, code: str) -> RunResult: ...


@dataclass(frozen=True)
class Attack:
    name: str
    group: str
    code: str
    breach: str
    then: str = ""
    item: Any = None
    expect: str = ""
    uses: str = ""
    slow: bool = False
    why: str = ""


@dataclass(frozen=True)
class Finding:
    name: str
    reason: str
    detail: str = field(default="", compare=False)


class Naive:
    """A target on which most attacks succeed: a plain interpreter with only a time limit."""

    def __init__(self, wall_seconds: float = 5.0) -> None:
        self.wall_seconds = wall_seconds

    def run(self, code: str) -> RunResult:
        command = [sys.executable, "-c", code]
        try:
            done = subprocess.run(
                command, capture_output=True, timeout=self.wall_seconds, stdin=subprocess.DEVNULL
            )
        except subprocess.TimeoutExpired as late:
            out, err = (
                (part or b"").decode(errors="replace") for part in (late.stdout, late.stderr)
            )
            return RunResult(False, out, "Timeout", timed_out=True, stderr=err)
        out, err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        error = (
            ""
            if done.returncode == 0
            else err.strip().rpartition("\n")[2] or f"exit status {done.returncode}"
        )
        return RunResult(done.returncode == 0, out, error, stderr=err)


def load_attacks(folder: Path = ATTACKS) -> list[Attack]:
    """All attacks of the folder, in the order of the files. Raises ValueError for a bad entry."""
    attacks: list[Attack] = []
    names = set()
    for path in sorted(folder.glob("*.yaml")):
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
        for entry in entries if isinstance(entries, list) else []:
            name = entry["name"]
            if (
                name in names
                or entry["breach"] not in ("output", "ok", "failure", "never")
                or not entry.get("why")
            ):
                raise ValueError(
                    f"{path}: {name}: a name used twice, an unknown `breach` or no `why`"
                )
            names.add(name)
            grow = entry.pop("grow", {"text": "", "times": 0})
            entry["code"] = entry["code"].replace("GROWN", grow["text"] * grow["times"])
            items = entry.pop("each", None)
            if items is None:
                attacks.append(Attack(group=path.stem, **entry))
                continue
            for number, item in enumerate(items):
                entry["name"] = f"{name}[{item[0] if isinstance(item, list) else number}]"
                attacks.append(Attack(group=path.stem, item=item, **entry))
    return attacks


def entries(attacks: list[Attack]) -> dict[str, int]:
    """The number of entries per group; an entry with `each` counts once."""
    seen = {(attack.group, attack.name.partition("[")[0]) for attack in attacks}
    return {
        group: sum(1 for other, _ in seen if other == group)
        for group in sorted({group for group, _ in seen})
    }


def head(attack: Attack, host: Host, limits: Limits) -> str:
    """The line before a program, which defines its names in capitals."""
    names = host.names(limits) | ({} if attack.item is None else {"ITEM": attack.item})
    line = "; ".join(f"{name} = {value!r}" for name, value in names.items())
    if attack.uses:
        helpers = yaml.safe_load((ATTACKS / "helpers.yaml").read_text(encoding="utf-8"))
        text = f"{attack.code} {attack.then} {attack.item}"
        numbers = {
            name: pair
            for name, pair in helpers["numbers"].items()
            if re.search(rf"\b{name}\b", text)
        }
        line += f"; NUMBERS = {numbers!r}; exec({helpers[attack.uses]!r})"
    return line + "\n"


def judge(
    attack: Attack, code: str, result: RunResult, limits: Limits, token: str
) -> Iterator[str]:
    """The findings in the result of one program."""
    texts = {name: value for name, value in asdict(result).items() if isinstance(value, str)}
    for name, kind in (
        ("ok", bool),
        ("timed_out", bool),
        ("output_overflow", bool),
        ("error_line", int),
    ):
        if type(getattr(result, name)) is not kind:
            yield f"{name} is {getattr(result, name)!r:.80}"
    for name in ("stdout", "stderr", "value", "error", "error_type"):
        value = texts.get(name, "")
        if name not in texts or any("\ud800" <= letter <= "\udfff" for letter in value):
            yield f"{name} is not plain text"
        elif len(value.encode()) > limits.output_kb * 1024 + SLACK_BYTES:
            yield f"{name} is {len(value.encode())} bytes long"
        if token in value:
            yield f"the secret is in {name}"
    if "\n" in result.error:
        yield "the error is more than a line"
    if type(result.error_line) is int and not 0 <= result.error_line <= code.count("\n") + 1:
        yield f"error_line {result.error_line} is not a line of the program"
    if attack.breach != "never" and "BREACH" in f"{result.stdout} {result.value}":
        yield "printed BREACH"
    if attack.breach == "never" and not (
        result.ok and result.stdout.rstrip("\n") == attack.expect.rstrip("\n")
    ):
        yield (
            f"the control failed: ok={result.ok} stdout={result.stdout[-200:]!r} "
            f"error={result.error[:200]!r}"
        )


def try_attack(attack: Attack, target: Target, host: Host, limits: Limits) -> Iterator[str]:
    """Run one attack, then check everything that it could have done."""
    before = descendants(host.pid)
    codes = [head(attack, host, limits) + code for code in (attack.code, attack.then) if code]
    for number, code in enumerate([*codes, PROBE]):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        signal.setitimer(signal.ITIMER_REAL, limits.wall_seconds + 2 * SLACK_SECONDS)
        start = time.monotonic()
        try:
            result = target.run(code)
        except Exception as error:
            yield f"run() raised {type(error).__name__}: {str(error)[:200]}"
            continue
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        seconds = time.monotonic() - start
        if number == len(codes):
            if not result.ok or result.stdout.strip() != PROBED:
                yield f"the next program did not run: {result.error[:200]!r}"
            break
        yield from judge(attack, code, result, limits, host.token)
        if attack.breach == "ok" and result.ok and number == len(codes) - 1:
            yield "the result is ok"
        if seconds > limits.wall_seconds + SLACK_SECONDS:
            yield f"took {seconds:.1f} s"
        if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak > 200 * 1024:
            yield "this process took 200 MB for the result"
    # a target may replace its own processes, so only their number counts; the last ones get a
    # moment to end
    for _ in range(20):
        after = descendants(host.pid)
        if len(after) <= len(before):
            break
        time.sleep(0.05)
    else:
        yield f"left {len(after) - len(before)} processes behind"
        end(after - before)
    yield from host.traces()


def end(pids: set[int]) -> None:
    """Kill processes below this one, and reap those that are its children."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for pid in pids:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)


def run_attacks(target: Target, host: Host, limits: Limits, attacks: list[Attack]) -> list[Finding]:
    """Run attacks one after another. `host` must be entered before the target is started."""
    target.run(PROBE)
    host.stood[1] = standing(host.pid)
    findings = []
    for attack in attacks:
        try:
            # one attack may be seen in several ways, or twice in the same way
            reasons = dict.fromkeys(try_attack(attack, target, host, limits))
        except HangError:
            findings.append(
                Finding(attack.name, "run() did not come back, stopped here", attack.why)
            )
            return findings
        findings += [Finding(attack.name, reason, attack.why) for reason in reasons]
    return findings


def select_attacks(
    only: str = "", slow: bool = True, first: bool = False, part: str = "1/1"
) -> list[Attack]:
    """The attacks whose group/name matches `only`, optionally the fast ones or one item of each.

    The parts 1/n to n/n are all of them, and each has some of every group.
    """
    chosen = [
        attack for attack in load_attacks() if re.search(only, f"{attack.group}/{attack.name}")
    ]
    if first:
        chosen = list(
            {attack.name.partition("[")[0]: attack for attack in reversed(chosen)}.values()
        )[::-1]
    number, parts = map(int, part.split("/"))
    return [attack for attack in chosen if slow or not attack.slow][number - 1 :: parts]


@contextlib.contextmanager
def open_target(args: argparse.Namespace) -> Iterator[Target]:
    if args.target == "naive":
        yield Naive(args.wall_seconds)
        return
    from slm_math.sandbox import Sandbox

    names = ("workers", "cpu_seconds", "wall_seconds", "memory_mb", "output_kb", "tier")
    options = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    with Sandbox(**options) as sandbox:
        yield sandbox


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Runs the attacks on a target; exit status 1 when one got through."
    )
    parser.add_argument("--target", choices=("naive", "sandbox"), required=True)
    parser.add_argument("--tier")
    parser.add_argument("--cpu-seconds", type=float, default=1.0)
    parser.add_argument("--wall-seconds", type=float, default=4.0)
    parser.add_argument("--memory-mb", type=int, default=512)
    parser.add_argument("--output-kb", type=int, default=16)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--only", default="", help="a regular expression on group/name")
    parser.add_argument("--fast", action="store_true", help="leaves out the slow ones")
    parser.add_argument(
        "--first", action="store_true", help="only the first of an attack's several items"
    )
    parser.add_argument("--part", default="1/1", help="2/3: the second third of them")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    limits = Limits(args.wall_seconds, args.memory_mb, args.output_kb)
    attacks = select_attacks(args.only, not args.fast, args.first, args.part)
    start = time.monotonic()
    with Host() as host:
        before = descendants(host.pid)
        with open_target(args) as target:
            findings = run_attacks(target, host, limits, attacks)
        end_by = time.monotonic() + 60  # what is killed takes a moment to be gone
        while (
            left := descendants(host.pid) - before - {host.bystander.pid}
        ) and time.monotonic() < end_by:
            time.sleep(0.05)
        if left:
            findings.append(Finding("the-end", f"{len(left)} processes outlived the target"))
            end(left)
    if args.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        for finding in findings:
            print(f"{finding.name}: {finding.reason}")
        broken = len({finding.name for finding in findings})
        counts = ", ".join(f"{group} {count}" for group, count in entries(attacks).items())
        print(
            f"{broken} of {len(attacks)} programs with findings, {time.monotonic() - start:.0f} s "
            f"({counts})"
        )
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
