"""The shapes of the rows of other tools: by which fields each is known, and what stands where.

A shape is a line of the table `SHAPES`. A row that no shape fits is read by the usual names of its
fields; a row that two shapes fit is refused until one is named.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

from slm_math.data.json_lines import RowError
from slm_math.foreign import tools
from slm_math.foreign.paths import MISSING, first_of, lookup

Row: TypeAlias = Mapping[str, Any]
PLAIN = "plain"  # the name that asks for no shape


@dataclass(frozen=True)
class Shape:
    """What the rows of a tool look like. Of several dotted paths the first with a value counts.

    Args:
        name: of the tool, also for `--format`.
        needs: paths that every row has.
        completion: where the completion is, or the list of those of a problem.
        gold: where the reference answer is; () if the rows have none.
        problem, id, sample: where these are.
        verdicts: the verdicts of the tool by the name of the metric, each for all samples (a list)
            or for the only one.
        answers: where the answer is that the tool extracted, or a list of them.
        finish: why each completion ended, where it does not stand beside the completion.
        choices: where the choices of a multiple-choice problem are.
        read: makes the completions of a row whose place depends on the row.
    """

    name: str
    needs: tuple[str, ...]
    completion: tuple[str, ...]
    gold: tuple[str, ...] = ()
    problem: tuple[str, ...] = ()
    id: tuple[str, ...] = ()
    sample: tuple[str, ...] = ()
    verdicts: Callable[[Row], dict[str, Any]] = tools.no_verdicts
    answers: tuple[str, ...] = ()
    finish: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    read: Callable[[Row], Any] | None = None

    def fits(self, row: Row) -> bool:
        """Whether a row has all fields of this shape."""
        return all(lookup(row, path) is not MISSING for path in self.needs)

    def completion_of(self, row: Row) -> tuple[str, Any]:
        """Name and value of the completion; a request that failed has an empty one. Raises RowError
        for a row of another shape.
        """
        missing = [path for path in self.needs if lookup(row, path) is MISSING]
        if missing:
            raise RowError(f"not a row of {self.name}: it has no field {missing[0]!r}")
        if self.read is not None:
            return self.completion[0], self.read(row)
        path, value = first_of(row, self.completion)
        return path or self.completion[0], "" if value is None else value


SHAPES = (
    Shape(
        name="lm-eval",
        needs=("doc_id", "resps", "filtered_resps"),
        completion=("resps",),
        gold=("target",),
        problem=("doc.question", "doc.problem", "doc.query", "doc.input"),
        id=("doc_id",),
        verdicts=tools.lm_eval_verdicts,
        answers=("filtered_resps",),
    ),
    Shape(
        name="inspect",
        needs=("id", "epoch", "input", "target", "scores"),
        completion=("output.choices.0.message", "output.completion"),
        gold=("target",),
        problem=("input",),
        id=("id",),
        sample=("epoch",),
        verdicts=tools.inspect_verdicts,
        answers=("scores.*.answer",),
        finish=("output.choices.0.stop_reason",),
        choices=("choices",),
        read=tools.inspect_completion,
    ),
    Shape(
        name="lighteval",
        needs=("doc.query", "model_response.text", "metric"),
        completion=("model_response.text",),
        problem=("doc.query",),
        id=("doc.id",),
        verdicts=tools.mapping_of("metric"),
    ),
    Shape(
        name="evalscope",
        needs=("index", "target", "sample_score.score.prediction"),
        completion=("sample_score.score.prediction",),
        gold=("target",),
        problem=("input", "messages"),
        id=("sample_score.group_id", "index"),
        sample=("sample_score.sample_id",),
        verdicts=tools.mapping_of("sample_score.score.value"),
        answers=("sample_score.score.extracted_prediction",),
    ),
    Shape(
        name="evalscope-predictions",  # written before they are reviewed
        needs=("index", "model", "model_output.choices"),
        completion=("model_output.choices.*.message",),
        problem=("messages",),
        id=("index",),
        finish=("model_output.choices.*.stop_reason",),
    ),
    Shape(
        name="qwen2.5-math",  # also math-evaluation-harness, ToRA, and what was made of these
        needs=("idx", "gt", "code", "pred"),
        completion=("code",),
        gold=("gt",),
        problem=("question", "problem"),
        id=("idx",),
        verdicts=tools.fields_of("score"),
        answers=("pred",),
    ),
    Shape(
        name="nemo-skills",
        needs=("generation", "expected_answer", "predicted_answer"),
        completion=("generation",),
        gold=("expected_answer",),
        problem=("problem", "question"),
        id=("id",),
        verdicts=tools.nemo_verdicts,
        answers=("predicted_answer",),
    ),
    Shape(
        name="open-r1",
        needs=("problem", "answer", "generations", "correctness_math_verify"),
        completion=("generations",),
        gold=("answer",),
        problem=("problem",),
        id=("uuid",),
        verdicts=tools.fields_of("correctness_math_verify", "correctness_llama"),
        finish=("finish_reasons",),
    ),
    Shape(
        name="verl",
        needs=("input", "output", "score"),
        completion=("output",),
        gold=("gts",),
        problem=("input",),
        verdicts=tools.verl_verdicts,
        answers=("pred",),
    ),
    Shape(
        name="trl",
        needs=("step", "prompt", "completion", "advantage"),
        completion=("completion",),
        gold=("solution",),  # where the reward function logs it, as TRL's own does
        problem=("prompt",),
        verdicts=tools.trl_verdicts,
        answers=("answer_parsed",),
    ),
    Shape(
        name="batch",  # of OpenAI, vLLM and whoever has the same interface
        needs=("custom_id", "response", "error"),
        completion=("response.body.choices.*.message.content",),
        id=("custom_id",),
        finish=("response.body.choices.*.finish_reason",),
        read=tools.batch_completions,
    ),
    Shape(
        name="opencompass",
        needs=("origin_prompt", "prediction", "gold"),
        completion=("prediction",),
        gold=("gold",),
        problem=("origin_prompt",),
        id=("number",),
        verdicts=tools.fields_of("correct"),
    ),
)
BY_NAME = {shape.name: shape for shape in SHAPES}
NAMES = (*BY_NAME, PLAIN)


def shape_of(row: Row, name: str | None = None) -> Shape | None:
    """The shape of a row: the one of this name, else the only one that fits; None for a plain row.

    Raises ValueError for a name that is unknown or does not fit, and for two shapes that fit.
    """
    if name is not None:
        return _named(row, name)
    fitting = [shape for shape in SHAPES if shape.fits(row)]
    if len(fitting) > 1:
        names = [shape.name for shape in fitting]
        raise ValueError(
            f"the row may be one of {' or '.join(names)}: say which with --format {names[0]}, or "
            f"--format {PLAIN}"
        )
    return fitting[0] if fitting else None


def _named(row: Row, name: str) -> Shape | None:
    if name == PLAIN:
        return None
    if name not in BY_NAME:
        raise ValueError(f"--format {name} is unknown; known are {', '.join(NAMES)}")
    shape = BY_NAME[name]
    missing = [path for path in shape.needs if lookup(row, path) is MISSING]
    if missing:
        raise ValueError(f"not a row of {name}: it has no field {', '.join(missing)}")
    return shape


@lru_cache(maxsize=64)
def shape_named(name: str) -> Shape:
    """A shape of the table."""
    return BY_NAME[name]
