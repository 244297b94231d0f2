"""Frozen checkpoints as an engine."""

from __future__ import annotations

import time
from contextlib import nullcontext
from functools import cached_property, partial
from typing import Any

import torch

from slm_math.engines.base import EngineError, LocalEngine, Request
from slm_math.engines.loras import Loras
from slm_math.engines.transformers import TransformersEngine
from slm_math.policy.adapter_files import base_in
from slm_math.policy.adapters import active, adapter_name, load_adapters
from slm_math.policy.folders import local_folder
from slm_math.policy.loading import DTYPES, load_model
from slm_math.policy.role_paths import check_models, files_of_roles, paths_of
from slm_math.policy.templates import check_template, template_identity
from slm_math.policy.tokenizers import chat_of
from slm_math.types import Reply


class CheckpointEngine(LocalEngine):
    """Serves a frozen checkpoint, or the adapters of several roles on one base, which is loaded
    once, at the first request.

    Args:
        path: model folder, adapter folder, or hub id; or role -> adapter of one base; or the folder
            of an export of several roles.
        dtype: float32, bfloat16 or float16.
        device: for example cuda; by default cuda if it is available, otherwise cpu.
        slots: how many requests are decoded at once, for each adapter; None is as many as are
            asked for, as far as the memory goes.
        chat_template: chatml, plain or a Jinja file; by default the tokenizer's own template.
        chat_template_kwargs: variables of the template, for example {enable_thinking: false}.
    """

    name = TransformersEngine.name

    def __init__(
        self,
        path: str | dict[str, str],
        dtype: str = "float32",
        device: str | None = None,
        slots: int | None = 64,
        chat_template: str | None = None,
        chat_template_kwargs: dict[str, Any] | None = None,
    ) -> None:
        self.path = check_models(path, "path")
        check_template(chat_template, chat_template_kwargs)
        if dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
        if slots is not None and slots < 1:
            raise ValueError(f"slots must be at least 1, got {slots}")
        self.dtype = DTYPES[dtype]
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.slots = slots
        self.template, self.template_kwargs = chat_template, chat_template_kwargs
        self.adapters = Loras.of(self.path)
        self._names: list[str | None] = []  # of the adapters that the engines decode with
        self._engines: list[TransformersEngine] = []

    @cached_property
    def _files(self) -> dict[str, Any]:
        if None in map(local_folder, paths_of(self.path)):
            self._load()  # downloads the files that are hashed below
        return files_of_roles(self.path, self.template)

    def identity(self) -> dict[str, Any]:
        return {
            "engine": type(self).__name__,
            "path": self.path,
            **self._files,
            "dtype": str(self.dtype),
            **template_identity(self.template, self.template_kwargs),
        }

    # requests: a ticket names an engine, and its own ticket

    def submit(self, request: Request) -> int:
        self._load()
        number = self._names.index(self.adapters.name(request.role))
        return self._engines[number].submit(request) * len(self._engines) + number

    def cancel(self, ticket: int) -> None:
        own, number = divmod(ticket, len(self._engines))
        self._engines[number].cancel(own)

    def poll(self, timeout: float = 0.0) -> list[tuple[int, Reply | EngineError]]:
        end = time.perf_counter() + timeout
        finished: list[tuple[int, Reply | EngineError]] = []
        while self.busy and not finished:
            busy = [(n, engine) for n, engine in enumerate(self._engines) if engine.busy]
            left = max(end - time.perf_counter(), 0.0) if len(busy) == 1 else 0.0
            for number, engine in busy:
                results = engine.poll(left)
                finished += [(own * len(self._engines) + number, one) for own, one in results]
            if time.perf_counter() >= end:
                break
        return finished

    @property
    def busy(self) -> int:
        return sum(engine.busy for engine in self._engines)

    def release(self) -> None:
        for engine in self._engines:
            engine.release()

    def usage(self) -> dict[str, int]:
        counts = [engine.usage() for engine in self._engines]
        sums = {name: sum(each[name] for each in counts) for name in super().usage()}
        most = max((each["slots"] for each in counts), default=0)
        return sums | {"slots": self.slots or most}

    def close(self) -> None:
        self._names, self._engines = [], []

    # the model

    def _load(self) -> None:
        if self._engines:
            return
        chat = chat_of(self.path, self.template, self.template_kwargs)
        base = base_in(paths_of(self.path)[0])
        model = load_model(base, self.dtype, sight=chat.sight)
        for name, folder in self.adapters.folders.items():
            model = load_adapters(model, str(folder), [adapter_name(name)]).to(self.dtype)
        model = model.to(self.device).eval()
        names = [self.adapters.name(role) for role in self.adapters.places] or [None]
        self._names = list(dict.fromkeys(names))
        contexts = [
            partial(active, model, None if name is None else adapter_name(name))
            for name in self._names
        ]
        self._engines = [
            TransformersEngine(model, chat, self.slots, each if len(contexts) > 1 else nullcontext)
            for each in contexts
        ]
