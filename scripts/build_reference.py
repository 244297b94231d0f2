"""Writes docs/reference from signatures, docstrings, the first lines of configs, and the meanings
of metrics.

    python scripts/build_reference.py            writes what changed
    python scripts/build_reference.py --check    names the pages that are stale; exit status 1

No class is imported: sources are read.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1])]

from reference.pages import PAGES  # noqa: E402

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "reference"


def stale(folder: Path = FOLDER) -> dict[Path, str]:
    """The pages that are missing or differ from the code, with the text that they should have."""
    texts = {folder / f"{name}.md": write() for name, write in PAGES.items()}
    return {
        path: text
        for path, text in texts.items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    }


def main(arguments: list[str]) -> int:
    pages = stale()
    if "--check" in arguments:
        for path in pages:
            print(f"{path}: stale, run python scripts/build_reference.py")
        return bool(pages)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for path, text in pages.items():
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
