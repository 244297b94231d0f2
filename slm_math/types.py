"""What everything shares: problems, chats, requests, replies, traces. Frozen values, no torch."""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Literal, Protocol, TypeAlias, TypeVar

from slm_math.sampling import Sampling as Sampling  # every request holds one
from slm_math.shortening import shortened

T = TypeVar("T")

AnswerType = Literal["math", "mc", "num", "verdict"]
Finish = Literal["stop", "length"]


@dataclass(frozen=True)
class Text:
    """A span of text; `learn=False` marks one inside an assistant message that was injected (tool
    output).
    """

    text: str
    learn: bool = True


@dataclass(frozen=True)
class Image:
    """An image: a local path or a data URL; `blank` if it hides the problem's own."""

    source: str
    blank: bool = False


@dataclass(frozen=True)
class Reply:
    """What an engine sampled for one request.

    `token_ids` and `logprobs` (nats, one per token: log-softmax of logits / temperature before any
    truncation; at temperature 0, of the logits) are empty when the engine does not report them.
    `support`, when it was asked for, packs the ids (32-bit integers) that top-p, top-k or min-p
    left at each token, nothing where all were left; the log-probability of such a token is that
    among what was left (by vLLM always). `finish` is "stop" for an end-of-turn token or a stop
    string, "length" for the token budget. `text` is what the tokens say, a stop string included,
    the end-of-turn token not; it begins with `<think>` if the prompt ends with it. `counted` is the
    number of tokens that a server says it sampled, `asked` the number of tokens of the prompt that
    the network read, those of images included; both are 0 where a server does not say. `prompt` is
    a digest of the prompt's text and images, by which a chat knows its own replies. `model` is the
    name of the model that answered, as the server gives it; "" where it is unknown.
    """

    text: str
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    finish: Finish = "stop"
    prompt_ids: tuple[int, ...] = ()
    version: int = 0
    temperature: float = 1.0
    seconds: float = 0.0
    counted: int = 0
    support: tuple[bytes, ...] = ()
    prompt: str = ""
    asked: int = 0
    model: str = ""

    @property
    def tokens(self) -> int:
        """The number of tokens sampled."""
        return len(self.token_ids) or self.counted

    @property
    def prompt_tokens(self) -> int:
        """The number of tokens of the prompt, as far as it is known with those of images."""
        return self.asked or len(self.prompt_ids)


Part: TypeAlias = Text | Image | Reply


@dataclass(frozen=True)
class Message:
    """One message of a chat; an assistant message may mix sampled `Reply` spans with injected
    `Text`.
    """

    role: Literal["system", "user", "assistant"]
    content: tuple[Part, ...]

    @property
    def text(self) -> str:
        return "".join([part.text for part in self.content if not isinstance(part, Image)])


Chat: TypeAlias = tuple[Message, ...]


def system(text: str) -> Chat:
    return (Message("system", (Text(text),)),)


def user(text: str, images: Sequence[Image] = ()) -> Chat:
    return (Message("user", (*images, Text(text))),)


def assistant(*parts: Part | str) -> Chat:
    return (
        Message(
            "assistant", tuple([Text(part) if isinstance(part, str) else part for part in parts])
        ),
    )


class Template(Protocol):
    def fill(self, **values: str) -> str: ...


@dataclass(frozen=True)
class Draft:
    """A solution that somebody wrote to a problem, and the answer that it states."""

    text: str
    answer: str


@dataclass(frozen=True)
class Problem:
    """All that an agent may know about a task.

    `choices` are in the order of their letters; `text` does not repeat them. `tags` holds level,
    subject and the like, for reports only. A problem with a `draft` asks whether the answer of that
    draft is right (answer type "verdict": CORRECT or INCORRECT).
    """

    id: str
    text: str
    answer_type: AnswerType = "math"
    choices: tuple[str, ...] = ()
    images: tuple[Image, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    draft: Draft | None = None

    @property
    def statement(self) -> str:
        """The text, and below it a line `(A) 5` for each choice."""
        lines = [self.text]
        for number, choice in enumerate(self.choices):
            letter = chr(ord("A") + number)
            own_letter = r"^(?:\({0}\)|{0}[.):])\s*".format(re.escape(letter))
            lines.append(f"({letter}) {re.sub(own_letter, '', choice)}")
        return "\n".join(lines)

    def ask(self, prompt: Template, /, **slots: str) -> Chat:
        """A user message that shows the whole problem: its images, and `prompt` (a
        `slm_math.prompts.Prompt`) with text and choices in its slot {problem}, its draft in {draft}
        and {answer}, and `slots`. Raises ValueError for a problem with a draft that the prompt
        would not show.
        """
        if not hasattr(prompt, "fill"):
            raise TypeError(f"Problem.ask takes Prompt({prompt!r:.100}), not a text")
        if self.draft is not None:
            own = {"draft": self.draft.text, "answer": self.draft.answer}
            declared = getattr(prompt, "slots", ())
            slots = {name: text for name, text in own.items() if name in declared} | slots
            if not set(own) & set(slots):
                raise ValueError(
                    f"problem {self.id} asks about a draft, which this agent does not show: use "
                    "Judge"
                )
        return user(prompt.fill(problem=self.statement, **slots), self.images)


@dataclass(frozen=True)
class Task:
    """A problem with its reference answer; `solution` is a worked solution where the data has one.

    `tolerance`, of problems with answer type "num": 0.01 is absolute, "1%" relative to the
    reference.
    """

    problem: Problem
    gold: str
    solution: str | None = None
    tolerance: float | str | None = None


_DECODING = tuple(each.name for each in fields(Sampling))


@dataclass(frozen=True)
class Generate:
    """Ask the engine of `role` for one reply. `None` fields take the role's default sampling.

    With `resume=True` the chat ends in an open assistant message, and the reply continues it. Of a
    cascade, `attempt` is the number of the try, whose requests are counted by themselves: no draw
    depends on how many another try needed. `plays` is the agent's own role, which `role` plays.
    `draw` ends the random key of a request in place of its number, where a workflow runs again.
    """

    chat: Chat
    role: str = "solver"
    resume: bool = False
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    max_new_tokens: int | None = None
    stop: tuple[str, ...] | None = None
    not_first: tuple[str, ...] | None = None
    effort: str | None = None
    attempt: int = 0
    plays: str = ""
    draw: tuple[int | str, ...] = ()

    def sampling(self, default: Sampling) -> Sampling:
        given = {n: value for n in _DECODING if (value := getattr(self, n)) is not None}
        return replace(default, **given) if given else default


@dataclass(frozen=True)
class RunPython:
    """Ask the sandbox to run a program.

    `earlier` are the blocks that ran before it in the same session: they are run again first,
    silently, so that their names exist; the sandbox itself remembers nothing. `turns` says in how
    many requests all of these were first run, this one included: each has its time; 0 stands for
    one a block.
    """

    code: str
    earlier: tuple[str, ...] = ()
    turns: int = 0

    def __post_init__(self) -> None:
        if not self.turns:
            object.__setattr__(self, "turns", 1 + len(self.earlier))
        if not 1 <= self.turns <= 1 + len(self.earlier):
            raise ValueError(
                f"{1 + len(self.earlier)} blocks cannot have been {self.turns} requests"
            )


@dataclass(frozen=True)
class RunResult:
    """What a program did.

    `value` is the last expression's, as `print` would show it ("" for None). `error` is one line,
    e.g. `line 3: NameError: name 'x' is not defined`; `error_type` its class (TimeoutError and
    OutputError also when it was stopped), Crash or Exit; `error_line` a line of the program, 0 when
    it has none. `stdout`, `stderr` and `value` hold the beginning and the end of what is long.
    `output_overflow`: stopped for a flood of output.
    """

    ok: bool
    stdout: str = ""
    error: str = ""
    timed_out: bool = False
    output_overflow: bool = False
    seconds: float = 0.0
    stderr: str = ""
    value: str = ""
    error_type: str = ""
    error_line: int = 0
    out_of_memory: bool = False

    @property
    def text(self) -> str:
        """The text that a model sees: the output, then the last expression's value or the line of
        the error; of long ones the beginning and the end, as the rest would fill its context.
        """
        parts = (
            shortened(self.stdout.strip("\n")),
            shortened(self.value) if self.ok else self.error,
        )
        return "\n".join(filter(None, parts))


@dataclass(frozen=True)
class Note:
    """An entry in the trace. It needs no result: the workflow is resumed with None.

    kind "draft": the answer of a round, None if it stated none; "candidate": one of several answers
    side by side. Both are graded in records. "verdict": the decision of `role` on the last draft or
    candidate (CORRECT, INCORRECT, UNCLEAR). "vote": the answer that won, `value` its share of the
    votes. "choice": the candidate's answer that `role` chose, `value` its number among those shown;
    None if it chose none. "lost": a reply of `role` that is unusable (empty, truncated) or never
    came. "stop": why a loop of rounds ended. Of a cascade, "try": why a try was kept or not;
    "kept": the value that the program of the try printed which was kept, `value` its score or its
    share of the votes.

    `branch` is the place of the note among workflows that run side by side; `parallel` sets it.
    """

    kind: Literal["draft", "candidate", "verdict", "vote", "choice", "lost", "stop", "try", "kept"]
    text: str | None = None
    value: float | None = None
    role: str = ""
    branch: tuple[int, ...] = ()


Effect: TypeAlias = Generate | RunPython | Note
Workflow: TypeAlias = Generator[list[Effect], list[Any], T]


@dataclass(frozen=True)
class Turn:
    """One answered generation request."""

    request: Generate
    reply: Reply


@dataclass(frozen=True)
class Run:
    """One program that ran, after the earlier blocks of its session."""

    code: str
    result: RunResult
    earlier: tuple[str, ...] = ()


@dataclass(frozen=True)
class Trace:
    """What happened when an agent met a problem, in order; it never holds the reference answer.

    `answer` is what the agent returned, None with an `error`: why the workflow did not end (an
    endpoint that stayed down; `skipped`: the problem does not fit into the model's context).
    """

    problem: Problem
    sample: int
    events: tuple[Turn | Run | Note, ...]
    answer: str | None
    error: str | None = None
    seconds: float = 0.0
    skipped: bool = False

    @cached_property
    def turns(self) -> tuple[Turn, ...]:
        return tuple(event for event in self.events if isinstance(event, Turn))

    @cached_property
    def runs(self) -> tuple[Run, ...]:
        return tuple(event for event in self.events if isinstance(event, Run))

    @cached_property
    def notes(self) -> tuple[Note, ...]:
        return tuple(event for event in self.events if isinstance(event, Note))
