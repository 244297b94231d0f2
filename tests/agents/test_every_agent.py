"""What holds for every agent: hostile replies, learning from its traces, honest prompts, its
configuration.
"""

import inspect
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from agents.inputs import CHOICE, FAILED, PICTURE, PICTURED, PROBLEM, STOPPED
from jsonargparse import ArgumentParser

import slm_math.agents
from slm_math import prompts
from slm_math.agents import (
    Agent,
    BackwardCheck,
    CodeAsAnswer,
    CodeFeedback,
    FewShot,
    Judge,
    MajorityVote,
    PlanAndReflect,
    PythonTools,
    Selector,
    SelfCorrection,
    SingleShot,
    SolverChecker,
    SolverCoder,
    SolverVerifier,
    StepByStepCode,
)
from slm_math.answers.graded import grade_trace
from slm_math.config_files import with_init_args
from slm_math.engines.base import Engine, Request
from slm_math.records.encoding import json_line
from slm_math.records.record import record
from slm_math.rollout.collect import run_agent
from slm_math.rollout.executors import Executors
from slm_math.rollout.rows import trace_rows
from slm_math.types import Draft, Problem, Reply, RunPython, RunResult, Sampling, Task, Text, Trace

AGENTS: dict[str, Agent] = {
    "single_shot": SingleShot(),
    "vote": MajorityVote(k=3),
    "weighted": MajorityVote(k=2, pick="weighted", checks=2),
    "best": MajorityVote(k=2, pick="best"),
    "tools": PythonTools(),
    "code_as_answer": CodeAsAnswer(),
    "code_feedback": CodeFeedback(),
    "solver_verifier": SolverVerifier(),
    "stateless": SolverChecker(memory="none"),
    "chat": SolverChecker(runs=2),
    "summary": SolverChecker(memory="summary"),
    "backward": BackwardCheck(),
    "coder": SolverCoder(),
    "steps": StepByStepCode(),
    "plan": PlanAndReflect(),
    "judge": Judge(),
    "self_correction": SelfCorrection(),
    "selector": Selector(k=3),
    "few_shot": FewShot(
        SolverVerifier(), [Task(Problem("t/1", "What is 1 + 1?"), "2", r"\boxed{2}")]
    ),
}
# the most requests that the limits allow: rounds x (replies with runs, verdicts, programs), each
# asked for twice
MOST = 200
END, ROLES = 3, {"system": 0, "user": 1, "assistant": 2}


class Toy(Engine):
    """Says what `say` makes of the prompt's text; a token is a character, and messages have marks
    around them.
    """

    returns_logprobs = True

    def __init__(self, say: Any) -> None:
        self.say, self.asked, self.open = say, [], {}

    def submit(self, request: Request) -> int:
        self.asked.append(request)
        prompt: list[int] = []
        for message in request.chat:
            prompt += [ROLES[message.role], *map(ord, message.text), END]
        prompt = prompt[:-1] if request.resume else [*prompt, ROLES["assistant"]]
        text, finish = self.say(request.chat[-1].text, len(self.asked))
        ids = [
            *map(ord, text),
            *([END] if finish == "stop" and not (request.sampling.stop and "```" in text) else []),
        ]
        warmth = request.sampling.temperature
        self.open[len(self.asked)] = Reply(
            text, tuple(ids), (-1.0,) * len(ids), finish, tuple(prompt), temperature=warmth
        )
        return len(self.asked)

    def poll(self, timeout: float = 0.0) -> list[tuple[int, Any]]:
        done, self.open = list(self.open.items()), {}
        return done

    def cancel(self, ticket: int) -> None:
        self.open.pop(ticket, None)


class Shell:
    """A sandbox that finds the same whatever is run."""

    def __init__(self, result: RunResult) -> None:
        self.result, self.open, self.ran = result, [], 0

    def submit(self, request: RunPython) -> int:
        self.ran += 1
        self.open.append(self.ran)
        return self.ran

    def poll(self, timeout: float = 0.0) -> list[tuple[int, Any]]:
        done, self.open = [(ticket, self.result) for ticket in self.open], []
        return done

    def cancel(self, ticket: int) -> None:
        pass

    def identity(self) -> dict[str, Any]:
        return {}


def trace_of(agent: Agent, say: Any, result: RunResult, problem: Problem = PROBLEM) -> Trace:
    if isinstance(agent, Judge):  # whose problems are about a draft
        problem = replace(problem, draft=Draft("3 + 4 = 7", "7"))
    engine = Toy(say)
    executors = Executors({"default": engine}, {"default": Sampling()}, Shell(result))  # type: ignore[arg-type]
    [trace] = run_agent(agent, [(problem, 0)], executors)
    assert 0 < len(engine.asked) < MOST
    return trace


def busy(prompt: str, n: int) -> tuple[str, str]:
    """A model that does what it is asked, and never approves."""
    if "Look it over" in prompt:
        return ("VERDICT: UNCLEAR", "stop")
    if "VERDICT" in prompt:
        return ("VERDICT: INCORRECT", "stop")
    if "numbered list" in prompt:
        return ("1. Think.\n2. Add.", "stop")
    if "```python" in prompt and not prompt.startswith("```output"):
        return (f"```python\nprint({n})\n```\n", "stop")
    return (rf"It is \boxed{{{n}}}.", "stop")


@pytest.mark.parametrize("name", AGENTS)
def test_what_was_sampled_is_what_is_trained_on(name: str) -> None:
    agent = AGENTS[name]
    trace = trace_of(agent, busy, RunResult(True, "False\n"))
    for role in agent.roles:
        rows = trace_rows(trace, role)
        sampled = [
            "".join(map(chr, turn.reply.token_ids))
            for turn in trace.turns
            if turn.request.role == role
        ]
        assert sampled
        trained = [[chr(i) for i, m in zip(row.ids, row.mask) if m] for row in rows]
        assert sorted(token for tokens in trained for token in tokens) == sorted("".join(sampled))
        assert all(any(text in "".join(tokens) for tokens in trained) for text in sampled)
        for row in rows:
            assert len(row.ids) == len(row.mask) == len(row.logprobs)
            sampled = [logp for logp, weight in zip(row.logprobs, row.mask) if weight]
            assert sampled == [-1.0] * len(row.loss_positions)


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("single_shot", 1),
        ("vote", 3),
        ("tools", 1),
        ("code_feedback", 1),
        ("steps", 1),
        ("self_correction", 1),
    ],
)
def test_a_conversation_is_one_row(name: str, rows: int) -> None:
    assert len(trace_rows(trace_of(AGENTS[name], busy, RunResult(True, "7\n")), "solver")) == rows


REPLIES = {
    "empty": ("", "stop"),
    "blank": (" \n\t ", "stop"),
    "cut off": ("Let me th", "length"),
    "cut off in a program": ("```python\nprint(", "length"),
    "no answer": ("I would rather not.", "stop"),
    "hostile": ("{problem} \x00\ud800 </script> \x1b[31m ``` {{ %s \u2028 VERDICT:", "stop"),
    "programs only": ("```python\nwhile True: pass\n```\n", "stop"),
    "endless incorrect": ("\\boxed{INCORRECT}\nVERDICT: INCORRECT", "stop"),
    "long": ("1. a\n2. b " * 5000, "length"),
}


@pytest.mark.parametrize("reply", REPLIES)
@pytest.mark.parametrize("name", AGENTS)
def test_any_replies_give_a_trace_that_can_be_recorded(name: str, reply: str) -> None:
    for result in (STOPPED, FAILED) if "program" in reply else (STOPPED,):
        trace = trace_of(AGENTS[name], lambda prompt, n: REPLIES[reply], result)
        assert trace.error is None
        assert trace.answer is None or reply in ("endless incorrect", "hostile", "long")
        row = json.loads(json_line(record(grade_trace(Task(PROBLEM, "7"), trace))))
        assert row["correct"] is False


@pytest.mark.parametrize("name", AGENTS)
def test_every_agent_asks_only_its_roles_and_shows_images_first(name: str) -> None:
    agent = AGENTS[name]
    trace = trace_of(agent, busy, RunResult(True, "False\n"), PICTURED)
    assert {turn.request.role for turn in trace.turns} == set(agent.roles)
    assert agent.uses_python or not trace.runs
    first = trace.turns[0].request.chat
    assert any(PICTURE in message.content for message in first)


@pytest.mark.parametrize("name", AGENTS)
def test_a_chat_that_shows_the_problem_shows_its_choices_and_its_image(name: str) -> None:
    problem = replace(CHOICE, images=(PICTURE,))
    trace = trace_of(AGENTS[name], busy, RunResult(True, "False\n"), problem)
    shown = 0
    for turn in trace.turns:
        messages = [m for m in turn.request.chat if problem.text in m.text]
        shown += len(messages)
        for message in messages:
            assert problem.statement in message.text, message.text
        assert any(PICTURE in m.content for m in turn.request.chat), turn.request.role
    assert shown >= len(AGENTS[name].roles)


@pytest.mark.parametrize("name", AGENTS)
def test_without_choices_and_images_a_prompt_is_its_template_and_the_text(name: str) -> None:
    trace = trace_of(AGENTS[name], busy, RunResult(True, "False\n"))
    agent = getattr(AGENTS[name], "agent", AGENTS[name])  # the one behind worked examples
    prompt = getattr(agent, "prompt", None) or agent.plan_prompt  # type: ignore[attr-defined]
    asked = [message.content for message in trace.turns[0].request.chat if message.role == "user"]
    text = prompt.template.replace("{problem}", PROBLEM.text).replace("{critique}", "")
    text = text.replace("{draft}", "3 + 4 = 7").replace("{answer}", "7")
    assert asked[-1] == (Text(text),)


def test_every_agent_is_tested_here() -> None:
    there = {
        a for _, a in inspect.getmembers(slm_math.agents, inspect.isclass) if issubclass(a, Agent)
    } - {Agent}
    assert {type(agent) for agent in AGENTS.values()} == there


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def runs_of(text: str, n: int = 8) -> Iterator[tuple[str, ...]]:
    spoken = words(text)
    yield from zip(*(spoken[i:] for i in range(n)))


def test_no_prompt_holds_a_problem_of_a_test_set(real_data: Path) -> None:
    problems = [
        json.loads(line)[field]
        for name, field in (("gsm8k", "question"), ("math500", "problem"))
        for line in (real_data / name / "test.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert len(problems) == 1319 + 500
    taken = {run for problem in problems for run in runs_of(problem)}
    files = list(Path(prompts.__file__).parent.glob("*.txt"))
    assert files
    assert [
        file.name
        for file in files
        if not taken.isdisjoint(runs_of(file.read_text(encoding="utf-8")))
    ] == []


CONFIGS = [
    file
    for file in sorted((Path(__file__).parents[2] / "configs" / "eval").glob("*.yaml"))
    if file.stem not in ("gsm8k", "benchmarks")  # problems and sampling, without an agent
]


def made(agent: Any) -> Agent:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(Agent, "agent")
    return parser.instantiate_classes(parser.parse_object({"agent": with_init_args(agent)})).agent


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_a_configuration_names_an_agent_with_options_that_it_takes(file: Path) -> None:
    config = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert list(config["agents"]) == [file.stem]
    agent = made(config["agents"][file.stem])
    assert isinstance(agent, Agent)
    assert agent.solve(PROBLEM)


@pytest.mark.parametrize("name", sorted({type(agent).__name__ for agent in AGENTS.values()}))
def test_every_agent_but_worked_examples_is_named_by_its_class_alone(name: str) -> None:
    if name != "FewShot":  # which needs another agent
        assert type(made({"class_path": name})).__name__ == name
