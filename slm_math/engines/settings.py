"""How replies are sampled: by which engine, how many at once, and with which settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Literal

import torch

from slm_math.engines import vllm_setup
from slm_math.engines.endpoint import check_url
from slm_math.ranges import check_number, check_whole
from slm_math.types import Sampling

EngineName = Literal["auto", "transformers", "vllm"]


@dataclass(frozen=True)
class Vllm:
    """Settings of vLLM.

    Args:
        servers: addresses of `vllm serve` processes (http://host:8000); by default vLLM runs in
            this process.
        memory: the share of the GPU for vLLM in this process; by default computed from model,
            slots and sampling.
        patience: seconds for which all servers may be down before the run ends.
        address: this machine's address, as servers reach it over NCCL; detected by default.
        timeout: seconds that one request to a server may take.
        context: the most tokens of a prompt and its reply together, for vLLM in this process; by
            default the model's own context.
    """

    servers: tuple[str, ...] = ()
    memory: float | None = None
    patience: float = 300.0
    address: str | None = None
    timeout: float = 600.0
    context: int | None = None

    def __post_init__(self) -> None:
        if self.memory is not None and not 0 < self.memory < 1:
            raise ValueError(f"vllm.memory must be a share between 0 and 1, got {self.memory}")
        check_number("vllm.patience", self.patience, low=0)
        check_number("vllm.timeout", self.timeout, above=0)
        check_whole("vllm.context", self.context, optional=True)
        for url in self.servers:
            check_url(url, "VLLM_API_KEY", "vllm.servers", "http://host:8000")


@dataclass(frozen=True)
class RoleSampling:
    """The sampling settings of one role; None takes the setting for all roles. See `Sampling`."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    max_new_tokens: int | None = None
    stop: tuple[str, ...] | None = None
    not_first: tuple[str, ...] | None = None
    effort: str | None = None

    def over(self, default: Sampling) -> Sampling:
        """`default`, the settings of all roles, overridden by the settings of this role."""
        own = {each.name: getattr(self, each.name) for each in fields(self)}
        return replace(default, **{name: value for name, value in own.items() if value is not None})


@dataclass(frozen=True)
class Inference:
    """How replies are sampled, in training and in evaluation.

    Args:
        engine: `auto` uses the vLLM servers if some are named, vLLM in this process if it is
            installed and a GPU is available, and otherwise transformers; `vllm` and `transformers`
            force the choice.
        slots: requests decoded at once; by default all that there are with transformers, of those
            beyond 64 as many as an eighth of the memory holds, and 256 with vLLM (64 beside
            training).
        sampling: the decoding settings of all roles; agents may override them per request.
        roles: role -> settings that override `sampling`, such as `verifier: {max_new_tokens: 128}`.
        vllm: settings of vLLM.
        deterministic: two runs decode the same requests together, also those that follow programs
            or replies of endpoints, so that their numbers are equal bit for bit; decoding then
            waits for programs that take long. Only the transformers engine can.
    """

    engine: EngineName = "auto"
    slots: int | None = None
    sampling: Sampling = field(default_factory=Sampling)
    roles: dict[str, RoleSampling] = field(default_factory=dict)
    vllm: Vllm = field(default_factory=Vllm)
    deterministic: bool = False

    def __post_init__(self) -> None:
        check_whole("inference.slots", self.slots, optional=True)
        if self.deterministic and (self.engine == "vllm" or self.vllm.servers):
            raise ValueError(
                "inference.deterministic: the numbers of vLLM depend on which requests it computes "
                "together, and that on timing: remove deterministic, or use engine transformers "
                "without vllm.servers"
            )
        self.by_role()  # raises ValueError for invalid settings

    def sampling_of(self, role: str) -> Sampling:
        """The settings of one role."""
        own = self.roles.get(role)
        return self.sampling if own is None else own.over(self.sampling)

    def by_role(self) -> dict[str, Sampling]:
        """role -> settings; "default" applies to all roles that are not named."""
        return {"default": self.sampling} | {role: self.sampling_of(role) for role in self.roles}

    @property
    def wanted_engine(self) -> EngineName:
        """The engine that these settings ask for: `auto` leaves no choice if `deterministic`."""
        return "transformers" if self.deterministic else self.engine

    def check_roles(self, roles: Sequence[str]) -> None:
        """Raises ValueError for settings of a role that the agent does not have."""
        unknown = sorted(set(self.roles) - set(roles))
        if unknown:
            raise ValueError(
                f"inference.roles names {', '.join(unknown)}; the roles are {', '.join(roles)}"
            )


def choose_engine(
    engine: EngineName, vllm: Vllm = Vllm(), ranks: int = 1, gpu: bool | None = None
) -> str:
    """The kind of engine to use: "transformers", "vllm" (in this process) or "servers".

    "auto" uses the servers if some are named; vLLM if a supported version is installed, a GPU is
    available (`gpu`; by default torch is asked) and there is one rank only; otherwise transformers.
    With "vllm", every rank has an engine of its own. Raises ValueError if the choice is impossible.
    """
    gpu = torch.cuda.is_available() if gpu is None else gpu
    if engine == "transformers":
        if vllm.servers:
            raise ValueError(
                "engine transformers does not use servers: remove vllm.servers, or set engine auto"
            )
        return engine
    if vllm.servers:
        return "servers"
    reason = vllm_setup.refusal()
    if engine == "vllm":
        if reason is not None:
            raise ValueError(f"engine vllm: {reason}")
        return engine
    return "vllm" if reason is None and gpu and ranks == 1 else "transformers"


def vllm_slots(inference: Inference, default: int = 256) -> int:
    """How many requests vLLM decodes at once."""
    return default if inference.slots is None else inference.slots
