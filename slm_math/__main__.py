"""`python -m slm_math` and the `slm-math` command."""

from __future__ import annotations


def main() -> None:
    from slm_math.cli import run

    run()


if __name__ == "__main__":
    main()
