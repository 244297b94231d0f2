#!/usr/bin/env bash
# Sets everything up, then trains and evaluates all rows of the table: base, SFT, GRPO, verifiers, agents. Run the same
# command again to resume.
#
#   scripts/reproduce_table.sh [MODEL] [--limit N] [--out DIR] [--seed N] [--dry_run]
#
# Without MODEL on a tiny model that is made here (no GPU, no download); with one, such as Qwen/Qwen2.5-Math-1.5B, on
# GSM8K and MATH-500. SLM_MATH_VENV=active uses the active environment.
set -euo pipefail
scripts=$(cd "$(dirname "$0")" && pwd)
source "$scripts/setup.sh" ""  # without an argument it would see ours
exec "$python" "$scripts/table.py" "$@"
