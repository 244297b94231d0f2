#!/usr/bin/env python3
"""Check tiny models of many architectures: is what is decoded and trained what a plain pass says?

    python scripts/check_models.py [NAME ...] [--markdown]

Every model has random weights in float64. Prompts of several lengths, some of them equal, are
decoded in few slots, so that rows are padded, leave and join. Greedy replies must be those of
`generate` for the prompt alone; the log-probabilities that the engine records, and those that
training computes for a batch of these rows, must be those of a plain forward pass of each row to
1e-6. Models that this project refuses must be refused before they are loaded. Exits with 1 if a
model is neither right nor refused. The table of docs/models.md is the output of `--markdown`.
"""

from __future__ import annotations

import argparse
import sys
import time

import torch
import transformers
from model_checks.checks import outcome
from model_checks.models import MODELS

from slm_math.policy.chat import ChatFormat
from slm_math.policy.scratch import Scratch


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="models to check; all by default")
    parser.add_argument("--markdown", action="store_true", help="print the table of the docs")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    chat = ChatFormat(Scratch().tokenizer())
    bad, names = 0, options.names or list(MODELS)
    for name in names:
        start = time.process_time()
        try:
            way, wrong = outcome(MODELS[name], chat)
        except Exception as error:
            way, wrong = "failed", f"{type(error).__name__}: {error}".splitlines()[0]
        bad += bool(wrong)
        seconds = time.process_time() - start
        if options.markdown:
            print(f"| {name} | `{MODELS[name].type}` | {wrong or way} |", flush=True)
        else:
            print(f"{name:24} {way:10} {wrong or 'right'} ({seconds:.1f} s)", flush=True)
    types = {MODELS[name].type for name in names}
    versions = f"transformers {transformers.__version__}, torch {torch.__version__}"
    print(f"\n{len(names)} models of {len(types)} architectures, {bad} wrong ({versions})")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
