"""Drafts: solutions that somebody wrote, each with the question whether its answer is right.

A row looks like this (an invented one; `gold` may be replaced by `"correct": true`):

    {"problem": "What is 15 % of 80?", "gold": "12",
     "draft": "0.15 * 80 = 11, so the answer is \\\\boxed{11}.", "answer": "11"}
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import chain

from slm_math.agents.judge import judging_prompt
from slm_math.answers.verdicts import DECISIONS
from slm_math.data.base import MARK, Source, Split, read_tasks
from slm_math.data.identity import problem_key, question_key
from slm_math.data.published import (
    checked_fraction,
    checked_limit,
    existing_path,
    published_split,
    split_by_problem,
)
from slm_math.data.written_drafts import Written, WrittenDraft, read_drafts
from slm_math.ranges import check_whole
from slm_math.types import Chat, Problem, Task, assistant

RIGHT, WRONG = DECISIONS


class Drafts(Source):
    """Drafts to judge, of evaluations or of files; the reference answer is CORRECT or INCORRECT.

    All drafts of a problem belong to one split: that of the evaluation in which they were written,
    and of training problems those are held out for validation that GSM8K and MATH hold out. So a
    verifier is never trained and judged on one problem. All labels are decided by one version of
    the grader.

    Args:
        path: the output folder of an evaluation, that of one agent, a file with the fields problem,
            draft, answer, and gold or correct, or a folder of such files; or a list of these. Files
            whose name begins with test or validation are of that split.
        balance: keep as many right as wrong drafts.
        per_problem: keep at most so many drafts of a problem.
        validation: the share of the training problems that is held out for validation.
        limit: keep at most so many drafts of each split.
        seed: of which drafts are kept, and of their order.
        solutions: a data set whose worked solutions of the same problems the dialogues show before
            each verdict, or which demonstrates checks of its own (`Source.demonstrate_check`);
            drafts of problems without a solution are left out of the dialogues.
        shuffle_labels: seed of a random order in which the labels of the training drafts are dealt
            out again: a control, from which no verifier can learn to judge.
    """

    name = "drafts"

    def __init__(
        self,
        path: str | list[str],
        balance: bool = True,
        per_problem: int | None = None,
        validation: float = 0.05,
        limit: int | None = None,
        seed: int = 0,
        solutions: Source | None = None,
        shuffle_labels: int | None = None,
    ) -> None:
        paths = [path] if isinstance(path, str) else list(path)
        if not paths:
            raise ValueError("Drafts.path names no evaluation and no file")
        self.paths = [existing for each in paths if (existing := existing_path(each))]
        self.balance = balance
        self.per_problem = checked_limit(per_problem)
        self.validation, self.limit = checked_fraction(validation), checked_limit(limit)
        check_whole("Drafts.seed", seed, low=0)
        check_whole("Drafts.shuffle_labels", shuffle_labels, low=0, optional=True)
        if shuffle_labels is not None and not balance:
            raise ValueError("Drafts.shuffle_labels needs balance: true, so that chance is 50 %")
        self.seed = seed
        self.solutions = solutions
        self.shuffle_labels = shuffle_labels

    def tasks(self, split: Split) -> list[Task]:
        return self._chosen(self._of_split(split), split)

    def _chosen(self, drafts: Sequence[WrittenDraft], split: Split) -> list[Task]:
        drafts = _capped(drafts, self.per_problem, self.seed)
        if self.balance:
            drafts = _balanced(drafts, self.seed)
        tasks = [self._task(draft) for draft in drafts[: self.limit]]
        if split == "train" and self.shuffle_labels is not None:
            golds = [task.gold for task in tasks]
            random.Random(f"labels {self.shuffle_labels}").shuffle(golds)
            tasks = [self._labeled(task, gold) for task, gold in zip(tasks, golds)]
        return tasks

    def dialogues(self, split: Split, prompt: str = "verify") -> list[Chat]:
        """Verdicts to imitate: each draft in the prompt that `Judge(prompt)` uses, then how the
        data set `solutions` checks an answer: by the worked solution of the problem, if there are
        any, and the line "VERDICT: ...".
        """
        asked = judging_prompt(prompt)
        drafts = self._of_split(split)
        worked = [draft for draft in drafts if self._solution(draft)]  # and these are balanced
        if self.solutions is not None and drafts and not worked:
            raise ValueError(
                f"{self.solutions.name} has no worked solution of any of the {len(drafts)} {split} "
                "drafts' problems: name the data set in whose problems the drafts were written"
            )
        return [
            task.problem.ask(asked) + reply
            for task in self._chosen(worked or drafts, split)
            if (reply := self._demonstration(task)) is not None
        ]

    def _demonstration(self, task: Task) -> Chat | None:
        """How a verifier checks the draft of a task."""
        worked, draft = _worked(task), task.problem.draft
        if self.solutions is None or not worked or draft is None:
            return assistant(task.solution or "")
        return self.solutions.demonstrate_check(worked, draft.answer, task.gold)

    def about(self, split: Split) -> str:
        """How many drafts of each kind a split has, and of how many there were."""
        tasks = self.tasks(split)
        golds = Counter(task.gold for task in tasks)
        drafts = self._of_split(split)
        right = sum(draft.right for draft in drafts)
        graders = ", ".join(sorted({draft.grader for draft in drafts}))
        line = (
            f"{self.name}/{split}: {golds[RIGHT]} right and {golds[WRONG]} wrong drafts, of "
            f"{right} right and {len(drafts) - right} wrong different ones of {_problems(drafts)} "
            f"problems (labels: {graders})"
        )
        worked = sum(map(bool, map(_worked, tasks)))
        if worked:
            line += f"; {worked} of them with a worked solution"
        if split == "train" and self.shuffle_labels is not None:
            line += f"; labels shuffled (seed {self.shuffle_labels}): a control"
        left_out = [f"{count} {reason}" for reason, count in self._left_out.items() if count]
        return line + (f"; left out of all splits: {', '.join(left_out)}" if left_out else "")

    @cached_property
    def _written(self) -> list[Written]:
        return [read_drafts(path) for path in self.paths]

    @cached_property
    def _left_out(self) -> Counter[str]:
        return Counter(
            chain.from_iterable(Counter(part.left_out).elements() for part in self._written)
        )

    @cached_property
    def _drafts(self) -> list[WrittenDraft]:
        """Every different draft, in the split of its problem.

        Raises ValueError if the labels are of several graders, or all alike.
        """
        named = ", ".join(map(str, self.paths))
        written = [draft for part in self._written for draft in part.drafts]
        drafts = _different(_in_splits(written, self.validation))
        graders = sorted({draft.grader for draft in drafts})
        if len(graders) > 1:
            raise ValueError(
                f"{named}: the labels are of {len(graders)} graders ({', '.join(graders)}); give "
                "every row its gold, so that one version grades them all"
            )
        kinds = {draft.right for draft in drafts}
        if len(kinds) < 2:
            here, absent = ("right", "wrong") if True in kinds else ("wrong", "right")
            raise ValueError(
                f"{named}: all {len(drafts)} drafts are {here} and none is {absent}, so there is "
                "nothing to tell apart: evaluate with several samples at a higher temperature, on "
                "more problems, or by another model"
            )
        return drafts

    def _of_split(self, split: Split) -> list[WrittenDraft]:
        """Raises ValueError for a training or test split without right or without wrong drafts."""
        published_split(split)
        drafts = [draft for draft in self._drafts if draft.split == split]
        kinds = {draft.right for draft in drafts}
        if len(kinds) < 2 and split != "validation":
            named, others = ", ".join(map(str, self.paths)), Counter(d.split for d in self._drafts)
            held = ", ".join(f"{count} of {other} problems" for other, count in others.items())
            lacking = "no" if not kinds else "no wrong" if True in kinds else "no right"
            raise ValueError(f"{named}: there are {lacking} drafts of {split} problems ({held})")
        return drafts

    @cached_property
    def _solutions(self) -> dict[str, str]:
        """The worked solutions by what their problems ask."""
        if self.solutions is None:
            return {}
        splits: list[Split] = list(dict.fromkeys(draft.split for draft in self._drafts))
        tasks = [task for split in splits for task in read_tasks(self.solutions, split, False)]
        return {question_key(task.problem): task.solution for task in tasks if task.solution}

    def _task(self, written: WrittenDraft) -> Task:
        """The problem of judging a draft; its id tells the drafts of a problem apart."""
        problem, draft = written.problem, written.draft
        mark = _digest("\0".join((problem.text, draft.text, draft.answer)))[:8]
        judged = Problem(
            id=f"{self.name}/{problem.id}/{mark}",
            text=problem.statement,
            answer_type="verdict",
            images=problem.images,
            tags=problem.tags,
            draft=draft,
        )
        task = Task(judged, "", self._solution(written))
        return self._labeled(task, RIGHT if written.right else WRONG)

    def _solution(self, written: WrittenDraft) -> str | None:
        return written.solution or self._solutions.get(question_key(written.problem))

    def _labeled(self, task: Task, gold: str) -> Task:
        """The task with another reference answer, which the worked solution states at its end."""
        return replace(task, gold=gold, solution=f"{_worked(task)}\n{MARK} {gold}".lstrip())


def _worked(task: Task) -> str:
    """The worked solution before a verdict; "" if there is none."""
    return (task.solution or "").partition(MARK)[0].rstrip()


def _different(drafts: Iterable[WrittenDraft]) -> list[WrittenDraft]:
    """Each draft of a problem once."""
    return list(
        {problem_key(replace(each.problem, draft=each.draft)): each for each in drafts}.values()
    )


def _in_splits(drafts: Sequence[WrittenDraft], validation: float) -> list[WrittenDraft]:
    """The drafts, each in the split of its problem."""
    splits = split_by_problem(((draft.problem, draft.split) for draft in drafts), validation)
    return [replace(draft, split=splits[question_key(draft.problem)]) for draft in drafts]


def _problems(drafts: Iterable[WrittenDraft]) -> int:
    return len({question_key(draft.problem) for draft in drafts})


def _order(draft: WrittenDraft, seed: int) -> str:
    return _digest(f"{seed}\0{draft.problem.id}\0{draft.draft.text}\0{draft.draft.answer}")


def _capped(drafts: Sequence[WrittenDraft], most: int | None, seed: int) -> list[WrittenDraft]:
    """Of each problem at most so many drafts, right and wrong ones in turn."""
    if most is None:
        return list(drafts)
    by_problem: dict[str, list[WrittenDraft]] = defaultdict(list)
    for draft in drafts:
        by_problem[question_key(draft.problem)].append(draft)
    return [
        draft
        for some in by_problem.values()
        for draft in [*_balanced(some, seed), *_surplus(some, seed)][:most]
    ]


def _sides(drafts: Sequence[WrittenDraft], seed: int) -> list[list[WrittenDraft]]:
    """The right and the wrong drafts, each in an order of its own."""
    ordered = sorted(drafts, key=lambda draft: _order(draft, seed))
    return [[draft for draft in ordered if draft.right == right] for right in (True, False)]


def _balanced(drafts: Sequence[WrittenDraft], seed: int) -> list[WrittenDraft]:
    """As many right as wrong drafts, in turn, so that the first ones are balanced, too."""
    return list(chain.from_iterable(zip(*_sides(drafts, seed))))


def _surplus(drafts: Sequence[WrittenDraft], seed: int) -> list[WrittenDraft]:
    """The drafts that `_balanced` leaves out."""
    right, wrong = _sides(drafts, seed)
    return right[len(wrong) :] + wrong[len(right) :]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
