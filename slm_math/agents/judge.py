"""Judge somebody's draft: a verifier as a solver of problems of its own."""

from __future__ import annotations

from dataclasses import dataclass

from slm_math.agents.base import Agent
from slm_math.agents.judging import ask_verifier
from slm_math.answers.verdicts import DECISIONS
from slm_math.prompts import Prompt
from slm_math.types import Problem, Workflow


@dataclass(frozen=True)
class Judge(Agent):
    """Says whether the answer of a problem's draft is right; the verdict is its answer.

    It asks what `SolverVerifier` asks its verifier, so that a verifier can be trained and measured
    by itself: all samples of a group judge the same draft. UNCLEAR counts as a missing answer.

    Args:
        prompt: shows the draft and its answer.
        output_prompt: shows the output of a program.
        runs: programs that the verifier may run before it decides.
        temperature: replaces the role's default.
    """

    roles = ("verifier",)
    uses_python = True
    minimums = {"runs": 0}

    prompt: Prompt = Prompt("verify", "problem draft answer")
    output_prompt: Prompt = Prompt("verify_output", "output")
    runs: int = 1
    temperature: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        judging_prompt(self.prompt)
        self.derive(uses_python=self.runs > 0)

    def solve(self, problem: Problem) -> Workflow[str | None]:
        if problem.draft is None:
            raise ValueError(
                f"problem {problem.id} has no draft to judge: Judge takes the problems of a data "
                "set of drafts (slm_math.data.Drafts)"
            )
        decision, _ = yield from ask_verifier(
            problem,
            problem.draft.text,
            problem.draft.answer,
            prompt=self.prompt,
            output_prompt=self.output_prompt,
            runs=self.runs,
            temperature=self.temperature,
        )
        return decision if decision in DECISIONS else None


def judging_prompt(name: str) -> Prompt:
    """The prompt that shows a problem and a draft. Raises ValueError for a template that shows no
    draft.
    """
    prompt = Prompt(name, "problem draft answer")
    if not any(mark in prompt.template for mark in ("{draft}", "{answer}")):
        raise ValueError(
            f"prompt {name!r} shows neither {{draft}} nor {{answer}}, so there is nothing to judge "
            "in it: use one such as verify"
        )
    return prompt
