"""Generated word problems: small enough that a model learns them from nothing, on a processor, in
minutes.

A *family* is an expression and its wordings. Some families are *demonstrated*: supervised dialogues
show how they are solved. Others are *answers only*: they use the same arithmetic behind words that
no dialogue explains ("8 fewer", "6 times as many", "shares equally"), so what such words ask for
has to be found out by reinforcement learning from right and wrong answers. A third kind, *two-digit
product*, is arithmetic that only a program does well.
"""

from __future__ import annotations

import random
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from slm_math.data.base import Source, Split
from slm_math.prompts import render
from slm_math.types import Chat, Problem, Task, Text, assistant, user

DEMONSTRATED = "demonstrated"
ANSWERS_ONLY = "answers only"
PRODUCT = "two-digit product"

NAMES = (
    "Mina",
    "Oskar",
    "Juno",
    "Teo",
    "Lena",
    "Ravi",
    "Cleo",
    "Hugo",
    "Nora",
    "Idris",
    "Pia",
    "Sven",
)
THINGS = (
    "beads",
    "stamps",
    "shells",
    "cards",
    "plums",
    "buttons",
    "marbles",
    "coins",
    "pears",
    "stickers",
)
HOLDERS = ("bags", "boxes", "jars", "trays", "baskets")
GAINS = ("finds {} more", "buys {} more", "gets {} from a friend", "makes {} new ones", "wins {}")
LOSSES = ("loses {}", "sells {}", "gives {} to a friend", "drops {}", "uses up {}")


@dataclass(frozen=True)
class Family:
    """An expression over a, b, c, and the stories that ask for its value.

    In a story, `[+c]` stands for some way of gaining c things and `[-c]` for some way of losing
    them.
    """

    name: str
    kind: str
    expression: str
    stories: tuple[str, ...]
    question: str = "How many {things} has {name} now?"


BAGS = (
    "{name} has {a} {holders} of {b} {things}",
    "In {a} {holders} are {b} {things} each. {name} takes all",
    "{other} has {a} {things}. {name} has that in each of {b} {holders}",
)
PACKED = (
    "{name} packs {a} {things} in {b} {holders}, keeps one",
    "{a} {things} fill {b} {holders}. {name} takes one",
)
MORE = (
    "{name} has {a} {things}, [+b] and [-c].",
    "{other} has {a} {things}. {name} has {b} more and [-c].",
    "{name} has {a} {things} and [+b]. {other} takes {c}.",
)
LESS = (
    "{name} has {a} {things}, [-b] and [+c].",
    "{other} has {a} {things}. {name} has {b} less and [+c].",
)

FAMILIES = (
    Family("bags and a gain", DEMONSTRATED, "a*b+c", tuple(f"{bags} and [+c]." for bags in BAGS)),
    Family("bags and a loss", DEMONSTRATED, "a*b-c", tuple(f"{bags} and [-c]." for bags in BAGS)),
    Family(
        "packed and a gain",
        DEMONSTRATED,
        "a/b+c",
        tuple(f"{packed} and [+c]." for packed in PACKED),
    ),
    Family(
        "packed and a loss",
        DEMONSTRATED,
        "a/b-c",
        tuple(f"{packed} and [-c]." for packed in PACKED),
    ),
    Family("more and a loss", DEMONSTRATED, "a+b-c", MORE),
    Family("less and a gain", DEMONSTRATED, "a-b+c", LESS),
    Family("many bags", PRODUCT, "a*b+c", ("{name} has {a} {holders} of {b} {things} and [+c].",)),
    Family(
        "fewer",
        ANSWERS_ONLY,
        "a-b+c",
        ("{other} has {a} {things}. {name} has {b} fewer and [+c].",),
    ),
    Family(
        "together",
        ANSWERS_ONLY,
        "a+b-c",
        ("{name} puts {a} {things} with {b} of {other} and [-c].",),
    ),
    Family(
        "times",
        ANSWERS_ONLY,
        "a*b-c",
        ("{other} has {a} {things}. {name} has {b} times as many and [-c].",),
    ),
    Family(
        "every day",
        ANSWERS_ONLY,
        "a*b+c",
        ("{name} paints {a} {things} every day for {b} days and [+c].",),
    ),
    Family(
        "shares",
        ANSWERS_ONLY,
        "a/b+c",
        ("{a} {things} are shared by {b} people. {name} is one and [+c].",),
    ),
    Family(
        "how many more",
        ANSWERS_ONLY,
        "a+b-c",
        ("{name} has {a} {things} and [+b]. {other} has {c}.",),
        "How many more {things} has {name} now?",
    ),
)


def evaluate(expression: str) -> int:
    """The value of e.g. `8*6+35`; a division must come out even."""
    return int(worked(expression)[-1].rpartition("=")[2])


def worked(expression: str) -> list[str]:
    """One equation per step, e.g. `8*6+35` -> ["8*6=48", "48+35=83"], from left to right (products
    stand first).
    """
    total, *steps = re.findall(r"[-+*/]?\d+", expression)
    lines = [] if steps else [f"{total}={total}"]
    for step in steps:
        left, right = int(total), int(step[1:])
        if step[0] == "/" and left % right:
            raise ValueError(f"{left}/{right} does not come out even")
        total = str(
            {"+": left + right, "-": left - right, "*": left * right, "/": left // right}[step[0]]
        )
        lines.append(f"{left}{step}={total}")
    return lines


def program(expression: str, claim: int | None = None) -> str:
    """The program that prints the value, or whether a claim is right, as an assistant writes it."""
    value = expression.replace("/", "//")
    return f"```python\nprint({value if claim is None else f'{value}=={claim}'})\n```"


def split_of(family: Family, numbers: tuple[int, ...]) -> Split:
    """The split a problem belongs to: decided by its expression and its numbers in any order,
    whatever its wording.
    """
    bucket = zlib.crc32(f"{family.expression}:{sorted(numbers)}".encode()) % 8
    return "test" if bucket == 0 else "validation" if bucket == 1 else "train"


class Arithmetic(Source):
    """Word problems with two steps.

    Args:
        seed: what is drawn; the split of a problem does not depend on it.
        train, validation, test: how many problems each split has, evenly over the families.
        solve: worked solutions to imitate (demonstrated families; a small part two-digit products).
        bare: the share of them that give the answer without reasoning.
        code, check: dialogues that write a program and read its output to answer, or to judge an
            answer.
        copies: drills in which the answer is what a program printed.
        drills: drills with equations and no story.
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
        copies: int = 1000,
        drills: int = 9000,
    ) -> None:
        self.seed = seed
        self.sizes: dict[Split, int] = {"train": train, "validation": validation, "test": test}
        self.solve, self.bare, self.code, self.check = solve, bare, code, check
        self.copies, self.drills = copies, drills

    def tasks(self, split: Split) -> list[Task]:
        """The problems of a split; `tags` has the family and the kind."""
        draw = random.Random(f"{self.seed} tasks {split}")
        tasks: list[Task] = []
        seen: set[tuple[str, str]] = set()
        while len(tasks) < self.sizes[split]:
            index = len(tasks)
            family = FAMILIES[index % len(FAMILIES)]
            text, expression = pose(draw, family, split)
            if split != "train" and (family.name, expression) in seen:
                continue  # the same sum in other words is not another observation
            seen.add((family.name, expression))
            problem = Problem(
                f"{self.name}/{split}/{index}",
                text,
                "num",
                tags={"family": family.name, "kind": family.kind},
            )
            solution = None if family.kind == ANSWERS_ONLY else reasoning(expression)
            tasks.append(Task(problem, str(evaluate(expression)), solution))
        return tasks

    def dialogues(self, split: Split, prompt: str = "solve_plain") -> list[Chat]:
        """The dialogues to imitate, in the order of study; for validation and test a twentieth of
        them.

        First come nine tenths of the drills, then all else, shuffled. No family of kind "answers
        only" occurs.
        """
        draw = random.Random(f"{self.seed} dialogues {split}")
        share = 1.0 if split == "train" else 0.05
        shown = [family for family in FAMILIES if family.kind == DEMONSTRATED]
        hard = [family for family in FAMILIES if family.kind == PRODUCT]

        def posed(product_share: float) -> tuple[str, str]:
            return pose(draw, draw.choice(hard if draw.random() < product_share else shown), split)

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
            asked = user(render("verify_plain", problem=text, answer=str(answer)))
            ran = assistant(program(expression, answer)) + user(
                render("output_plain", output=str(right))
            )
            chats.append(asked + ran + assistant("CORRECT" if right else "INCORRECT"))
        chats += [copying(draw) for _ in range(round(self.copies * share))]
        drills = [equations(draw) for _ in range(round(self.drills * share))]
        first = len(drills) * 9 // 10
        chats += drills[first:]
        draw.shuffle(chats)
        return drills[:first] + chats


def pose(draw: random.Random, family: Family, split: Split) -> tuple[str, str]:
    """A problem of the family that belongs to the split: its text and its expression in numbers."""
    while True:
        numbers = numbers_for(draw, family)
        expression = family.expression.translate(
            {ord(letter): str(n) for letter, n in zip("abc", numbers)}
        )
        partial = [int(line.rpartition("=")[2]) for line in worked(expression)]
        if min(partial) > 0 and split_of(family, numbers) == split:
            break
    gains, losses = draw.sample(GAINS, len(GAINS)), draw.sample(LOSSES, len(LOSSES))
    text = re.sub(
        r"\[([+-])([a-c])\]",
        lambda mark: (gains if mark[1] == "+" else losses).pop().format("{" + mark[2] + "}"),
        f"{draw.choice(family.stories)} {family.question}",
    )
    name, other = draw.sample(NAMES, 2)
    words = {
        "name": name,
        "other": other,
        "things": draw.choice(THINGS),
        "holders": draw.choice(HOLDERS),
    }
    return text.format(**words, **dict(zip("abc", numbers))), expression


def numbers_for(draw: random.Random, family: Family) -> tuple[int, int, int]:
    """Numbers for a, b and c such that a division comes out even; other demands are left to the
    caller.
    """

    def small() -> int:
        return draw.randint(2, 9) if draw.random() < 0.75 else draw.randint(10, 20)

    if family.kind == PRODUCT:
        return draw.randint(12, 79), draw.randint(12, 79), small()
    first, second = draw.randint(2, 9), draw.randint(2, 9)
    if family.expression.startswith("a*b"):
        return first, second, small()
    if family.expression.startswith("a/b"):
        return first * second, second, small()
    return draw.randint(5, 49), small(), small()


def reasoning(expression: str) -> str:
    """A worked solution that ends in its answer."""
    return "\n".join([*worked(expression), f"#### {evaluate(expression)}"])


def mistaken(draw: random.Random, expression: str) -> int:
    """A wrong answer: a slip of the arithmetic, a wrong operation, or a step left out."""
    right = evaluate(expression)
    steps = [int(line.rpartition("=")[2]) for line in worked(expression)]
    swapped = evaluate(expression.translate(str.maketrans("+-", "-+")))
    slips = [
        right + draw.choice((-20, -10, -2, -1, 1, 2, 10, 20)),
        steps[0],
        swapped,
        draw.randint(1, 99),
    ]
    return draw.choice([slip for slip in slips if slip > 0 and slip != right] or [right + 1])


def equations(draw: random.Random) -> Chat:
    """A drill: equations, of which only the results are learned."""
    parts: list[Text] = []
    for _ in range(8):
        kind, a, b = draw.random(), draw.randint(2, 9), draw.randint(2, 9)
        if kind < 0.25:
            left = f"{a}*{b}"
        elif kind < 0.4:
            left = f"{a * b}/{b}"
        else:
            a, b = (
                draw.randint(2, draw.choice((30, 89))),
                draw.randint(*draw.choice(((2, 9), (2, 9), (10, 20)))),
            )
            left = f"{a}+{b}" if kind < 0.7 or a <= b else f"{a}-{b}"
        result = str(evaluate(left))
        parts += [Text(f"{left}=" if not parts else f"\n{left}=", learn=False), Text(result)]
    return user("") + assistant(*parts)


def copying(draw: random.Random) -> Chat:
    """A drill: the answer is what the program printed, whatever that was."""
    chat: Chat = ()
    for _ in range(5):
        value = draw.randint(1, 10 ** draw.randint(2, 4))
        chat += user(render("output_plain", output=str(value))) + assistant(f"#### {value}")
    return chat


def corpus() -> Iterator[str]:
    """The text a tokenizer is trained on: the same for every seed and size, and from the train
    split alone.
    """
    draw = random.Random("corpus")
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
