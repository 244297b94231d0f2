"""Records as a torchmetrics Metric: what one process finds, and two."""

from __future__ import annotations

import json
import multiprocessing
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from slm_math.evaluation.torch_metrics import AgentMetrics
from slm_math.metrics.summary import summarize
from slm_math.records.encoding import from_json, to_json
from slm_math.records.record import Record


def row(i: int, sample: int = 0, text: str = "x") -> Record:
    """A record, right when i is a multiple of three."""
    turn = {
        "kind": "turn",
        "role": "solver",
        "reply": text,
        "finish": "stop" if i % 4 else "length",
        "tokens": i,
    }
    return from_json(
        {
            "id": f"p/{i}",
            "sample": sample,
            "tags": {},
            "answer": str(i) if i % 5 else None,
            "correct": i % 3 == 0,
            "reason": "equal",
            "method": "box",
            "hedged": False,
            "lenient": i % 3 == 0,
            "error": None,
            "seconds": i / 8,
            "events": [
                {**turn, "program": False, "prompt": [], "prompt_tokens": 2, "seconds": 0.25}
            ],
        }
    )


# records of rank 0 and rank 1: unequal, none on one of them, none at all, samples of a problem on
# both
SHARES: dict[str, tuple[list[Record], list[Record]]] = {
    "equal": ([row(i) for i in range(4)], [row(i) for i in range(4, 8)]),
    "unequal": ([row(i) for i in range(9)], [row(9, text="é\ud800\u2028\n" * 50)]),
    "none on the first": ([], [row(i) for i in range(5)]),
    "none on the second": ([row(i) for i in range(5)], []),
    "none": ([], []),
    "samples apart": ([row(i, 0) for i in range(6)], [row(i, 1) for i in range(6)]),
}


def filled(*batches: list[Record]) -> AgentMetrics:
    metrics = AgentMetrics()
    for records in batches:
        metrics.update(records)
    return metrics


def test_one_process_keeps_records_in_order() -> None:
    records = [row(i, s) for i in range(7) for s in range(3)]
    assert filled(records[:4], [], records[4:5], records[5:]).records() == records


def test_nothing_is_nothing() -> None:
    assert AgentMetrics().records() == filled([]).records() == []


def test_compute_is_what_summarize_computes() -> None:
    records = [row(i, s) for i in range(7) for s in range(3)]
    assert filled(records[:4], records[4:]).compute() == summarize(records).all_metrics()


def test_compute_of_nothing_is_what_summarize_computes() -> None:
    assert filled([]).compute() == summarize([]).all_metrics()


def test_update_after_compute_counts_too() -> None:
    metrics = filled([row(0)])
    assert metrics.compute()["n"] == 1
    metrics.update([row(1)])
    assert (metrics.compute()["n"], metrics.compute()["accuracy"]) == (2, 0.5)


def test_called_on_a_batch_it_tells_of_the_batch_and_keeps_all() -> None:
    metrics = AgentMetrics()
    assert metrics([row(0), row(3)])["accuracy"] == 1.0
    assert metrics([row(1)]) == summarize([row(1)]).all_metrics()
    assert metrics.records() == [row(0), row(3), row(1)]


def test_records_can_be_read_and_added_to_again() -> None:
    metrics = filled([row(0)])
    assert metrics.records() == metrics.records() == [row(0)]
    metrics.update([row(1)])
    assert metrics.records() == [row(0), row(1)]


def test_reset_forgets() -> None:
    metrics = filled([row(0), row(3)])
    metrics.reset()
    metrics.update([row(1)])
    assert metrics.records() == [row(1)]


def test_text_of_any_kind_comes_back() -> None:
    nasty = row(0, text="\ud800 \n\r\x00 \x85\u2028 </script> " + "z" * 100_000)
    assert filled([nasty]).records() == [nasty]


def plain(records: list[Record]) -> list[dict[str, Any]]:
    """Records as JSON can hold them."""
    return json.loads(json.dumps([to_json(record) for record in records]))


def work(rank: int, folder: Path) -> None:
    """What one of two processes finds, kind by kind, written down for the test."""
    import torch.distributed as dist

    store = f"file://{folder / 'meet'}"
    dist.init_process_group("gloo", store, timedelta(seconds=30), world_size=2, rank=rank)
    found: dict[str, dict[str, Any]] = {}
    for kind, shares in SHARES.items():
        metrics = filled(*([record] for record in shares[rank]))
        first = metrics.records()
        try:
            computed: Any = metrics.compute()
        except ValueError as error:
            computed = str(error)
            metrics = filled(shares[rank])
        metrics.update([row(30 + rank)])
        later = metrics.records()
        metrics.reset()
        found[kind] = {
            "first": plain(first),
            "computed": computed,
            "later": plain(later),
            "reset": plain(metrics.records()),
        }
    (folder / f"{rank}.json").write_text(json.dumps(found))
    dist.barrier()
    dist.destroy_process_group()


Found = list[dict[str, dict[str, Any]]]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What each of two processes found, by kind of shares."""
    folder = tmp_path_factory.mktemp("ranks")
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    context = multiprocessing.get_context("fork")  # torch is imported here already
    both = [context.Process(target=work, args=(rank, folder)) for rank in (0, 1)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
        process.kill()
    assert [process.exitcode for process in both] == [0, 0]
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.parametrize("kind", SHARES)
def test_two_processes_find_the_records_of_both(kind: str, ranks: Found) -> None:
    first, second = SHARES[kind]
    for rank in ranks:
        assert rank[kind]["first"] == plain([*first, *second])
        assert rank[kind]["later"] == plain([*first, row(30), *second, row(31)])
        assert rank[kind]["reset"] == []


@pytest.mark.parametrize("kind", SHARES)
def test_two_processes_compute_what_one_does(kind: str, ranks: Found) -> None:
    first, second = SHARES[kind]
    for rank in ranks:
        assert rank[kind]["computed"] == pytest.approx(summarize(first + second).all_metrics())
