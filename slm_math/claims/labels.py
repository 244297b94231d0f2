"""What the runs of a claim are called: by their manifests, and by nobody else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from slm_math.evaluation import blind, twins
from slm_math.records.files import differences

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


def control_name(run: str, control: str) -> str:
    """The name of a control of a run."""
    return f"{run}, {control}"


def check_control(run: Mapping[str, Any], control: Mapping[str, Any], name: str, of: str) -> None:
    """Raises ValueError unless the manifest of a control says that it is the control `name` of the
    run `of`, whose manifest is the first: with blank images, or of twins; or a control arm of the
    training run, after as many batches. All else that identifies both has to be equal.
    """
    called = control_name(of, name)
    about, theirs = run.get("about", {}), control.get("about", {})
    if name in _OWN:
        mark = _OWN[name][0]
        if control["identity"].get(mark) is not True:
            raise ValueError(f"{called}: its manifest does not say identity.{mark}")
    else:
        stated = theirs.get("control")
        arm = stated if isinstance(stated, dict) else {}
        if arm.get("arm") != name or arm.get("run") != about.get("run"):
            raise ValueError(
                f"{called}: its manifest does not say that it is the control arm {name} of this "
                f"run (about.control: {stated!r:.80})"
            )
        if theirs.get("batches") != about.get("batches"):
            raise ValueError(
                f"{called}: it was evaluated after {theirs.get('batches')} batches, and the run "
                f"after {about.get('batches')}"
            )
    own = _OWN.get(name, _ARM)
    changed = differences(run["identity"], control["identity"])
    if more := [key for key in changed if key not in own]:
        raise ValueError(f"{called}: {', '.join(more)} of its manifest are not those of {of}")
