"""Checks vLLM as an engine, in this process and served, against plain transformers on the same
weights.

    python scripts/check_vllm.py [--model FOLDER] [--servers N]

Without a model it makes two tiny random ones, with tied and untied embeddings. It starts
`scripts/serve_vllm.sh` itself, kills the servers in the middle of rollouts, and exits with 1 if a
measurement is out of bounds. This takes about seven minutes on one core.
"""

from __future__ import annotations

import argparse
import math
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from vllm_checks import generation, inside, servers, weights
from vllm_checks.subject import Measurement, Subject, error_text, export, tiny

from slm_math.policy.config import Lora, Policy

INSIDE, SERVED = "in process", "served"


class Findings:
    """Measurements by model and check, for both ways to run vLLM."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.rows: dict[tuple[str, str], dict[str, Measurement]] = {}

    def take(
        self, title: str, way: str, check: Callable[..., Iterator[Measurement]], *inputs: Any
    ) -> None:
        """Runs a check; a check that raises counts as a measurement out of bounds."""
        start = time.monotonic()
        measurements = []
        try:
            measurements += check(*inputs)
        except Exception as error:
            measurements.append(
                Measurement(
                    f"{check.__name__} ended early", math.nan, most=0, error=error_text(error)
                )
            )
        for measurement in measurements:
            self.rows.setdefault((title, measurement.what), {})[way] = measurement
        fine = all(measurement.passes for measurement in measurements)
        seconds = time.monotonic() - start
        self.console.print(
            f"{title}, {way}: {check.__name__} {'passes' if fine else 'FAILS'} ({seconds:.1f} s)"
        )

    @property
    def passes(self) -> bool:
        return all(measurement.passes for row in self.rows.values() for measurement in row.values())

    def table(self) -> Table:
        table = Table("check", INSIDE, SERVED, "bar", "pass")
        title = ""
        order = list(dict.fromkeys(model for model, _ in self.rows))
        for (model, what), row in sorted(
            self.rows.items(), key=lambda item: order.index(item[0][0])
        ):
            if model != title:
                title = model
                table.add_section()
                table.add_row(f"[bold]{escape(model)}[/bold]")
            measurements = [row.get(way) for way in (INSIDE, SERVED)]
            known = [measurement for measurement in measurements if measurement is not None]
            fine = all(measurement.passes for measurement in known)
            mark = "" if not known[0].bar else "yes" if fine else "[red]NO[/red]"
            table.add_row(escape(what), *map(shown, measurements), known[0].bar, mark)
        return table


def shown(measured: Measurement | None) -> str:
    if measured is None:
        return "-"
    return escape(measured.error) if measured.error else f"{measured.value:.3g}"


def check_model(
    findings: Findings, title: str, folder: Path, model: Any, tokenizer: Any, n: int, last: bool
) -> None:
    """All checks of one model, in process and served; `last`: finally the servers are killed."""
    here = Subject(inside.inside(folder), model, tokenizer)
    findings.take(title, INSIDE, inside.start, here)
    for check in (*generation.CHECKS, *weights.CHECKS):
        findings.take(title, INSIDE, check, here)
    here.engine.close()

    running = servers.started(folder, "file", n, folder.parent)
    try:
        there = Subject(servers.served(running, folder.parent / "handed"), model, tokenizer)
        there.send()
        for check in (*generation.CHECKS, *weights.CHECKS):
            findings.take(title, SERVED, check, there)
        if last:
            root, policy = folder.parent / "fit-served", Policy(path=str(folder))
            urls = [server.url for server in running]
            findings.take("training", SERVED, inside.training, root, False, policy, urls)
            there.send()  # the training run above has sent its own weights
            findings.take(title, SERVED, servers.killed, there, running)
            findings.take("failures", SERVED, weights.failed, there)  # ends the servers
        there.engine.close()
    finally:
        for server in running:
            server.kill()


def check_adapters(findings: Findings, folder: Path, model: Any, tokenizer: Any, n: int) -> None:
    title, peft = "adapters", weights.with_adapters(model)
    here = Subject(inside.for_adapters(folder), peft, tokenizer)
    findings.take(title, INSIDE, weights.adapters, here, folder.parent / "adapters-here")
    here.engine.close()

    running = servers.started(folder, "adapters", n, folder.parent)
    try:
        there = Subject(
            servers.served(running, folder.parent / "handed"),
            weights.with_adapters(model),
            tokenizer,
        )
        findings.take(title, SERVED, weights.adapters, there, folder.parent / "adapters-there")
        policy = Policy(path=str(folder), lora=Lora(r=4, alpha=8, dropout=0.0))
        urls = [server.url for server in running]
        findings.take(
            "training", SERVED, inside.training, folder.parent / "fit-adapters", True, policy, urls
        )
        weights.send_adapters(there, folder.parent / "adapters-there")
        findings.take("failures", SERVED, servers.lost, there, running)
    finally:
        for server in running:
            server.kill()


def check_failures(findings: Findings, folder: Path, model: Any, tokenizer: Any) -> None:
    """The checks that may leave vLLM unusable, which run last."""
    here = Subject(inside.inside(folder), model, tokenizer)
    findings.take("failures", INSIDE, inside.company, here, folder)
    here.engine.close()
    here = Subject(inside.inside(folder), model, tokenizer)
    here.send()
    findings.take("failures", INSIDE, weights.failed, here)


def models(path: str | None, root: Path) -> dict[str, tuple[Path, Any, Any]]:
    if path is None:
        folders = {
            f"{kind} embeddings": (root / kind, kind == "tied") for kind in ("untied", "tied")
        }
        return {title: (folder, *tiny(folder, tied)) for title, (folder, tied) in folders.items()}
    from slm_math.policy.loading import load_model, load_tokenizer

    return {
        path: (
            root / "model",
            *export(load_model(path).eval(), load_tokenizer(path), root / "model"),
        )
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="a model folder instead of two tiny random models")
    parser.add_argument(
        "--servers", type=int, default=1, help="`vllm serve` processes side by side"
    )
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # no server outlives it
    console, begun = Console(width=150), time.monotonic()
    findings = Findings(console)
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        subjects = models(options.model, root)
        for i, (title, (folder, model, tokenizer)) in enumerate(subjects.items()):
            check_model(
                findings,
                title,
                folder,
                model,
                tokenizer,
                options.servers,
                last=i == len(subjects) - 1,
            )
        check_adapters(findings, folder, model, tokenizer, options.servers)
        for lora in (False, True):
            findings.take("training", INSIDE, inside.training, root / f"fit-{lora}", lora)
        for after, lr in ((0, 1e-2), (1, 1e-2), (1, 1e-6)):
            findings.take(
                "training", INSIDE, inside.corrupted, root / f"fit-{after}-{lr}", after, lr
            )
        check_failures(findings, folder, model, tokenizer)
    console.print(findings.table())
    console.print(
        f"{time.monotonic() - begun:.0f} s; "
        f"{'all bars met' if findings.passes else 'SOME BARS MISSED'}"
    )
    return 0 if findings.passes else 1


if __name__ == "__main__":
    sys.exit(main())
