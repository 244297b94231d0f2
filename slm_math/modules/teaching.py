"""What a teacher does in a training run: checks before a model loads, and scores of each step.

Axes: N rows, M loss tokens of all rows, H width of the widest teacher.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from slm_math.agents import Agent
from slm_math.data.rows import Row
from slm_math.engines.settings import Inference
from slm_math.engines.vllm_scores import PromptScores
from slm_math.losses.distillation import teacher_advantages, teacher_metrics, token_divergences
from slm_math.losses.logprobs import tokens_at_once
from slm_math.modules.checks import prompt_length
from slm_math.modules.teacher import Teacher, check_tokens
from slm_math.policy.adapters import TEACHER
from slm_math.policy.batches import Batch, token_counts
from slm_math.policy.chat import ChatFormat
from slm_math.policy.config import Policy
from slm_math.policy.forward import inner, language_head
from slm_math.policy.loaded import LoadedPolicy
from slm_math.policy.loading import DTYPES, config_of, load_tokenizer
from slm_math.policy.sight import has_eyes
from slm_math.policy.teacher import LocalTeacher, TeacherScores, load_teacher, own_teacher
from slm_math.rollout.groups import Rollout
from slm_math.rollout.signals import Signals
from slm_math.rollout.teacher_rows import fitting, shown_solution, solution_prompt, with_solution
from slm_math.types import Generate, Task

Progress = Callable[[int, int], None]
PROBED = 4  # rows that are scored twice
SAME = 1e-4  # nats; a teacher that differs by less in every token is the student


class Teaching:
    """A teacher at work.

    Args:
        teacher: its settings.
        trained: the trained roles.
        chat: the policy's chat format.
        inference: how the policy samples. Raises ValueError for samples that servers cannot score.
    """

    def __init__(
        self, teacher: Teacher, trained: Sequence[str], policy: Policy, inference: Inference
    ) -> None:
        self.teacher = teacher
        self.roles = teacher.taught(trained)
        self.policy = policy
        self.inference = inference
        self.contexts: Mapping[str, int | None] = {}
        self.local: dict[str, LocalTeacher] = {}
        self.served = PromptScores(teacher.servers) if teacher.servers else None
        self._prompt = solution_prompt(teacher.solution_prompt) if teacher.solution_prompt else None
        self._agrees: set[str] = set()  # the roles whose teacher agrees with itself
        self._compared = False  # with the student
        for role in self.roles if self.served else ():
            sampling = inference.sampling_of(role)
            if sampling.temperature != 1 or sampling.restricts_support or sampling.not_first:
                raise ValueError(
                    f"teacher.servers score tokens at temperature 1 among all tokens, and role "
                    f"{role!r} samples otherwise: set temperature 1 without top_p, top_k, min_p "
                    "and not_first, or name a teacher.path"
                )

    # before a model is loaded

    def check(self, chat: ChatFormat, tasks: Sequence[Task], agent: Agent) -> None:
        """Raises ValueError for a teacher with another tokenizer, a prompt that its context does
        not hold, and problems without solutions where it needs some.
        """
        paths = self.teacher.paths(self.roles)
        self.contexts = self.teacher.contexts(self.roles)
        if self.served is not None:
            self.served.connect()
            path = self.teacher.path or self.served.root
            paths = dict.fromkeys(self.roles, str(path))
            # a prompt is scored with one more token after it
            most = self.served.context
            self.contexts = dict.fromkeys(self.roles, most and most - 1)
        if self.teacher.itself:
            self.contexts = dict.fromkeys(self.roles, self.policy.context())
        for path in dict.fromkeys(paths.values()):
            tokenizer = load_tokenizer(path)
            check_tokens(chat.tokenizer, tokenizer, path)
            if tokenizer.chat_template and tokenizer.chat_template != chat.tokenizer.chat_template:
                print(
                    f"teacher {path} has another chat template: it scores chats in the policy's",
                    flush=True,
                )
        self._check_eyes(tasks, paths.values())
        self._check_solutions(tasks)
        self._check_lengths(chat, tasks, agent)

    def _check_eyes(self, tasks: Sequence[Task], paths: Iterable[str]) -> None:
        shown = next((task.problem.id for task in tasks if task.problem.images), None)
        if shown is None:
            return
        if self.served is not None:
            raise ValueError(
                f"problem {shown} has images, and a server scores token ids without them: name "
                "teacher.path instead of a server"
            )
        for path in paths:
            if not has_eyes(config_of(path)):
                raise ValueError(
                    f"problem {shown} has images, and teacher {path} takes text only "
                    "(docs/vision.md has models that see)"
                )

    def _check_solutions(self, tasks: Sequence[Task]) -> None:
        lacking = [task for task in tasks if not (task.solution or "").strip()]
        if self._prompt is None or not lacking:
            return
        if len(lacking) == len(tasks):
            raise ValueError(
                f"teacher.solution_prompt shows worked solutions, and none of the {len(tasks)} "
                f"problems has one (the first: {lacking[0].problem.id}): take data with solutions, "
                "or leave solution_prompt out"
            )
        print(
            f"{len(lacking)} of {len(tasks)} problems have no worked solution: the teacher says "
            "nothing of their samples (train/untaught)",
            flush=True,
        )

    def _check_lengths(self, chat: ChatFormat, tasks: Sequence[Task], agent: Agent) -> None:
        """The first request of each problem must leave the teacher room for a token."""
        for task, request in first_requests(agent, tasks, self.roles):
            context = self.contexts.get(request.role)
            shown = request.chat
            if self._prompt is not None and task.solution:
                shown = shown_solution(shown, self._prompt, task.solution)
            if context is None:
                continue
            length = prompt_length(replace(request, chat=shown), chat, context)
            if length >= context:
                raise ValueError(
                    f"the teacher's prompt for problem {task.problem.id} has {length} tokens, and "
                    f"its context holds {context}: leave the problem out, or take a teacher with "
                    "more context"
                )

    # with the models

    def load(self, loaded: LoadedPolicy) -> None:
        """Loads what teaches in this process."""
        of_path: dict[str, LocalTeacher] = {}
        dtype = DTYPES[self.teacher.dtype] if self.teacher.dtype else None
        for role, path in self.teacher.paths(self.roles).items():
            if path not in of_path:
                of_path[path] = load_teacher(
                    self.policy,
                    loaded,
                    path,
                    dtype=dtype,
                    offload=self.teacher.offload,
                    name=f"{TEACHER}{len(of_path)}",
                )
            self.local[role] = of_path[path]
        if self.teacher.itself:
            own = own_teacher(loaded, self.teacher.itself)
            self.local = dict.fromkeys(self.roles, own)

    def identity(self) -> dict[str, str]:
        """Who teaches, for checkpoints."""
        return self.teacher.identity(self.roles, self.served.root if self.served else "")

    def rest(self) -> None:
        """Frees the device's memory, where teachers are offloaded."""
        for teacher in self.local.values():
            teacher.rest()

    # each step

    def shown_rows(
        self, rows: Sequence[Row], rollouts: Sequence[Rollout], chat: ChatFormat
    ) -> list[Row | None]:
        """(N,): what the teacher scores in place of each row, with the same loss tokens; None for a
        row of another role, of a problem without a solution, or longer than its context.
        """
        found: list[Row | None] = []
        for row in rows:
            own: Row | None = row if row.role in self.roles else None
            if own is not None and self._prompt is not None:
                own = with_solution(row, rollouts[row.rollout], chat, self._prompt)
            found += fitting([own], self.contexts.get(row.role), chat.sight)
        return found

    def scores(
        self,
        rows: Sequence[Row],
        rollouts: Sequence[Rollout],
        chat: ChatFormat,
        tokens: int,
        progress: Progress,
    ) -> TeacherScores:
        """What the teacher says of the M loss tokens, NaN where it does not score a row.

        Args:
            rows: (N,) the student's.
            rollouts: to which `row.rollout` points.
            chat: the policy's chat format.
            tokens: positions of one forward pass.
            progress: called with (micro-batches or rows done, all of them).

        Raises ValueError for a teacher that says something else of the same rows a second time, and
        for one that computes no numbers.
        """
        counts = token_counts(rows)
        shown = self.shown_rows(rows, rollouts, chat)
        scored = [row for row in shown if row is not None]
        for role in self.roles:
            own_rows = [row for row in scored if row.role == role]
            if role not in self._agrees and own_rows:
                self._check_agreement(own_rows, tokens)
                self._agrees.add(role)
        ends = counts.cumsum(0).tolist()
        parts = []
        for role in self.roles:
            own = [(n, row) for n, row in enumerate(shown) if row is not None and row.role == role]
            if own:
                where = [torch.arange(ends[n] - int(counts[n]), ends[n]) for n, _ in own]
                found = self._score([row for _, row in own], tokens, progress)
                parts.append((torch.cat(where), found))
        return TeacherScores.joined(int(counts.sum()), parts)

    def _score(
        self, rows: Sequence[Row], tokens_per_batch: int, progress: Progress
    ) -> TeacherScores:
        """The scores (m,) of rows of one role."""
        if self.served is None:
            teacher = self.local[rows[0].role]
            wanted = self.teacher.divergence is not None
            found = teacher.scores(rows, tokens_per_batch, wanted, progress)
        else:
            answers = self.served.scores([row.ids for row in rows], progress)
            pairs = [
                (logps[t - 1], hits[t - 1])
                for row, (logps, hits) in zip(rows, answers, strict=True)
                for t in row.loss_positions
            ]
            logps, hits = zip(*pairs)
            found = TeacherScores(torch.tensor(logps), torch.tensor(hits, dtype=torch.float32))
        if not found.logprobs.isnan().any():
            return found
        raise ValueError(
            f"the teacher of {rows[0].role} computes logits that are no numbers (NaN): its "
            "weights are damaged, or their type is too small for it (try teacher.dtype float32)"
        )

    def _check_agreement(self, rows: Sequence[Row], tokens_per_batch: int) -> None:
        """Scores a few rows of one role together, and each by itself."""
        chosen = sorted(rows, key=lambda row: len(row.ids))
        chosen = chosen[:: max(len(chosen) // PROBED, 1)][-PROBED:]
        together = self._score(chosen, tokens_per_batch, _untold).logprobs
        alone = [self._score([row], tokens_per_batch, _untold).logprobs for row in reversed(chosen)]
        gap = (together - torch.cat(alone[::-1])).abs().mean().item()
        most = self._tolerance()
        if not gap <= most:
            raise ValueError(
                f"the teacher of {rows[0].role} disagrees with itself: it scored the same "
                f"{len(together)} tokens twice, and the scores differ by {gap:.3g} nats on average "
                f"(at most {most:g})"
            )

    def _tolerance(self) -> float:
        """Nats by which rounding may change a log-probability on average."""
        models = [each.model or each.loaded.model for each in self.local.values()]
        exact = self.served is None and all(model.dtype == torch.float32 for model in models)
        return 1e-3 if exact and not torch.is_autocast_enabled() else 0.05

    def advantages(self, signals: Signals, old: Tensor) -> Tensor:
        """What the teacher adds to the advantages (M,); `old` (M,) are the log-probabilities of the
        policy that sampled.
        """
        if signals.teacher is None or self.teacher.divergence is not None:
            return torch.zeros_like(old)
        return teacher_advantages(old, signals.teacher.logprobs, self.teacher.weight)

    def loss(
        self, model: Any, states: Tensor, batch: Batch, signals: Signals, old: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """What the teacher adds to the loss, with the metrics of what it says.

        Args:
            model: the student's.
            states: its `loss_states` (M, h), with gradient.
            batch: the M tokens.
            signals: of these tokens.
            old: (M,) log-probabilities of the policy that sampled.
        """
        scores, live = signals.teacher, signals.weights > 0
        if scores is None:
            return states.new_zeros(()), {}
        said = teacher_metrics(old, scores.logprobs, scores.likeliest, live)
        kind = self.teacher.divergence
        teacher = self.local.get(batch.role)  # of two roles that are trained one may have none
        if kind is None or scores.states is None or teacher is None:
            return states.new_zeros(()), said
        vocabulary = inner(model).config.get_text_config().vocab_size
        found = token_divergences(
            (states, language_head(model)),
            (scores.states, teacher.head(batch.role)),
            temperature=batch.temperature,
            kind=kind,
            share=self.teacher.share,
            support=batch.support,
            chunk=tokens_at_once(vocabulary, states.device),
        )
        found = torch.where(live & ~scores.logprobs.isnan(), found, 0.0)
        said["teacher_divergence"] = found.detach().sum()
        return self.teacher.weight * (signals.weights * found).sum(), said

    def tell_if_equal(self, metrics: Mapping[str, float], aloud: bool) -> None:
        """Says once when the teacher gives every token the student's own probability."""
        gap = metrics.get("teacher_gap_max")
        if gap is not None and not self._compared:
            self._compared = True
            if gap <= SAME and aloud:
                print(
                    "warning: the teacher gives every token the student's own probability (the "
                    f"largest difference is {gap:.2g} nats): it teaches nothing",
                    flush=True,
                )


def first_requests(
    agent: Agent, tasks: Sequence[Task], roles: Sequence[str]
) -> Iterator[tuple[Task, Generate]]:
    """The requests with which an agent begins each problem, those of some roles."""
    for task in tasks:
        workflow = agent.solve(task.problem)
        for request in next(workflow, []):
            if isinstance(request, Generate) and request.role in roles:
                yield task, request
        workflow.close()


def _untold(done: int, total: int) -> None:
    """Progress of a check."""
