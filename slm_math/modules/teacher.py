"""A teacher of the roles that are trained: who it is, what is checked, and what it says of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from slm_math.engines.endpoint import check_url
from slm_math.losses.distillation import Divergence
from slm_math.modules.identity import of_files
from slm_math.policy.loading import check_model, context_of, weights_hash
from slm_math.policy.role_paths import role_path
from slm_math.policy.teacher import Itself
from slm_math.policy.tokenizers import difference
from slm_math.ranges import check_choices, check_number
from slm_math.rollout.teacher_rows import solution_prompt


@dataclass(frozen=True)
class Teacher:
    """A model that scores the tokens that the student, the policy, sampled (on-policy
    distillation).

    One of `path`, `servers` and `itself` says who teaches.

    Args:
        path: a model folder, an adapter folder or a hub id with the tokenizer of the policy, kept
            frozen in the trainer's process; {role: path} for a teacher for each role. The frozen
            base of a policy with adapters, and other adapters of it, take no second copy of it.
        servers: addresses of `vllm serve` processes that give the log-probabilities of prompts,
            for loss "advantage" at temperature 1; `path` then names the model's tokenizer, by
            default what the servers report.
        itself: the policy teaches itself: "now", as it is at each step, or "reference", as it was
            at the start (with `reference_update` a moving average of it).
        solution_prompt: a prompt with the slots {request} and {solution}, such as "solution": the
            teacher, not the student, sees the worked solution of the problem. `itself: now` needs
            one.
        loss: "advantage" adds weight * (log P - log Q) of each sampled token to its advantage, a
            policy gradient of the reverse KL (P: teacher, Q: student); "reverse_kl", "forward_kl"
            and "jsd" add weight * the divergence over the vocabulary to each token's loss (see
            `losses.distillation.divergences`).
        share: of the teacher in the mixture of "jsd" (beta of Agarwal et al. 2024).
        weight: the factor; rewards, if there are any, keep theirs.
        dtype: float32, bfloat16 or float16, of a copy of its own; by default float32, or the
            policy's base where that is shared.
        offload: keep the teacher's own copy in the memory of the CPU while the agent samples.
    """

    path: str | dict[str, str] | None = None
    servers: tuple[str, ...] = ()
    itself: Itself | None = None
    solution_prompt: str | None = None
    loss: Literal["advantage", "reverse_kl", "forward_kl", "jsd"] = "advantage"
    share: float = 0.5
    weight: float = 1.0
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    offload: bool = False

    def __post_init__(self) -> None:
        check_choices("teacher", self)
        check_number("teacher.weight", self.weight, above=0)
        check_number("teacher.share", self.share, above=0, below=1)
        local = self.path is not None and not self.servers
        if local + bool(self.servers) + (self.itself is not None) != 1:
            raise ValueError(
                "teacher: set one of path (a model or an adapter), servers (of vLLM) and itself "
                "(now or reference)"
            )
        if self.servers and isinstance(self.path, dict):
            raise ValueError(
                "teacher.servers teach all roles: teacher.path is the path of one model"
            )
        for url in self.servers:
            check_url(url, "VLLM_API_KEY", "teacher.servers", "http://host:8000")
        if self.servers and self.loss != "advantage":
            raise ValueError(
                f"teacher.servers give log-probabilities of sampled tokens only: loss {self.loss} "
                "needs a teacher.path, or set loss: advantage"
            )
        if not local and (self.dtype or self.offload):
            raise ValueError("teacher.dtype and teacher.offload are those of a teacher.path")
        if self.loss != "jsd" and self.share != 0.5:
            raise ValueError(f"teacher.share has no effect on {self.loss}: set loss: jsd")
        if self.itself == "now" and self.solution_prompt is None:
            raise ValueError(
                "teacher.itself now says what the student says, which teaches nothing: set "
                "teacher.solution_prompt (solution), so that it sees the worked solution"
            )
        if self.solution_prompt is not None:
            solution_prompt(self.solution_prompt)
        if self.path is not None:
            paths = self.path
            checked = (
                {
                    role: role_path(path, role, f"teacher.path.{role}")
                    for role, path in paths.items()
                }
                if isinstance(paths, dict)
                else check_model(paths)
            )
            object.__setattr__(self, "path", checked)

    @property
    def divergence(self) -> Divergence | None:
        """What is added to the loss; None for an advantage."""
        return None if self.loss == "advantage" else self.loss

    def paths(self, roles: Sequence[str]) -> dict[str, str]:
        """role -> path of its teacher in the trainer's process; {} without such teachers."""
        if self.path is None or self.servers:
            return {}
        return self.path if isinstance(self.path, dict) else dict.fromkeys(roles, self.path)

    def taught(self, roles: Sequence[str]) -> tuple[str, ...]:
        """Those of the trained roles that it teaches. Raises ValueError for others."""
        paths = self.paths(roles)
        unknown = sorted(set(paths) - set(roles))
        if unknown:
            raise ValueError(
                f"teacher.path names role {unknown[0]!r}; the trained roles are {', '.join(roles)}"
            )
        return tuple(role for role in roles if role in paths or not paths)

    def identity(self, roles: Sequence[str], served: str = "") -> dict[str, Any]:
        """Who teaches, for checkpoints; `served` is what the servers report."""
        prompt = f" with prompt {self.solution_prompt}" if self.solution_prompt else ""
        paths = self.paths(roles)
        if not paths:
            who = f"the policy ({self.itself})" if self.itself else served
            return {"teacher": who + prompt}
        one = len(set(paths.values())) == 1
        return {
            "teacher" if one else f"teacher of {role}": of_files(
                path, (weights_hash(path) or path) + prompt
            )
            for role, path in paths.items()
        }

    def contexts(self, roles: Sequence[str]) -> dict[str, int | None]:
        """role -> the context in tokens of its teacher's config."""
        return {role: context_of(path) for role, path in self.paths(roles).items()}


def check_tokens(own: Any, other: Any, path: str) -> None:
    """Raises ValueError unless two tokenizers give the same ids to the same texts."""
    found = difference(own, other)
    if found is not None:
        raise ValueError(f"teacher {path} has another tokenizer than the policy: {found}")
