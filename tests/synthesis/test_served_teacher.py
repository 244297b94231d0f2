"""A cascade that asks a server of a small model, which the project's own engine decodes, makes the
rows of one that decodes the model itself.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from engines.endpoint import ChatServer
from synthesis.served import Served
from synthesis.teacher import problems_at, repeated, rows
from tiny import SCRATCH

from slm_math.answers import grade
from slm_math.cli import run
from slm_math.data import GSM8K
from slm_math.engines.base import seed_of
from slm_math.policy.chat import ChatFormat
from slm_math.prompts import Prompt
from slm_math.types import assistant

ROOT = Path(__file__).parents[2]
TRIES, STEPS, CONCURRENCY = 3, 90, 4
TEACHER = "a small teacher"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return problems_at(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def model(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that has begun to learn the answers by heart, so that it is right now and then."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    tokenizer = SCRATCH.tokenizer()
    chat, network = ChatFormat(tokenizer), SCRATCH.model(tokenizer)
    solutions = []
    for task in GSM8K(str(data), validation=0.0).tasks("train"):
        asked = task.problem.ask(Prompt("solve_plain", "problem"))
        [(ids, weights)] = chat.dialogue(asked + assistant(f"\\boxed{{{task.gold}}}"))
        solutions.append((ids, [i if w else -100 for i, w in zip(ids, weights)]))
    longest = max(len(ids) for ids, _ in solutions)
    ids, labels = (
        torch.tensor([row[part] + [fill] * (longest - len(row[part])) for row in solutions])
        for part, fill in ((0, 0), (1, -100))
    )
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    for _ in range(STEPS):
        network(ids, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    folder = tmp_path_factory.mktemp("model")
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[ChatServer]:
    problems = (f"gsm8k/train/{number}" for number in range(100))
    keys = (("eval", 0, id, 0, number, 1) for id, number in product(problems, range(1, TRIES + 1)))
    server = ChatServer(Served(model, keys))
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def straight(data: Path, server: ChatServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run makes that asks the server and is not interrupted. It comes first."""
    out = tmp_path_factory.mktemp("served") / "out"
    run(served(data, out, server))
    return out


def command(data: Path, out: Path, **serving: Any) -> list[str]:
    """A cascade of a few tries of at most 16 tokens."""
    config = {
        "agent": {"class_path": "SingleShot", "init_args": {"prompt": "solve_plain"}},
        "source": {"class_path": "GSM8K", "init_args": {"path": str(data), "validation": 0.0}},
        "plan": [{"temperature": 1.0}] * TRIES,
        "accept": "Right",
        "inference": {"sampling": {"max_new_tokens": 16}, "slots": 8},
        "out": str(out),
        **serving,
    }
    file = out.with_suffix(".yaml")
    file.write_text(json.dumps(config))
    return ["generate-cot", f"--config={file}"]


def served(data: Path, out: Path, server: ChatServer) -> list[str]:
    options = {
        "base_url": server.url,
        "model": TEACHER,
        "send_seed": True,
        "concurrency": CONCURRENCY,
    }
    return command(
        data, out, engines={"solver": {"class_path": "OpenAIEngine", "init_args": options}}
    )


def made(out: Path) -> list[dict[str, Any]]:
    """The accepted rows, and then the rejected ones."""
    return rows(out / "rows.jsonl") + rows(out / "tries" / "rejected.jsonl")


def without_models(row: dict[str, Any]) -> dict[str, Any]:
    """A row without the names under which its teacher is known."""
    history = [one | {"teacher_model": ""} for one in row["attempts_history"]]
    return row | {"teacher_model": "", "attempts_history": history}


def test_accepted_rows_are_right_and_count_what_the_engine_counted(
    data: Path, server: ChatServer, straight: Path
) -> None:
    used, asked = server.script.used, len(server.bodies)
    tasks = GSM8K(str(data), validation=0.0).tasks("train")
    golds = {task.problem.id: task.gold for task in tasks}
    accepted = rows(straight / "rows.jsonl")
    assert 3 <= len(accepted) < len(made(straight)) == len(golds)
    for row in accepted:
        assert grade(row["solution"], golds[row["receipt"]["problem"]]).correct
    for row in made(straight):
        id = row["receipt"]["problem"]
        tries = [seed_of(("eval", 0, id, 0, n, 1)) for n in range(1, row["attempt_count"] + 1)]
        for name in ("prompt_tokens", "completion_tokens"):
            assert row["receipt"][name] == sum(used[seed][name] for seed in tries)
    spent = json.loads((straight / "summary.json").read_text())["spent"]
    assert spent["requests"] == asked == len(used)
    for name in ("prompt_tokens", "completion_tokens"):
        assert spent[name] == sum(each[name] for each in used.values())


def test_rows_of_a_served_model_are_those_of_the_local_one(
    data: Path, model: Path, straight: Path, tmp_path: Path
) -> None:
    run(command(data, tmp_path / "local", model=str(model)))
    local = made(tmp_path / "local")
    assert {row["teacher_model"] for row in local} == {str(model)}
    assert {row["teacher_model"] for row in made(straight)} == {TEACHER}
    assert list(map(without_models, made(straight))) == list(map(without_models, local))


def check_resumed(out: Path, server: ChatServer, straight: Path, twice: int) -> None:
    """Every request was asked, at most `twice` of them twice; the rows are those of `straight`."""
    requests = json.loads((straight / "summary.json").read_text())["spent"]["requests"]
    assert len(repeated(server)) <= twice
    assert len(server.bodies) == requests + len(repeated(server))
    assert (out / "journal" / "requests.jsonl").read_bytes().count(b"\n") == 1 + requests
    for file in ("rows.jsonl", "tries/rejected.jsonl"):
        assert (out / file).read_bytes() == (straight / file).read_bytes()


def test_a_cascade_that_its_budget_ended_asks_nothing_again(
    data: Path, server: ChatServer, straight: Path, tmp_path: Path
) -> None:
    server.bodies.clear()
    arguments = served(data, tmp_path / "out", server)
    with pytest.raises(SystemExit):
        run([*arguments, "--budget.tokens=500"])
    spent = json.loads((tmp_path / "out" / "summary.json").read_text())["spent"]
    most = max(sum(each.values()) for each in server.script.used.values())
    tokens = spent["prompt_tokens"] + spent["completion_tokens"]
    assert 500 <= tokens < 500 + CONCURRENCY * most
    run(arguments)
    check_resumed(tmp_path / "out", server, straight, twice=0)


@pytest.mark.slow
def test_a_killed_cascade_asks_the_server_nothing_that_it_answered(
    data: Path, server: ChatServer, straight: Path, tmp_path: Path
) -> None:
    requests = json.loads((straight / "summary.json").read_text())["spent"]["requests"]
    server.bodies.clear()
    arguments = served(data, tmp_path / "out", server)
    journal = tmp_path / "out" / "journal" / "requests.jsonl"
    process = subprocess.Popen(
        [sys.executable, "-m", "slm_math", *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
    )
    while not journal.is_file() or journal.read_bytes().count(b"\n") <= requests // 3:
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait(60) == -signal.SIGKILL
    assert journal.read_bytes().count(b"\n") < requests
    run(arguments)
    check_resumed(tmp_path / "out", server, straight, twice=CONCURRENCY)
