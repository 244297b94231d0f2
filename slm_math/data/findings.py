"""What is wrong with the problems of a data set: every check of `slm-math check-data`.

An error spoils training or measuring: a reward that no reply can reach, or a test problem that was
trained on. A warning costs rows, or may be intended.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from slm_math.answers import UNDECIDED, equivalent, extract, grade_reply
from slm_math.data.base import MARK
from slm_math.data.checks import check_images, check_tasks
from slm_math.data.identity import problem_key
from slm_math.data.normalized import normalized
from slm_math.data.overlap import overlap
from slm_math.data.templates import same_template
from slm_math.images import ImageError, pixel_hash
from slm_math.types import Problem, Task

ERRORS = {
    "unreadable": "problem or gold cannot be read",
    "image": "image cannot be seen by a model",
    "refused": "gold is refused by its own grader",
    "empty accepted": "an empty answer is accepted",
    "other answer": "solution states another answer",
    "contradiction": "same problem, another gold",
    "given away": "answer stands in the problem",
    "test problem": "same as a test problem",
}
WARNINGS = {
    "duplicate": "same problem, same gold",
    "no answer": "solution states no answer",
    "too long": "longer than the limit",
    "part": "half the text of a test problem",
    "template": "template of a test problem",
    "test image": "image of a test problem",
}
# a problem that begins like this does not give its answer away: "the answer is an integer"
_GIVEN = re.compile(
    r"####|\\boxed|</?answer>|\b(?:final\s+)?(?:answer|solution)\s*(?:is|:|=)\s*\S", re.IGNORECASE
)
PART = 0.5  # of a test problem's 13-grams; fewer are common phrases, and code of diagrams
_QUOTED = 40  # characters of a solution that no problem has by chance


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a problem; `kind` is a key of `ERRORS` or `WARNINGS`, `other`
    the id of the other problem where there are two.
    """

    kind: str
    split: str
    id: str
    text: str
    other: str = ""

    @property
    def is_error(self) -> bool:
        return self.kind in ERRORS

    def to_json(self) -> dict[str, Any]:
        return {"severity": "error" if self.is_error else "warning", **asdict(self)}


def check_task(task: Any, split: str, owner: str) -> Iterator[Finding]:
    """What is wrong with a task by itself. `owner` begins what messages say of a malformed one."""
    id = str(getattr(getattr(task, "problem", None), "id", "?"))
    try:
        check_images(getattr(getattr(task, "problem", None), "images", None) or ())
    except ImageError as error:
        yield Finding("image", split, id, str(error))
        return
    try:
        [task] = check_tasks([task], owner, graded=True)
    except ValueError as error:
        text = str(error).removeprefix(f"{owner}: ").removeprefix(f"problem {id}: ")
        yield Finding("unreadable", split, id, text)
        return
    reply = f"{MARK} {task.gold}" if _is_verdict(task) else f"\\boxed{{{task.gold}}}"
    try:
        verdict = grade_reply(reply, task)
    except ValueError as error:
        yield Finding("unreadable", split, id, f"the gold {task.gold!r:.80}: {error}")
        return
    if not verdict.correct:
        undecided = " (undecided)" if verdict.reason in UNDECIDED else ""
        yield Finding("refused", split, id, f"gold {task.gold!r:.80}: {verdict.reason}{undecided}")
    for empty in ("", "\\boxed{}"):
        if grade_reply(empty, task).correct:
            yield Finding("empty accepted", split, id, f"gold {task.gold!r:.80}")
            break
    yield from _of_solution(task, split)
    yield from _given_away(task, split)


def _is_verdict(task: Task) -> bool:
    return task.problem.answer_type == "verdict"


def _of_solution(task: Task, split: str) -> Iterator[Finding]:
    """A worked solution that states another answer than the gold, or none."""
    if task.solution is None:
        return
    verdict = grade_reply(task.solution, task)
    if verdict.answer is None:
        end = task.solution.strip()[-60:]
        yield Finding("no answer", split, task.problem.id, f"the solution ends in {end!r}")
    elif not verdict.correct:
        text = f"the solution states {verdict.answer!r:.80}, the gold is {task.gold!r:.80}"
        yield Finding("other answer", split, task.problem.id, text)


def _given_away(task: Task, split: str) -> Iterator[Finding]:
    """A problem whose text marks its answer (`answer: 12`, a box), or quotes its solution. A number
    that is merely among what is given is no finding.
    """
    problem, solution = task.problem, normalized(task.solution or "")
    if _is_verdict(task):
        return
    if _GIVEN.search(problem.text):
        stated = extract(problem.text, answer_type=problem.answer_type)
        if stated.value and equivalent(
            stated.value,
            task.gold,
            answer_type=problem.answer_type,
            choices=problem.choices,
            tolerance=task.tolerance,
        ):
            yield Finding("given away", split, problem.id, f"the problem states {stated.value!r}")
            return
    if len(solution) >= _QUOTED and solution in normalized(problem.text):
        yield Finding("given away", split, problem.id, "the problem holds its solution")


def duplicates(tasks: Mapping[str, Sequence[Task]]) -> Iterator[Finding]:
    """Problems that occur before, in any split: with the same gold, or with another one. What a
    test split shares with the others is a finding of `among_test_problems`.
    """
    first: dict[str, tuple[str, Task]] = {}
    for split, some in tasks.items():
        for task in some:
            key = problem_key(task.problem)
            if key not in first:
                first[key] = split, task
                continue
            other_split, other = first[key]
            if split != other_split and "test" in (split, other_split):
                continue
            same = _same_gold(task, other)
            where = "" if split == other_split else f" in {other_split}"
            text = f"{task.problem.text!r:.80}, as{where} {other.problem.id}"
            if not same:
                text = f"gold {task.gold!r:.40}, {other.gold!r:.40} there: {text}"
            kind = "duplicate" if same else "contradiction"
            yield Finding(kind, split, task.problem.id, text, other=other.problem.id)


def _same_gold(task: Task, other: Task) -> bool:
    golds = (str(task.gold), str(other.gold))
    return golds[0] == golds[1] or equivalent(
        *golds,
        answer_type=task.problem.answer_type,
        choices=task.problem.choices,
        tolerance=task.tolerance,
    )


def among_test_problems(
    problems: Mapping[str, Sequence[Problem]],
    test: Sequence[Problem],
    name: str,
    watched: Callable[[Sequence[Problem], str], Iterable[Problem]],
) -> Iterator[Finding]:
    """Problems of other splits that are those of a test set, have half of its 13-grams, or its
    template: one finding for each test problem, split and kind, at the closest problem.

    `watched` shows the progress of going through the problems under a title.
    """
    for split, some in problems.items():
        result = overlap(watched(some, f"{split} and {name}"), test)
        same = {finding.test for finding in result.near_exact}
        for finding in result.findings:
            if not finding.near_exact and finding.together < PART:
                continue
            kind = "test problem" if finding.near_exact else "part"
            share = "" if finding.near_exact else f"{finding.together:.0%} of its 13-grams: "
            pair = some[finding.train], test[finding.test]
            yield _pair(kind, split, pair, share)
        for match in same_template(watched(some, f"{split} and {name}, templates"), test):
            if match.test not in same:
                share = f"{match.shared:.0%} of its words: "
                yield _pair("template", split, (some[match.train], test[match.test]), share)


def _pair(kind: str, split: str, pair: tuple[Problem, Problem], share: str) -> Finding:
    problem, test = pair
    text = f"{test.id}, {share}{problem.text!r:.150} / {test.text!r:.150}"
    return Finding(kind, split, problem.id, text, other=test.id)


def among_test_images(
    problems: Mapping[str, Sequence[Problem]],
    test: Sequence[Problem],
    name: str,
    watched: Callable[[Sequence[Problem], str], Iterable[Problem]],
) -> Iterator[Finding]:
    """Problems of other splits about an image of a test problem, whatever they ask: one finding for
    each image and split. Pixels are compared, so that a copy in another file format is found. Equal
    problems are findings of `among_test_problems`.
    """
    pixels = cache(pixel_hash)  # of each image once
    tested = {pixels(image.source): problem for problem in test for image in problem.images}
    same = set(map(problem_key, test))
    for split, some in problems.items() if tested else ():
        seen: set[str] = set()
        for problem in watched(some, f"{split} and {name}, images"):
            hashes = {pixels(image.source) for image in problem.images}
            for shared in (hashes & tested.keys()) - seen:
                if problem_key(problem) not in same:
                    seen.add(shared)
                    text = f"{name}: {tested[shared].id} shows it, too: {problem.text!r:.80}"
                    yield Finding("test image", split, problem.id, text, other=tested[shared].id)


def too_long(
    tasks: Sequence[Task], lengths: Sequence[int], split: str, limit: int, unit: str
) -> Iterator[Finding]:
    """Problems that are longer than `limit` with their solution; fine-tuning leaves them out."""
    for task, length in zip(tasks, lengths, strict=True):
        if length > limit:
            yield Finding("too long", split, task.problem.id, f"{length} {unit}, limit {limit}")


def by_kind(findings: Iterable[Finding]) -> dict[str, list[Finding]]:
    """The findings by kind, errors first."""
    grouped: dict[str, list[Finding]] = defaultdict(list)
    for finding in findings:
        grouped[finding.kind].append(finding)
    return {kind: grouped[kind] for kind in (*ERRORS, *WARNINGS) if kind in grouped}
