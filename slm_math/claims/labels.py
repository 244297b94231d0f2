"""What the runs of a claim are called: by their manifests, and by nobody else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from slm_math.evaluation import blind, twins
from slm_math.records.files import differences

if TYPE_CHECKING:
    from slm_math.claims.frozen import FrozenRun

BLIND, TWINS = "blind", "twins"  # controls that are no arms of a training run
# by control: in what its identity differs from that of its run, of which one part says what it is
_OWN = {BLIND: blind.OWN, TWINS: twins.OWN}
_ARM = ("weights",)


def folder_of(manifest: Mapping[str, Any]) -> PurePosixPath:
    """The folder in which an evaluation was written, as its manifest says; of an earlier version,
    whose manifests do not say it, the class of the agent.
    """
    stated = manifest.get("folder")
    if isinstance(stated, str) and PurePosixPath(stated).name:
        return PurePosixPath(stated)
    agent = manifest["identity"].get("agent")
    kind = agent.get("class") if isinstance(agent, dict) else None
    return PurePosixPath(str(kind or "unnamed").rpartition(".")[2].replace("/", "_") or "unnamed")


def names_of(folders: Sequence[PurePosixPath]) -> list[str]:
    """The folders without what all have in common at the beginning, which is of one machine; those
    of equal names with their place in the claim.
    """
    parts = [folder.parts for folder in folders]
    common = min(map(len, parts)) - 1
    while common and len({each[:common] for each in parts}) > 1:
        common -= 1
    names = ["/".join(each[common:]) for each in parts]
    counts = Counter(names)
    return [
        f"{name} (run {place})" if counts[name] > 1 else name for place, name in enumerate(names, 1)
    ]


def control_name(run: str, control: str) -> str:
    """The name of a control of a run."""
    return f"{run}, {control}"


def check_control(run: FrozenRun, name: str, control: FrozenRun) -> None:
    """Raises ValueError unless the manifest of a control says that it is this control of this run:
    with blank images, or of twins; or a control arm of the training run, after as many batches. All
    else that identifies both evaluations has to be equal.
    """
    if name in _OWN:
        mark = _OWN[name][0]
        if control.identity.get(mark) is not True:
            raise ValueError(f"{control.name}: its manifest does not say identity.{mark}")
    else:
        arm, theirs = control.stated("control"), control.stated("batches")
        said = arm if isinstance(arm, dict) else {}
        if said.get("arm") != name or said.get("run") != run.stated("run"):
            raise ValueError(
                f"{control.name}: its manifest does not say that it is the control arm {name} of "
                f"this run (about.control: {arm!r:.80})"
            )
        if theirs != run.stated("batches"):
            raise ValueError(
                f"{control.name}: it was evaluated after {theirs!r:.20} batches, and the run after "
                f"{run.stated('batches')!r:.20}"
            )
    own = _OWN.get(name, _ARM)
    if more := [key for key in differences(run.identity, control.identity) if key not in own]:
        raise ValueError(
            f"{control.name}: {', '.join(more)} of its manifest are not those of {run.name}"
        )
