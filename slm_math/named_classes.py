"""The classes that configs name by their short names, found in source files."""

from __future__ import annotations

import re

from slm_math.signatures import OURS, ROOT, Signature, Slot, read, signature

_PLACES = ("slm_math.agents", "slm_math.data", "slm_math.rewards", "slm_math.short_names")
_ALL_PLACES = (*_PLACES, "slm_math.training", "slm_math.callbacks", "lightning.pytorch.callbacks")
# classes whose place another one takes; of all others a config gives the options alone
SUBCLASSED = ("Agent", "Reward", "Source", "Engine", "PolicyModule", "SourceData", "Sandbox")


def find_class(name: str) -> Signature | None:
    """The class of a short name or a dotted path."""
    if "." in name:
        return signature(name)
    found = (signature(f"{place}.{name}") for place in _ALL_PLACES)
    return next((cls for cls in found if cls is not None), None)


def known_classes(slot: Slot) -> set[str]:
    """The short names of the classes that a slot takes."""
    bases = {cls.name for cls in slot.classes}
    known: set[str] = set()
    places = [*_PLACES, "slm_math.training"] if bases else ["slm_math.callbacks"]
    # all classes of these are in the package of their base; the others take longer to read
    if bases <= {"Agent", "Reward", "Source"}:
        rooms = {".".join(cls.module.split(".")[:2]) for cls in slot.classes}
        places = [place for place in places if place in rooms] or places
    for place in places:
        module = read(place)
        for name in module.imported if module else ():
            found = signature(f"{place}.{name}")
            if found is not None and (not bases or bases & found.bases):
                known.add(name)
    return known - {"LightningArgumentParser", "LightningCLI", *SUBCLASSED}


def is_defined(name: str) -> bool:
    """Whether some file of the project defines a class of this name."""
    text = re.compile(rf"class {name}\b".encode())
    # in a source tree the folder of callbacks is a link, which rglob does not follow
    folders = (ROOT / OURS, ROOT / OURS / "callbacks")
    files = (file for folder in folders for file in folder.rglob("*.py"))
    return any(text.search(file.read_bytes()) for file in files)
