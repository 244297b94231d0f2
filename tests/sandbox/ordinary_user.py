"""Start commands as an ordinary user from tests that run as root.

This works also if the interpreter lies in /root.
"""

from __future__ import annotations

import os
import shlex
import shutil
import stat
import subprocess
import sys
from pathlib import Path

NOBODY = 65534
ROOT = Path(__file__).resolve().parents[2]


def command(arguments: list[str]) -> list[str]:
    """The command line that runs `arguments` as nobody, without capabilities and groups.

    It can read the files of root, but not write them. Raises OSError if this is not possible.
    """
    if shutil.which("setpriv") is None or shutil.which("unshare") is None:
        raise OSError("setpriv or unshare is not installed")
    user = [
        f"--reuid={NOBODY}",
        f"--regid={NOBODY}",
        "--clear-groups",
        "--inh-caps=-all",
        "--bounding-set=-all",
    ]
    drop = ["setpriv", *user]
    needed = [Path(os.path.realpath(place)) for place in (sys.base_prefix, sys.prefix, ROOT)]
    blocked = {place: wall for place in needed if (wall := _wall(place)) is not None}
    steps = ["set -e", "keep=/mnt", 'mount -t tmpfs none "$keep"']
    for number, place in enumerate(blocked):
        steps += [
            f'mkdir "$keep/{number}"',
            f'mount --bind {shlex.quote(str(place))} "$keep/{number}"',
        ]
    # an empty, open folder in its place, seen by this command only
    for wall in dict.fromkeys(blocked.values()):
        steps.append(f"mount -t tmpfs -o mode=755 none {shlex.quote(str(wall))}")
    for number, place in enumerate(blocked):
        steps += [
            f"mkdir -p {shlex.quote(str(place))}",
            f'mount --bind "$keep/{number}" {shlex.quote(str(place))}',
        ]
    steps.append("exec " + shlex.join([*drop, *arguments]))
    whole = ["unshare", "--mount", "sh", "-c", "\n".join(steps)] if blocked else [*drop, *arguments]
    if arguments != ["true"]:
        tried = subprocess.run(command(["true"]), capture_output=True, text=True, check=False)
        if tried.returncode:
            raise OSError(tried.stderr.strip() or f"status {tried.returncode}")
    return whole


def _wall(place: Path) -> Path | None:
    """The outermost folder above a path that other users may not enter; None if there is none."""
    for folder in [*reversed(place.parents), place]:
        if not folder.stat().st_mode & stat.S_IXOTH:
            return folder
    return None
