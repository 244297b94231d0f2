"""A small ladder whose steps are run by a stand-in for slm-math, which takes no time."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml
from ladder.driver import Driver
from ladder.plan import ROOT, Choice, Plan, read_plan
from ladder.progress import Progress
from ladder.steps import Steps
from rich.console import Console

TABLE = ROOT / "scripts" / "table.yaml"
CONFIG = "configs/quickstart/sft.yaml"
CONTENT: dict[str, Any] = {
    "rows": [
        {"name": "base", "title": "base", "model": "base", "agent": "single"},
        {"name": "tuned", "title": "tuned", "model": "tuned", "agent": "single"},
        {
            "name": "pair",
            "group": "pairs",
            "title": "tuned solver",
            "model": {"solver": "tuned", "verifier": "base"},
            "agent": "single",
        },
    ],
    "references": ["base"],
    "profiles": {
        "embedded": {
            "steps": {
                "base": {"command": "fit", "config": [CONFIG], "options": {"x": "{seed}"}},
                "tuned": {"command": "fit", "config": [CONFIG], "options": {"from": "{base}"}},
            },
            "agents": {"single": "SingleShot"},
            "data": {"toy": "Toy"},
        }
    },
}

# what it writes depends on its arguments and on the models that they name, as slm-math's does
PROGRAM = """
import hashlib, json, os, pathlib, random, re, sys, time
command, *arguments = sys.argv[1:]
folder = pathlib.Path(os.environ["FAKE"])
value = dict(zip(arguments[::2], arguments[1::2]))
if command == "fit":
    root = pathlib.Path(value["--trainer.default_root_dir"])
    name = root.name
else:
    [name] = json.loads(value["--agents"])
    root = pathlib.Path(value["--out"]) / name
with (folder / "calls").open("a") as file:
    file.write(name + "\\n")
root.mkdir(parents=True, exist_ok=True)
(root / "begun").write_text("")
text = " ".join(arguments)
made = hashlib.sha256(text.encode())
for path in re.findall(r"[^\\s\\"]+/export", text):
    made.update(pathlib.Path(path, "model.safetensors").read_bytes())
made = made.hexdigest()
if (folder / f"wait-{name}").exists():
    time.sleep(60)
if (folder / f"fail-{name}").exists():
    print("it went wrong")
    sys.exit(3)
if (folder / f"empty-{name}").exists():
    sys.exit()
if command == "fit":
    (root / "export").mkdir(exist_ok=True)
    (root / "export" / "model.safetensors").write_text(made)
else:
    identity = {"problems": 4, "samples": 1}
    (root / "manifest.json").write_text(json.dumps({"identity": identity, "partial": False}))
    with (root / "records.jsonl").open("w") as file:
        for number in range(4):
            right = int(made[number], 16) % 2 == 0
            row = {"id": f"p{number}", "sample": 0, "correct": right}
            file.write(json.dumps(row | {"seconds": random.random()}) + "\\n")
"""


class Ladder:
    """A ladder in a folder, with the stand-in; `content` is that of its table.yaml."""

    def __init__(self, folder: Path, content: dict[str, Any]) -> None:
        self.folder, self.content, self.out = folder, content, folder / "out"
        (folder / "program.py").write_text(PROGRAM)
        content["profiles"]["embedded"]["environment"] = {"FAKE": str(folder)}

    def plan(self, **choice: Any) -> Plan:
        file = self.folder / "table.yaml"
        file.write_text(yaml.safe_dump(self.content))
        return read_plan(file, Choice(self.out, **choice))

    def climb(self, **choice: Any) -> Steps:
        """Runs all steps that are not done."""
        plan = self.plan(**choice)
        steps = Steps(plan, self.out)
        with (self.folder / "shown").open("a") as shown:
            progress = Progress(Console(file=shown, width=1000), plan, seconds=0.0)
            program = (sys.executable, "-I", "-S", str(self.folder / "program.py"))
            with progress:
                Driver(plan, steps, progress, program, pause=0.01).run()
        return steps

    def calls(self) -> list[str]:
        """The steps that ran since the last call, by the name of their folder."""
        file = self.folder / "calls"
        names = file.read_text().split() if file.exists() else []
        file.unlink(missing_ok=True)
        return names

    @property
    def shown(self) -> str:
        return (self.folder / "shown").read_text()
