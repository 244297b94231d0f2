"""Rows of records: which try is shown, what is thought, what is spent."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from rollout.scripted import Scripted, printing, served_by

from slm_math.agents import Agent, CodeFeedback, PythonTools, SingleShot, SolverVerifier
from slm_math.data import CoT
from slm_math.engines.base import EngineError, Request
from slm_math.records.encoding import from_json, json_line
from slm_math.records.record import Record, record
from slm_math.rewards import AsksJudge
from slm_math.rollout.collect import collect
from slm_math.synthesis.accept import Above, Accept, Majority, Right
from slm_math.synthesis.cost import Price
from slm_math.synthesis.cot import RowFiles, Rows, rounds_of
from slm_math.synthesis.statistics import lines, statistics
from slm_math.synthesis.tries import Tries, Try
from slm_math.types import Problem, Reply, Task

TASK = Task(Problem("set/train/1", "What is 3 + 4?"), "7")
PLAN = (Try("primary", 0.7), Try("primary"), Try("backup"))
PRICES = {"primary": Price(1, 10), "backup": Price(100, 1000), "judge": Price(7, 7)}


def recorded(agent: Agent, *replies: Any, accept: Accept | None = None) -> Record:
    """The record of a cascade, as it is read from a file."""
    left = iter(replies)

    def answer(request: Request) -> Any:
        reply = next(left)
        return Reply(reply, counted=5, asked=3) if isinstance(reply, str) else reply

    found: list[Record] = []
    collect(
        Tries(agent, PLAN, accept or Right(), [TASK]),
        [(TASK, 0)],
        served_by(Scripted(answer), printing("7\n")),
        sink=lambda graded: found.append(record(graded)),
    )
    return from_json(json.loads(json_line(found[0])))


def rows(accept: Accept | None = None) -> Rows:
    return Rows(PLAN, accept or Right(), {TASK.problem.id: 0}, PRICES.get, {"primary": "small"})


def row(agent: Agent, *replies: Any, accept: Accept | None = None) -> dict[str, Any]:
    return rows(accept).row(recorded(agent, *replies, accept=accept))


def test_rounds_begin_where_the_role_changes() -> None:
    names = ("a", "a", "b", "b", "a")
    assert rounds_of([Try(name) for name in names]) == [1, 1, 2, 2, 3]


def test_thoughts_are_apart_from_the_solution() -> None:
    made = row(SingleShot(), "[THINK]Hm.[/THINK] It is \\boxed{7}.")
    assert (made["thinking_process"], made["solution"]) == ("Hm.", "It is \\boxed{7}.")
    assert made["raw_output"] == "[THINK]Hm.[/THINK] It is \\boxed{7}."


def test_solution_of_several_turns_has_the_program_and_its_output() -> None:
    program = "<think>Compute.</think>```python\nprint(7)\n```"
    made = row(CodeFeedback(), program, "<think>Seen.</think>So \\boxed{7}.")
    assert made["thinking_process"] == "Compute.\n\nSeen."
    first, output, last = made["solution"].split("\n\n", 1)[0], made["solution"], made["solution"]
    assert first == "```python\nprint(7)\n```"
    assert "7" in output.replace("print(7)", "").replace("boxed{7}", "")
    assert last.endswith("So \\boxed{7}.")
    assert made["tokens_used"] == 10


def test_solution_with_tools_is_one_text() -> None:
    made = row(PythonTools(), "Run:\n```python\nprint(7)\n```\n", "So \\boxed{7}.")
    assert made["solution"] == "Run:\n```python\nprint(7)\n```\n```output\n7\n```\nSo \\boxed{7}."


def test_critique_of_a_verifier_is_no_part_of_the_solution() -> None:
    made = row(SolverVerifier(), "It is \\boxed{7}.", "VERDICT: CORRECT")
    assert made["solution"] == "It is \\boxed{7}."


def test_tolerance_of_a_number_comes_back_from_its_row(tmp_path: Path) -> None:
    done = replace(recorded(SingleShot(), "\\boxed{7}"), answer_type="num", tolerance="1%")
    (tmp_path / "rows.jsonl").write_bytes(json_line(rows().row(done)))
    [task] = CoT(str(tmp_path), validation=0.0).tasks("train")
    assert (task.problem.answer_type, task.tolerance) == ("num", "1%")


def test_rejected_row_shows_the_last_try() -> None:
    made = row(SingleShot(), "\\boxed{1}", "\\boxed{2}", "\\boxed{3}")
    assert (made["status"], made["predicted_answer"]) == ("rejected", "3")
    assert (made["round"], made["attempt_count"], made["correct"]) == (2, 3, False)
    assert made["receipt"]["accepted_by"] is None
    assert made["receipt"]["reason"] == "different"


def test_lost_try_is_in_the_history_and_costs_nothing() -> None:
    made = row(SingleShot(), EngineError("status 500"), "\\boxed{7}")
    first, second = made["attempts_history"]
    assert (first["reason"], first["answer"], first["completion_tokens"]) == ("status 500", None, 0)
    assert (second["reason"], second["correct"]) == ("equal", True)
    assert made["receipt"]["requests"] == 1


def test_problem_that_failed_says_why() -> None:
    made = row(SingleShot(), *[EngineError("status 500")] * 3)
    assert (made["status"], made["solution"], made["teacher_model"]) == ("failed", "", "")
    assert made["receipt"]["reason"] == "status 500"


def test_receipt_counts_judges_at_their_own_price() -> None:
    accept = Above(AsksJudge(), 0.5)
    made = row(SingleShot(), "\\boxed{7}", "VERDICT: CORRECT", accept=accept)
    receipt = made["receipt"]
    assert (receipt["accepted_by"], receipt["score"], receipt["requests"]) == ("Above", 1.0, 2)
    assert receipt["usd"] == round((3 * 1 + 5 * 10 + 3 * 7 + 5 * 7) / 1e6, 9)
    assert made["tokens_used"] == 5


def test_row_of_right_answer_below_the_bound_is_rejected() -> None:
    accept = Above(AsksJudge(), 0.5)
    made = row(SingleShot(), *["\\boxed{7}", "VERDICT: INCORRECT"] * 3, accept=accept)
    assert (made["status"], made["correct"]) == ("rejected", True)


def test_teacher_is_what_the_server_says_else_what_the_engine_is() -> None:
    assert row(SingleShot(), "\\boxed{7}")["teacher_model"] == "small"
    assert row(SingleShot(), Reply("\\boxed{7}", model="m-2"))["teacher_model"] == "m-2"


def test_rows_are_appended_as_they_come_and_sorted_in_the_end(tmp_path: Path) -> None:
    done = recorded(SingleShot(), "\\boxed{7}")
    others = [Record(f"set/train/{n}", 0, events=done.events, gold="7") for n in (3, 2)]
    index = {f"set/train/{n}": n for n in range(4)}
    files = RowFiles(tmp_path, Rows(PLAN, Right(), index, PRICES.get, {}))

    def written() -> list[int]:
        return [json.loads(line)["index"] for line in files.accepted.read_text().splitlines()]

    files.append([done])
    files.append([done, others[0]])
    files.append([done, *others])
    assert written() == [1, 3, 2]
    files.write([done, *others])
    assert written() == [1, 2, 3]
    assert files.others.read_text() == ""


def test_a_round_counts_all_problems_that_reached_it() -> None:
    """Majority samples all tries, so that problems kept by their first solution reach round 2."""
    accept = Majority(share=0.5, votes=2)
    first = row(SingleShot(), "\\boxed{7}", "\\boxed{7}", "\\boxed{1}", accept=accept)
    none = row(SingleShot(), "\\boxed{1}", "\\boxed{2}", "\\boxed{3}", accept=accept)
    rounds = statistics([first, none])["rounds"]
    assert [(each["accepted"], each["problems"]) for each in rounds.values()] == [(1, 2), (0, 2)]


def test_accepted_solutions_with_a_wrong_answer_are_counted() -> None:
    accept = Majority(share=0.5, votes=2)
    agreed = row(SingleShot(), "\\boxed{1}", "\\boxed{1}", "\\boxed{7}", accept=accept)
    assert (agreed["status"], agreed["correct"]) == ("accepted", False)
    said = "\n".join(lines(statistics([agreed])))
    assert "1 accepted solutions are wrong by the data's own reference answers" in said
