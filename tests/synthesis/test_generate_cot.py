"""`slm-math generate-cot`: rows with receipts, resuming, budgets, errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cli.evaluating import ask
from engines.endpoint import ChatServer
from synthesis.teacher import PROBLEMS, answers, command, number_of, repeated, right_at, rows, teach

from slm_math.agents import SingleShot
from slm_math.data import CoT
from slm_math.data.base import Source, Split
from slm_math.engines.openai import OpenAIEngine
from slm_math.synthesis.accept import Majority, Right
from slm_math.synthesis.command import generate_cot
from slm_math.synthesis.tries import Try
from slm_math.types import Problem, Task

FIELDS = [
    *("index", "question", "ground_truth", "predicted_answer", "thinking_process", "solution"),
    *("raw_output", "correct", "teacher_model", "thinking_effort", "round", "attempt_count"),
    *("attempts_history", "tokens_used", "status", "dataset"),
]
ACCEPTED = [number for number in range(PROBLEMS) if right_at(number) <= 3]
REQUESTS = sum(min(right_at(number), 3) for number in range(PROBLEMS))


def files(out: Path) -> tuple[bytes, bytes]:
    return (out / "rows.jsonl").read_bytes(), (out / "tries" / "rejected.jsonl").read_bytes()


def test_rows_are_the_accepted_solutions_in_order(
    tmp_path: Path, teacher: ChatServer, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, _ = ask(capsys, *command(tmp_path, teacher))
    assert status == 0
    made = rows(tmp_path / "out" / "rows.jsonl")
    assert [row["index"] for row in made] == ACCEPTED
    for row in made:
        number, attempt = row["index"], right_at(row["index"])
        assert list(row) == [*FIELDS, "receipt"]
        assert row["question"] == f"Add {number} and {number}."
        assert row["ground_truth"] == row["predicted_answer"] == str(2 * number)
        assert row["thinking_process"] == f"try {attempt}"
        assert row["solution"].startswith(f"{number}+{number}=")
        assert row["solution"].endswith(f"\\boxed{{{2 * number}}}.")
        assert row["raw_output"] == f"<think>\ntry {attempt}\n</think>\n\n{row['solution']}"
        assert row["correct"] is True
        assert (row["status"], row["dataset"]) == ("accepted", "gsm8k")
        model = ("small", "small", "big")[attempt - 1]
        assert row["teacher_model"] == f"{model}-2026"
        assert row["thinking_effort"] == (None, None, "high")[attempt - 1]
        assert row["round"] == (1, 1, 2)[attempt - 1]
        assert row["attempt_count"] == len(row["attempts_history"]) == attempt
        assert row["tokens_used"] == 20 + attempt


def test_receipt_counts_all_tries_of_a_problem(
    tmp_path: Path, teacher: ChatServer, capsys: pytest.CaptureFixture[str]
) -> None:
    ask(capsys, *command(tmp_path, teacher, "--limit=12"))
    row = max(rows(tmp_path / "out" / "rows.jsonl"), key=lambda row: row["attempt_count"])
    asked = int(row["question"].split()[1])
    receipt = row["receipt"]
    assert receipt["requests"] == 3
    assert receipt["prompt_tokens"] == 3 * (10 + asked)
    assert receipt["completion_tokens"] == 21 + 22 + 23
    usd = (2 * (10 + asked) + 2 * 43 + 10 * (10 + asked) + 20 * 23) / 1e6
    assert receipt["usd"] == pytest.approx(usd, abs=1e-9)
    assert (receipt["accepted_by"], receipt["reason"]) == ("Right", "equal")
    history = [(one["answer"], one["correct"], one["reason"]) for one in row["attempts_history"]]
    assert history == [("-1", False, "different")] * 2 + [(str(2 * asked), True, "equal")]


def test_rejected_problems_lie_beside_the_tries(
    tmp_path: Path, teacher: ChatServer, capsys: pytest.CaptureFixture[str]
) -> None:
    ask(capsys, *command(tmp_path, teacher))
    made = rows(tmp_path / "out" / "tries" / "rejected.jsonl")
    assert [row["index"] for row in made] == [n for n in range(PROBLEMS) if n not in ACCEPTED]
    assert {(row["status"], row["correct"], row["attempt_count"]) for row in made} == {
        ("rejected", False, 3)
    }


def test_summary_has_rounds_data_sets_and_cost(
    tmp_path: Path, teacher: ChatServer, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, _ = ask(capsys, *command(tmp_path, teacher))
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["problems"], summary["accepted"], summary["rejected"]) == (24, 18, 6)
    assert [summary["rounds"][r]["accepted"] for r in "12"] == [12, 6]
    assert [summary["rounds"][r]["problems"] for r in "12"] == [24, 12]
    assert summary["datasets"]["gsm8k"]["tokens"]["value"] == 22  # 21, 22 and 23 in equal parts
    assert summary["datasets"]["gsm8k"]["code"]["value"] == 1
    assert summary["spent"]["requests"] == REQUESTS == len(teacher.bodies)
    assert summary["cost"]["requests"]["value"] == pytest.approx(REQUESTS / 18)
    assert summary["cost"]["usd"]["value"] == pytest.approx(summary["spent"]["usd"] / 18)
    assert "round 1: 12 of 24 problems accepted, 50.0 [31.4, 68.6] %" in out


def test_cot_reads_the_rows_of_the_output_folder(
    tmp_path: Path, teacher: ChatServer, capsys: pytest.CaptureFixture[str]
) -> None:
    ask(capsys, *command(tmp_path, teacher))
    tasks = CoT(str(tmp_path / "out"), validation=0.0).tasks("train")
    assert [task.gold for task in tasks] == [str(2 * number) for number in ACCEPTED]
    assert all("<think>" not in (task.solution or "") for task in tasks)


def test_same_command_again_asks_nothing_and_changes_nothing(
    tmp_path: Path, teacher: ChatServer, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = command(tmp_path, teacher)
    ask(capsys, *arguments)
    before = files(tmp_path / "out")
    status, out, _ = ask(capsys, *arguments)
    assert (status, len(teacher.bodies)) == (0, REQUESTS)
    assert files(tmp_path / "out") == before
    assert f"spent: {REQUESTS} requests" in out


def test_more_problems_go_on_where_fewer_ended(
    tmp_path: Path, teacher: ChatServer, capsys: pytest.CaptureFixture[str]
) -> None:
    ask(capsys, *command(tmp_path, teacher, "--limit=10"))
    few = rows(tmp_path / "out" / "rows.jsonl")
    status, _, err = ask(capsys, *command(tmp_path, teacher))
    assert (status, err) == (0, "")
    assert (len(teacher.bodies), repeated(teacher)) == (REQUESTS, [])
    made = rows(tmp_path / "out" / "rows.jsonl")
    assert [row["index"] for row in made] == ACCEPTED
    by_question = {row["question"]: row | {"index": 0} for row in made}
    assert all(by_question[row["question"]] == row | {"index": 0} for row in few)


def test_fewer_problems_do_not_take_rows_away(
    tmp_path: Path, teacher: ChatServer, capsys: pytest.CaptureFixture[str]
) -> None:
    ask(capsys, *command(tmp_path, teacher))
    before = files(tmp_path / "out")
    status, _, err = ask(capsys, *command(tmp_path, teacher, "--limit=10"))
    assert status == 2
    assert "data, problems differ" in err
    assert files(tmp_path / "out") == before


def test_lost_records_are_made_again_from_the_journal(
    tmp_path: Path, teacher: ChatServer, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = command(tmp_path, teacher)
    ask(capsys, *arguments)
    before = files(tmp_path / "out")
    records = tmp_path / "out" / "tries" / "records.jsonl"
    records.write_bytes(records.read_bytes()[:3000])
    ask(capsys, *arguments)
    assert len(teacher.bodies) == REQUESTS
    assert files(tmp_path / "out") == before


def test_budget_ends_the_run_and_a_higher_one_continues(
    tmp_path: Path, teacher: ChatServer, capsys: pytest.CaptureFixture[str]
) -> None:
    few = [f"--engines.{role}.init_args.concurrency=2" for role in ("primary", "backup")]
    arguments = command(tmp_path, teacher, *few)
    status, out, error = ask(capsys, *arguments, "--budget.tokens=500")
    assert status == 2
    assert error.startswith("slm-math: error: the budget of 500 tokens is spent")
    assert error.count("\n") == 1
    taken = [sum(teach(body)["usage"].values()) for body in teacher.bodies]
    assert 500 <= sum(taken) <= 500 + 4 * max(taken)  # two under way at each endpoint
    assert "gsm8k/train (partial)" in out
    status, _, _ = ask(capsys, *arguments)
    assert (status, len(teacher.bodies), repeated(teacher)) == (0, REQUESTS, [])
    assert [row["index"] for row in rows(tmp_path / "out" / "rows.jsonl")] == ACCEPTED


def test_problems_that_an_endpoint_fails_are_tried_again_by_the_same_command(
    tmp_path: Path, teacher: ChatServer, capsys: pytest.CaptureFixture[str]
) -> None:
    def unwell(number: int, body: dict[str, Any]) -> Any:
        broken = body["model"] == "big" and number_of(body) < 12
        return (500, {"error": "down"}, {}) if broken else answers(number, body)

    teacher.script = unwell
    arguments = command(tmp_path, teacher)
    status, out, _ = ask(capsys, *arguments)
    assert status == 1
    assert "6 problems failed: run the same command to retry them" in out
    assert "  6 times: " in out
    assert "status 500" in out
    failed = [r for r in rows(tmp_path / "out/tries/rejected.jsonl") if r["status"] == "failed"]
    assert all("status 500" in row["attempts_history"][-1]["reason"] for row in failed)
    asked, teacher.script = len(teacher.bodies), answers
    status, _, _ = ask(capsys, *arguments)
    assert (status, len(teacher.bodies)) == (0, asked + 6)
    assert [row["index"] for row in rows(tmp_path / "out" / "rows.jsonl")] == ACCEPTED


def test_unusable_endpoint_ends_the_run_with_one_line(
    tmp_path: Path, teacher: ChatServer, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher.script = lambda number, body: (401, {"error": {"message": "wrong key"}}, {})
    status, _, error = ask(capsys, *command(tmp_path, teacher))
    assert status == 2
    assert error.startswith("slm-math: error: ")
    assert error.count("\n") == 1
    assert "401" in error


def test_estimate_comes_after_the_first_problems_and_before_the_others(
    tmp_path: Path, teacher: ChatServer, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, _ = ask(capsys, *command(tmp_path, teacher, "--estimate=8"))
    [line] = [line for line in out.splitlines() if line.startswith("estimate")]
    # the first eight problems ask 1, 2, 3, 3, 1, 2, 3, 3 times
    assert line.startswith("estimate from 8 problems (95 %): 24 problems take 54 [39, 69] requests")
    first = {number_of(body) for body in teacher.bodies[:18]}
    assert first == set(range(8))


def test_another_plan_in_the_same_folder_is_refused(
    tmp_path: Path, teacher: ChatServer, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = command(tmp_path, teacher)
    ask(capsys, *arguments)
    before, asked = files(tmp_path / "out"), len(teacher.bodies)
    status, _, error = ask(capsys, *arguments, "--accept=CodeVerified")
    assert (status, error.count("\n")) == (2, 1)
    assert "agent.accept" in error
    assert "choose another --out" in error
    assert (files(tmp_path / "out"), len(teacher.bodies)) == (before, asked)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--plan=[{role: primary}]"], "engines names backup; the agents' roles are primary"),
        (["--plan=[{role: primary}, {role: backup}, {role: other}]"], "nothing serves other"),
        (["--plan=[]"], "there is no try"),
        (["--plan=[{role: primary}]", "--accept=Majority"], "at least 2 tries in the plan, got 1"),
        (["--prices={primary: {input: 1}}", "--budget.usd=1"], "needs the price of backup"),
        (["--prices={other: {input: 1}}"], "prices names other; the roles are primary, backup"),
        (["--estimate=-1"], "estimate must be"),
        (["--limit=0"], "limit must be"),
        (["--split=validation"], "no problems in its validation split"),
        (["--accept={class_path: Above, bound: 1, reward: {class_path: Correct, role: v}}"], "'v'"),
        (["--accept=Perfect"], "Perfect"),
        (["--inference.roles={judge: {temperature: 1}}"], "inference.roles names judge"),
    ],
)
def test_mistakes_are_one_line_before_any_request(
    options: list[str],
    message: str,
    tmp_path: Path,
    teacher: ChatServer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    status, _, error = ask(capsys, *command(tmp_path, teacher, *options))
    assert status == 2
    assert message in error
    assert error.startswith("slm-math: error: ")
    assert error.count("\n") <= 2
    assert teacher.bodies == []


def test_effort_of_a_local_model_is_refused_before_it_loads(
    tmp_path: Path, teacher: ChatServer, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [
        "--model=nowhere",
        "--plan=[{role: solver, effort: low}, {role: primary}, {role: backup}]",
    ]
    (tmp_path / "nowhere").mkdir()
    status, _, error = ask(capsys, *command(tmp_path, teacher, *options))
    assert status == 2
    assert "nowhere" in error or "only chat endpoints take an effort" in error


class Unlabeled(Source):
    """Problems without reference answers."""

    name = "unlabeled"

    def tasks(self, split: Split) -> list[Task]:
        return [Task(Problem(f"unlabeled/{split}/{i}", f"Add {i} and {i}."), "") for i in range(6)]


def without_golds(folder: Path, server: ChatServer, accept: Any) -> None:
    engine = OpenAIEngine(server.url, "small")
    plan = [Try("solver", temperature) for temperature in (0.7, 0.5, 0.9)]
    generate_cot(
        SingleShot(), Unlabeled(), plan, accept, out=str(folder), engines={"default": engine}
    )


def test_majority_needs_no_reference_answers(tmp_path: Path, teacher: ChatServer) -> None:
    without_golds(tmp_path, teacher, Majority())
    made = rows(tmp_path / "rows.jsonl")
    # the teacher is wrong twice where it is right once, and then says -1
    assert [row["predicted_answer"] for row in made] == ["-1"] * 6
    assert [row["attempt_count"] for row in made] == [3] * 6
    assert {(r["ground_truth"], r["receipt"]["reference"]) for r in made} == {("-1", "majority")}
    assert [row["receipt"]["score"] for row in made] == pytest.approx(
        [2 / 3] * 3 + [1] + [2 / 3] * 2, abs=1e-4
    )


def test_grader_needs_reference_answers(tmp_path: Path, teacher: ChatServer) -> None:
    with pytest.raises(ValueError, match=r"Unlabeled.tasks\('train'\): problem unlabeled/train/0"):
        without_golds(tmp_path, teacher, Right())
    assert teacher.bodies == []


def test_code_verified_runs_the_program_in_the_sandbox(
    tmp_path: Path, teacher: ChatServer, capsys: pytest.CaptureFixture[str], light_programs: None
) -> None:
    def liar(number: int, body: dict[str, Any]) -> Any:
        reply = teach(body)
        if number_of(body) == 0:  # the program of one right solution prints another value
            message = reply["choices"][0]["message"]
            message["content"] = message["content"].replace("print(0)", "print(1)")
        return 200, reply, {}

    teacher.script = liar
    ask(capsys, *command(tmp_path, teacher, "--accept=CodeVerified"))
    made = rows(tmp_path / "out" / "rows.jsonl")
    assert [row["index"] for row in made] == [number for number in ACCEPTED if number]
    assert [row["receipt"]["executed"] for row in made] == [row["ground_truth"] for row in made]
    rejected = rows(tmp_path / "out" / "tries" / "rejected.jsonl")
    reasons = [one["reason"] for one in rejected[0]["attempts_history"]]
    assert reasons == ["the program printed another value", "different", "different"]


def test_secrets_are_in_no_file(
    tmp_path: Path,
    teacher: ChatServer,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-314159")
    ask(capsys, *command(tmp_path, teacher, "--limit=2"))
    assert "sk-secret-314159" in str(teacher.headers)
    written = [file.read_bytes() for file in (tmp_path / "out").rglob("*") if file.is_file()]
    assert len(written) >= 6
    assert not any(b"sk-secret-314159" in text for text in written)
