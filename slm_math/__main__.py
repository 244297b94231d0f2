"""`python -m slm_math` and the `slm-math` command."""

from __future__ import annotations

import sys


def main() -> None:
    from slm_math.cli import run
    from slm_math.visible import show_exception

    sys.excepthook = show_exception
    run()


if __name__ == "__main__":
    main()
