"""Put the answer back into the problem; a program decides."""

from __future__ import annotations

from slm_math.agents.base import Agent, ask, stated
from slm_math.agents.judging import trial
from slm_math.agents.solver_verifier import SILENT
from slm_math.prompts import render
from slm_math.types import Generate, Note, Problem, Workflow, assistant, user


class BackwardCheck(Agent):
    """Solves; then writes a program that takes the answer as given and prints whether the problem's
    conditions hold.

    On False the solver tries again, up to `rounds` drafts. An answer that holds, or that no program
    could decide about, stands; else the last one. A program that fails may be mended once.
    """

    uses_python = True

    def __init__(
        self,
        rounds: int = 3,
        prompt: str = "solve",
        backward_prompt: str = "backward",
        repair_prompt: str = "repair",
        retry_prompt: str = "retry",
        retry_temperature: float = 0.7,
    ) -> None:
        if rounds < 1:
            raise ValueError(f"BackwardCheck needs rounds >= 1, got {rounds}")
        self.rounds = rounds
        self.prompt = prompt
        self.backward_prompt = backward_prompt
        self.repair_prompt = repair_prompt
        self.retry_prompt = retry_prompt
        self.retry_temperature = retry_temperature
        self.takes("problem", "prompt")
        self.takes("problem answer", "backward_prompt")
        self.takes("output", "repair_prompt")
        self.takes("problem critique", "retry_prompt")

    def solve(self, problem: Problem) -> Workflow[str | None]:
        chat = user(render(self.prompt, problem=problem.text), problem.images)
        answer, why = None, "rounds"
        for round in range(self.rounds):
            draft = yield from ask(
                Generate(chat, temperature=self.retry_temperature if round else None), stated
            )
            if draft is None:
                why = "lost"
                break
            said = stated(draft.text)
            yield [Note("draft", said)]
            answer = said or answer
            critique = SILENT
            if said is not None:
                decision, output = yield from trial(
                    problem, said, self.backward_prompt, self.repair_prompt
                )
                if decision != "INCORRECT":
                    why = "accepted" if decision == "CORRECT" else "undecided"
                    break
                critique = (
                    f"A program that puts the answer {said} back into the problem "
                    f"printed:\n{output}"
                )
            retry = render(self.retry_prompt, problem=problem.text, critique=critique)
            chat += assistant(draft) + user(retry)
        yield [Note("stop", why)]
        return answer
