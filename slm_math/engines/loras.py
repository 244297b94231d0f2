"""The adapter that an engine decodes with for each role, where one model serves several."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from slm_math.engines.base import EngineError
from slm_math.policy.adapter_files import base_of
from slm_math.policy.folders import local_folder

ALL = "default"  # the role that stands for all


@dataclass(frozen=True)
class Loras:
    """role -> adapter folder, None for the model without one; `ALL` stands for all roles. {} where
    there are no adapters.
    """

    places: Mapping[str, Path | None] = field(default_factory=dict)

    @classmethod
    def of(cls, path: str | Mapping[str, str]) -> Loras:
        """The adapters that the path of a model names, all roles' or one for each."""
        if isinstance(path, str):
            return cls({} if base_of(path) is None else {ALL: _folder(path)})
        return cls({r: None if base_of(p) is None else _folder(p) for r, p in path.items()})

    def __bool__(self) -> bool:
        return bool(self.places)

    @property
    def folders(self) -> dict[str, Path]:
        """name -> folder, each adapter once, named after the first role that has it."""
        found: dict[Path, str] = {}
        for role, folder in self.places.items():
            if folder is not None:
                found.setdefault(folder, role)
        return {name: folder for folder, name in found.items()}

    def name(self, role: str) -> str | None:
        """The name of a role's adapter, None for the model without one.

        Raises EngineError for a role that is not among those that have a place.
        """
        if not self.places:
            return None
        if role not in self.places and ALL not in self.places:
            roles = ", ".join(self.places)
            raise EngineError(f"no adapter serves role {role!r}: there are adapters for {roles}")
        folder = self.places.get(role, self.places.get(ALL))
        return next((name for name, place in self.folders.items() if place == folder), None)


def _folder(path: str) -> Path:
    return local_folder(path) or Path(path)
