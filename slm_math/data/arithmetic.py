"""Arithmetic: generated word problems with two steps, so easy that a small model learns them from
random weights on a CPU, in minutes.

A problem of the family "bags and a gain", and its worked solution:

    Pia has 7 jars of 4 shells and finds 12 more. How many shells has Pia now?

    7*4=28
    28+12=40
    #### 40
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from slm_math.answers.verdicts import DECISIONS
from slm_math.data.arithmetic_families import (
    ANSWERS_ONLY,
    DEMONSTRATED,
    FAMILIES,
    PRODUCT,
    TINY,
    Posed,
    largest_size,
    pose,
    posed_of,
)
from slm_math.data.arithmetic_steps import (
    OPERATIONS,
    attempt,
    evaluate,
    expression_of,
    mistaken,
    program,
    reasoning,
)
from slm_math.data.arithmetic_twins import twinned
from slm_math.data.base import Source, Split
from slm_math.data.draws import Draw
from slm_math.data.twins import as_twin
from slm_math.prompts import render
from slm_math.ranges import check_number, check_whole
from slm_math.types import Chat, Problem, Task, Text, assistant, user

# the numbers of drills
_FIRST = (range(2, 31), range(2, 90))
_SECOND = (TINY, TINY, range(10, 21))


class Arithmetic(Source):
    """Word problems with two steps.

    Args:
        seed: of the random draws; the split of a problem does not depend on it.
        train: number of training problems, evenly over the families.
        validation: number of validation problems, all with different numbers; at most 341.
        test: number of test problems, all with different numbers; at most 302.
        solve: number of worked solutions (of demonstrated families, 3 % two-digit products).
        bare: the share of the worked solutions that are the answer alone, without reasoning.
        code: number of dialogues that write a program and answer with its output.
        check: number of dialogues that write a program to verify an answer.
        correct: number of dialogues that check and correct an attempt, of which half are wrong.
        copies: number of drills that repeat the output of a program as the answer.
        drills: number of drills with equations and no story.
    """

    name = "arithmetic"

    def __init__(
        self,
        seed: int = 0,
        train: int = 4000,
        validation: int = 300,
        test: int = 300,
        solve: int = 10500,
        bare: float = 0.1,
        code: int = 3000,
        check: int = 3400,
        correct: int = 0,
        copies: int = 1000,
        drills: int = 9000,
    ) -> None:
        counts = {"train": train, "validation": validation, "test": test, "solve": solve}
        counts |= {"code": code, "check": check, "correct": correct}
        counts |= {"copies": copies, "drills": drills}
        for name, count in counts.items():
            check_whole(f"Arithmetic.{name}", count, low=0)
        check_number("Arithmetic.bare", bare, low=0, high=1)
        self.seed = seed
        self.sizes: dict[Split, int] = {"train": train, "validation": validation, "test": test}
        for split in ("validation", "test"):
            largest = largest_size(split, self.sizes[split])
            if self.sizes[split] > largest:
                raise ValueError(
                    f"Arithmetic has at most {largest} {split} problems with different numbers, "
                    f"evenly over its families; {split} is {self.sizes[split]}"
                )
        self.solve, self.bare, self.code, self.check = solve, bare, code, check
        self.correct, self.copies, self.drills = correct, copies, drills

    def tasks(self, split: Split) -> list[Task]:
        """The problems of a split; `tags` has the family and the kind."""
        return [self._task(number, each, split) for number, each in enumerate(self._posed(split))]

    def _posed(self, split: Split) -> list[Posed]:
        draw = Draw(f"{self.seed} tasks {split}")
        problems: list[Posed] = []
        seen: set[tuple[str, str]] = set()
        while len(problems) < self.sizes[split]:
            family = FAMILIES[len(problems) % len(FAMILIES)]
            posed = posed_of(draw, family, split)
            if split != "train" and (family.name, posed.expression) in seen:
                continue  # the same numbers in other words are no independent observation
            seen.add((family.name, posed.expression))
            problems.append(posed)
        return problems

    def _task(self, number: int, posed: Posed, split: Split) -> Task:
        family, expression = posed.family, posed.expression
        tags = {"family": family.name, "kind": family.kind}
        problem = Problem(f"{self.name}/{split}/{number}", posed.text, "num", tags=tags)
        solution = None if family.kind == ANSWERS_ONLY else reasoning(expression)
        return Task(problem, str(evaluate(expression)), solution)

    def twins(self, split: Split) -> list[Task]:
        """The same stories with other numbers: to test problems those of the validation split, and
        the reverse; none to training problems.
        """
        twins = []
        for number, (posed, twin) in enumerate(twinned(self._posed(split), split, self.seed)):
            if twin is not None:
                parent = self._task(number, posed, split).problem
                twins.append(as_twin(self._task(number, twin, split), parent))
        return twins

    def dialogues(self, split: Split, prompt: str = "solve_plain") -> list[Chat]:
        """The demonstrations in the order of training; for validation and test 5 % of them.

        They start with 90 % of the drills; all others follow in random order. No family of the kind
        "answers only" occurs.
        """
        draw = Draw(f"{self.seed} dialogues {split}")
        share = 1.0 if split == "train" else 0.05
        demonstrated = [family for family in FAMILIES if family.kind == DEMONSTRATED]
        hard = [family for family in FAMILIES if family.kind == PRODUCT]

        def posed(product_share: float) -> tuple[str, str]:
            return pose(
                draw, draw.choice(hard if draw.random() < product_share else demonstrated), split
            )

        chats = []
        for _ in range(round(self.solve * share)):
            text, expression = posed(0.03)
            reply = (
                f"#### {evaluate(expression)}"
                if draw.random() < self.bare
                else reasoning(expression)
            )
            chats.append(user(render(prompt, problem=text)) + assistant(reply))
        for _ in range(round(self.code * share)):
            text, expression = posed(0.4)
            value = str(evaluate(expression))
            ran = assistant(program(expression)) + user(render("output_plain", output=value))
            chats.append(
                user(render("code_plain", problem=text)) + ran + assistant(f"#### {value}")
            )
        for _ in range(round(self.check * share)):
            text, expression = posed(0.25)
            right = draw.random() < 0.5
            answer = evaluate(expression) if right else mistaken(draw, expression)
            question = user(render("verify_plain", problem=text, answer=str(answer)))
            chats.append(question + checking(expression, answer, DECISIONS[not right]))
        for _ in range(round(self.correct * share)):
            text, expression = posed(0.03)
            question = user(render(prompt, problem=text))
            chats.append(question + correcting(expression, attempt(draw, expression)))
        chats += [copying(draw) for _ in range(round(self.copies * share))]
        drills = [equations(draw) for _ in range(round(self.drills * share))]
        first = len(drills) * 9 // 10
        chats += drills[first:]
        draw.shuffle(chats)
        return drills[:first] + chats

    def demonstrate_check(self, solution: str, answer: str, verdict: str) -> Chat | None:
        """A program that compares the answer, its output, and the verdict: what the dialogues show.
        An answer that is no whole number is not demonstrated on.
        """
        if re.fullmatch(r"-?\d{1,9}", answer, re.ASCII) is None:
            return None
        return checking(expression_of(solution), int(answer), verdict)


def checking(expression: str, answer: int, verdict: str) -> Chat:
    """A check of an answer: a program, its output, and a verdict."""
    output = render("output_plain", output=str(evaluate(expression) == answer))
    return assistant(program(expression, answer)) + user(output) + assistant(verdict)


def correcting(expression: str, first: str) -> Chat:
    """An attempt, which is not learned, and the solution that follows a check of it."""
    check = user(render("correct_plain"))
    return assistant(Text(first, learn=False)) + check + assistant(reasoning(expression))


def equations(draw: Draw) -> Chat:
    """A drill: equations, whose results alone are loss tokens."""
    parts: list[Text] = []
    choice = draw.choice
    for _ in range(8):
        kind, a, b = draw.random(), choice(TINY), choice(TINY)
        if kind < 0.25:
            sign = "*"
        elif kind < 0.4:
            a, sign = a * b, "/"
        else:
            a, b = choice(choice(_FIRST)), choice(choice(_SECOND))
            sign = "+" if kind < 0.7 or a <= b else "-"
        parts += _equation("\n" if parts else "", a, sign, b)
    return user("") + assistant(*parts)


@cache  # a few thousand
def _equation(before: str, a: int, sign: str, b: int) -> tuple[Text, Text]:
    """An equation and its result, which alone is learned."""
    return Text(f"{before}{a}{sign}{b}=", learn=False), Text(str(OPERATIONS[sign](a, b)))


def copying(draw: Draw) -> Chat:
    """A drill: the answer is the output of the program, whatever it is."""
    chat: Chat = ()
    for _ in range(5):
        value = draw.randint(1, 10 ** draw.randint(2, 4))
        chat += user(render("output_plain", output=str(value))) + assistant(f"#### {value}")
    return chat


def corpus() -> Iterator[str]:
    """The text that a tokenizer is trained on: the same for every seed and size, from the training
    split only.
    """
    draw = Draw("corpus")
    for family in FAMILIES * 60:
        text, expression = pose(draw, family, "train")
        yield text
        yield (
            f"Code: {text}\n{program(expression)}\nOutput: "
            f"{evaluate(expression)}\n{reasoning(expression)}"
        )
        yield (
            f"Check: {text} Answer: "
            f"{evaluate(expression)}\n{program(expression, evaluate(expression))}"
        )
        yield "Output: True\nCORRECT\nOutput: False\nINCORRECT"
