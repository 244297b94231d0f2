"""Where evaluations are: the folders of agents in an output folder, the evaluations of a training
run, and all of them below a folder that a user names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from slm_math.records.files import read_manifest
from slm_math.records.run_folder import CONTROLS, TRAINED, read_run

BLIND = ".blind"  # ends the name of an agent's folder that holds its blind control
TWINS = ".twins"  # that of one that holds the evaluation of the unseen twins
TWIN_OF = "twin_of"  # the tag of a twin: the id of its problem
BESIDE = (BLIND, TWINS)  # ends of names of folders that belong to another evaluation
RECORDS = "records.jsonl"
LEVELS = 3  # how far below a named folder runs are looked for

# folders of one rank's share, and of evaluations that were set aside
_NOT_AN_AGENT = re.compile(r"^rank-\d+$|\.replaced-\d+$")
_SET_ASIDE = re.compile(r"^(\.|replaced-\d+$)|\.replaced-\d+$")
_EPOCH = re.compile(r"epoch-(\d+)")
_STEP = re.compile(r"step-(\d+)")
_OTHERS = ("start", "validate", "test", "predict")  # what `fit` evaluates before, and others do
_SECONDS = len("2026-01-31T23:59:59")


def evaluation_folders(folder: Path) -> dict[str, Path]:
    """The folders of agents by name, `<agent>` or, with several data sets, `<set>/<agent>`.

    In the order in which they were started; without the shares of single ranks, and without
    evaluations that were set aside.
    """
    files = (file for depth in ("*", "*/*") for file in folder.glob(f"{depth}/{RECORDS}"))
    paths = [file.parent for file in files if not _NOT_AN_AGENT.search(file.parent.name)]
    paths.sort(key=lambda path: (str(read_manifest(path).get("started", "")), str(path)))
    return {path.relative_to(folder).as_posix(): path for path in paths}


def training_stages(root: Path) -> list[Path]:
    """The folders of a training run's evaluations, in the order of training; others (test,
    validate) come first. [] for a folder that is not that of a training run.
    """

    def order(path: Path) -> tuple[int, int]:
        step, epoch = _STEP.fullmatch(path.name), _EPOCH.fullmatch(path.name)
        if epoch:
            return 3, int(epoch[1])
        return (2, int(step[1])) if step else (int(path.name == "start"), 0)

    evaluated = (path for path in (root / "eval").glob("*") if evaluation_folders(path))
    found = sorted(evaluated, key=order)
    trained = any(TRAINED.fullmatch(path.name) or path.name in _OTHERS for path in found)
    return found if trained or read_run(root) else []


def control_arms(root: Path) -> dict[str, Path]:
    """The folders of a training run's control arms by name, in the order in which they began."""
    arms = [path for path in (root / CONTROLS).glob("*") if training_stages(path)]
    return {path.name: path for path in sorted(arms, key=_started)}


def beside(folder: Path, end: str) -> Path:
    """The folder beside an agent's own whose name has this end."""
    return folder.with_name(folder.name + end)


def run_of(stage: Path) -> Path | None:
    """The folder of the training run that made an evaluation; None for another folder."""
    root = stage.resolve().parent.parent
    return root if stage.resolve().parent.name == "eval" and read_run(root) else None


def check_folder(folder: str, path: Path) -> None:
    """Raises ValueError unless what a user named `folder` is one, at its path."""
    if path.is_file():
        raise ValueError(
            f"{folder} is a file, and folders of evaluations are wanted here (`slm-math grade` "
            "makes one of a file of completions with --records FOLDER)"
        )
    if not path.is_dir():
        raise ValueError(
            f"{folder} is neither a folder that `slm-math eval` or a training run wrote, nor a "
            "file of completions"
        )


def named_runs(folder: str) -> list[str]:
    """The evaluations and training runs that a user named by a folder: the folder itself, or those
    below it, in the order in which they were started.

    Raises ValueError for a folder that does not exist, or that holds none.
    """
    path = Path(folder)
    check_folder(folder, path)
    found = _below(path, LEVELS)
    if not found:
        raise ValueError(
            f"{folder} holds no evaluation: neither {RECORDS} of an agent, nor folders of agents, "
            "nor training runs"
        )
    if found == [path]:
        return [folder]
    return [str(Path(folder) / run.relative_to(path)) for run in sorted(found, key=_started)]


def add_distinct(places: dict[str, Path], folder: str) -> None:
    """Adds a folder by its name; one that is named twice ends in a slash, so that who reads them
    can say so.
    """
    path = Path(folder)
    while folder in places:
        folder += "/"
    places[folder] = path


def last_evaluation(folder: str) -> str:
    """The last evaluation of a training run; of another folder, the folder itself."""
    own = [] if (Path(folder) / RECORDS).is_file() else training_stages(Path(folder))
    return str(of_one_run(Path(folder), own)[0][-1]) if own else folder


def of_one_run(root: Path, stages: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """The stages that the run of the root's manifest evaluated, and a note on those of an earlier
    run, which versions that allowed a second run in a root left there.
    """
    run = read_run(root)
    fresh = "run" not in run and not any("--ckpt_path" in str(a) for a in run.get("command", ()))

    def foreign(stage: Path) -> bool:
        if not (TRAINED.fullmatch(stage.name) or stage.name == "start"):
            return False
        [manifest, *_] = map(read_manifest, evaluation_folders(stage).values())
        own, started = manifest.get("about", {}).get("run"), str(manifest.get("started", ""))
        if own is not None or not fresh:
            return own not in (None, run.get("run"))
        return bool(run and started) and started[:_SECONDS] < str(run["started"])[:_SECONDS]

    others = [stage for stage in stages if foreign(stage)]
    mine = [stage for stage in stages if stage not in others]
    if not mine:  # the run has evaluated nothing yet
        return list(stages), [f"{root}: the evaluations are of an earlier run in this folder"]
    names = ", ".join(stage.name for stage in others)
    return mine, [f"{root}: left out, of an earlier run in this folder: {names}"] if others else []


def _below(folder: Path, levels: int) -> list[Path]:
    """The folder if it is one evaluation or one training run, else those in it."""
    if (folder / RECORDS).is_file():
        return [folder]
    if training_stages(folder):
        return [folder, *control_arms(folder).values()]
    inside = []
    if levels:
        folders = (path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())
        names = (path for path in folders if not _SET_ASIDE.search(path.name))
        inside = [run for path in sorted(names) for run in _below(path, levels - 1)]
    if evaluation_folders(folder) and not any(map(training_stages, inside)):
        return [folder]
    return inside


def _started(folder: Path) -> tuple[str, str]:
    agents = [folder] if (folder / RECORDS).is_file() else evaluation_folders(folder).values()
    times = [str(read_manifest(path).get("started", "")) for path in agents]
    return str(read_run(folder).get("started") or min(times, default="")), str(folder)
