"""Prompts know their slots, agents declare and check them, and a problem is shown whole."""

import copy
import pickle
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from agents.driving import box
from agents.inputs import CHOICE, PICTURE, PICTURED, PROBLEM
from jsonargparse import ArgumentParser

from slm_math.agents import Agent, SolverChecker, SolverVerifier
from slm_math.prompts import Prompt, render
from slm_math.testing import drive
from slm_math.types import Generate, Problem, Text, Workflow, user


@dataclass(frozen=True)
class Twice(Agent):
    """An agent of somebody else: two prompts, nothing written by hand but `solve`."""

    prompt: Prompt = Prompt("solve", "problem")
    retry_prompt: Prompt = Prompt("retry", "problem critique")
    output_prompt: Prompt | None = None

    def solve(self, problem: Problem) -> Workflow[str | None]:
        [reply] = yield [Generate(problem.ask(self.prompt))]
        return reply.text


@dataclass
class Plain(Agent):
    """A dataclass that is not frozen."""

    prompt: Prompt = Prompt("code", "problem")


def test_prompt_is_the_name_of_its_template() -> None:
    prompt = Prompt("retry", "problem critique")
    assert prompt == "retry"
    assert prompt.slots == ("problem", "critique") == Prompt("retry", prompt.slots).slots
    assert "{critique}" in prompt.template


def test_fill_reads_values_only_once() -> None:
    filled = Prompt("code_plain", "problem").fill(problem="{problem} {output} {x}")
    assert filled == "Code: {problem} {output} {x}"


def test_fill_needs_every_declared_slot_and_no_other() -> None:
    prompt = Prompt("retry", "problem critique")
    with pytest.raises(ValueError, match="prompt 'retry' needs a value for problem"):
        prompt.fill(critique="c")
    with pytest.raises(ValueError, match="prompt 'retry' does not declare critiqe"):
        prompt.fill(problem="p", critique="c", critiqe="c")


def test_fill_refuses_a_template_with_another_slot() -> None:
    with pytest.raises(ValueError, match="prompt 'verify_plain' needs a value for answer"):
        Prompt("verify_plain", "problem").fill(problem="p")


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))]
)
def test_copies_know_their_slots(copied) -> None:
    prompt = copied(Prompt("verify", "problem draft answer"))
    assert (prompt, prompt.slots) == ("verify", ("problem", "draft", "answer"))
    assert type(prompt) is Prompt


def test_old_name_of_a_template_is_accepted() -> None:
    slots = "problem draft critique summary"
    assert Prompt("summarise", slots).template == Prompt("summarize", slots).template
    assert SolverChecker(memory="summary", summary_prompt=Prompt("summarise"))


def test_a_template_takes_the_slots_that_the_field_declares() -> None:
    agent = Twice(prompt="solve_plain", retry_prompt="again")  # type: ignore[arg-type]
    assert type(agent.prompt) is type(agent.retry_prompt) is Prompt
    assert (agent.prompt, agent.prompt.slots) == ("solve_plain", ("problem",))
    assert (agent.retry_prompt, agent.retry_prompt.slots) == ("again", ("problem", "critique"))
    assert replace(agent, prompt=Prompt("code")).prompt.template == Prompt("code").template


@pytest.mark.parametrize(
    ("agent", "options", "error"),
    [
        (
            Twice,
            {"retry_prompt": "verify"},
            r"Twice.retry_prompt: template 'verify' has the slot \{draft\}; Twice fills only "
            r"\{problem\} \{critique\}",
        ),
        (Twice, {"prompt": "nope"}, r"Twice.prompt: there is no prompt 'nope'; known: again, "),
        (Twice, {"prompt": "no/such.txt"}, "Twice.prompt: prompt file no/such.txt does not exist"),
        (Plain, {"prompt": "output"}, r"Plain.prompt: template 'output' has the slot \{output\}"),
    ],
)
def test_a_template_that_cannot_be_filled_names_agent_field_template_and_slot(
    agent: type[Agent], options: dict[str, str], error: str
) -> None:
    with pytest.raises(ValueError, match=error):
        agent(**options)


def test_only_the_first_prompt_must_show_the_problem(tmp_path: Path) -> None:
    silent = tmp_path / "silent.txt"
    silent.write_text("Solve it.")
    assert Twice(retry_prompt=Prompt(str(silent))).retry_prompt.template == "Solve it."
    with pytest.raises(
        ValueError, match=r"Twice.prompt: template .*silent.txt' has no \{problem\}"
    ):
        Twice(prompt=Prompt(str(silent)))


def test_default_that_depends_on_another_field() -> None:
    assert (SolverVerifier().retry_prompt, SolverVerifier(fresh=True).retry_prompt) == (
        "retry",
        "again",
    )
    with pytest.raises(ValueError, match=r"SolverVerifier.retry_prompt: .* \{draft\}"):
        SolverVerifier(retry_prompt=Prompt("verify", "problem draft answer"))


def test_agents_are_values() -> None:
    assert SolverVerifier() == SolverVerifier() != SolverVerifier(rounds=2)
    assert len({SolverVerifier(), SolverVerifier(), SolverChecker()}) == 2


def test_yaml_names_a_template() -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--agents", type=dict[str, Agent])
    kind = f"{Twice.__module__}.Twice"
    config = parser.parse_object(
        {"agents": {"a": {"class_path": kind, "init_args": {"prompt": "steps"}}, "b": kind}}
    )
    assert "prompt: steps" in parser.dump(config)
    assert "prompt: solve\n" in parser.dump(config)
    agents = parser.instantiate(config).agents
    assert (agents["a"].prompt, agents["b"].prompt) == ("steps", "solve")
    assert agents["a"].prompt.slots == ("problem",)


def test_without_choices_the_statement_is_the_text() -> None:
    assert PROBLEM.statement == PROBLEM.text
    asked = PROBLEM.ask(Prompt("solve", "problem"))
    assert asked == user(render("solve", problem=PROBLEM.text))


def test_choices_stand_below_the_text() -> None:
    assert CHOICE.statement == "What is 3 + 4?\n(A) 5\n(B) 7\n(C) 9"
    asked = CHOICE.ask(Prompt("code_plain", "problem"))
    assert asked == user("Code: What is 3 + 4?\n(A) 5\n(B) 7\n(C) 9")


@pytest.mark.parametrize(
    ("choice", "shown"),
    [
        ("B. 7", "(B) 7"),
        ("(B) 7", "(B) 7"),
        ("B) 7", "(B) 7"),
        ("B: 7", "(B) 7"),
        ("B", "(B) B"),
        ("Beta", "(B) Beta"),
        ("A. 7", "(B) A. 7"),
        ("{problem}", "(B) {problem}"),
        ("", "(B) "),
    ],
)
def test_a_choice_has_one_letter(choice: str, shown: str) -> None:
    assert Problem("p", "Which?", "mc", ("x", choice)).statement == f"Which?\n(A) x\n{shown}"


def test_images_stand_before_the_text() -> None:
    [message] = PICTURED.ask(Prompt("solve_plain", "problem"))
    assert message.content == (PICTURE, Text(PICTURED.text))


def test_ask_fills_the_other_slots() -> None:
    prompt = Prompt("verify_plain", "problem answer")
    assert PROBLEM.ask(prompt, answer="{problem}")[0].text == (
        "Check: What is 3 + 4? Answer: {problem}"
    )
    with pytest.raises(ValueError, match="prompt 'output' does not declare problem"):
        PROBLEM.ask(Prompt("output", "output"), output="7")


def test_ask_refuses_a_text() -> None:
    with pytest.raises(TypeError, match=r"Problem.ask takes Prompt\('solve'\), not a text"):
        PROBLEM.ask("solve")  # type: ignore[arg-type]


def test_an_agent_of_a_few_lines_shows_all_of_a_problem() -> None:
    problem = replace(CHOICE, images=(PICTURE,))
    [question] = drive(Twice(), problem, [box("B")]).chat(0)
    assert question.text.startswith(CHOICE.statement)
    assert question.content[0] == PICTURE
