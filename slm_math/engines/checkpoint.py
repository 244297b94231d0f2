"""A frozen checkpoint as an engine."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch

from slm_math.engines.base import Request
from slm_math.engines.transformers import TransformersEngine
from slm_math.policy.chat import ChatFormat
from slm_math.policy.loading import (
    DTYPES,
    check_model,
    files_of,
    load_model,
    load_tokenizer,
    local_folder,
)
from slm_math.policy.templates import check_template, template_identity


class CheckpointEngine(TransformersEngine):
    """Serves a frozen checkpoint, which is loaded at the first request.

    Args:
        path: model folder, adapter folder, or hub id.
        dtype: float32, bfloat16 or float16.
        device: for example cuda; by default cuda if it is available, otherwise cpu.
        slots: how many requests are decoded at once.
        chat_template: chatml, plain or a Jinja file; by default the tokenizer's own template.
        chat_template_kwargs: variables of the template, for example {enable_thinking: false}.
    """

    def __init__(
        self,
        path: str,
        dtype: str = "float32",
        device: str | None = None,
        slots: int = 64,
        chat_template: str | None = None,
        chat_template_kwargs: dict[str, Any] | None = None,
    ) -> None:
        path = check_model(path)
        check_template(chat_template, chat_template_kwargs)
        if dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
        super().__init__(None, None, slots)  # type: ignore[arg-type]
        self.path = path
        self.dtype = DTYPES[dtype]
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.template, self.template_kwargs = chat_template, chat_template_kwargs

    @cached_property
    def _files(self) -> dict[str, str | None]:
        if local_folder(self.path) is None:
            self._load()  # downloads the files that are hashed below
        return files_of(self.path, self.template)

    def identity(self) -> dict[str, Any]:
        return {
            "engine": type(self).__name__,
            "path": self.path,
            **self._files,
            "dtype": str(self.dtype),
            **template_identity(self.template, self.template_kwargs),
        }

    def submit(self, request: Request) -> int:
        self._load()
        return super().submit(request)

    def _load(self) -> None:
        if self.model is None:
            self.chat = ChatFormat(load_tokenizer(self.path), self.template, self.template_kwargs)
            self.model = load_model(self.path, self.dtype).to(self.device).eval()
