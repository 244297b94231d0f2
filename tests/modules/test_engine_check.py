"""Whether a copy that sees other pixels than the policy is noticed, and what the error says."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from seeing import SEEING, engine_of

from slm_math.engines.base import EngineError, Request
from slm_math.modules.engine_check import EngineCheck
from slm_math.policy.config import Policy
from slm_math.policy.loaded import LoadedPolicy
from slm_math.types import Reply

SIDE = 28  # pixels of a token


def loaded_of(tokens: int | None) -> tuple[LoadedPolicy, Any]:
    """A policy that sees at most so many tokens of an image, and its chats."""
    policy = Policy(scratch=SEEING, max_pixels=None if tokens is None else tokens * SIDE**2)
    chat = policy.chat()
    loaded = policy.load(sight=chat.sight)
    with torch.no_grad():  # weights so large that images matter
        for parameter in loaded.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4.0)
    return loaded, chat


def answers(tokens: int | None) -> Callable[[Request], Reply]:
    """An engine with the policy's weights, which sees at most so many tokens of an image."""
    loaded, chat = loaded_of(tokens)
    engine = engine_of(loaded.model.eval(), chat)

    def answer(request: Request) -> Reply:
        engine.submit(request)
        while True:
            for _, result in engine.poll():
                assert isinstance(result, Reply)
                return result

    return answer


def check_of(loaded: LoadedPolicy, longest: int = 4096) -> EngineCheck:
    return EngineCheck(
        loaded=loaded,
        roles=["solver"],
        context=lambda role: nullcontext(),
        dtype="float32",
        device=torch.device("cpu"),
        longest=longest,
    )


@pytest.mark.parametrize("limit", [9, None])
def test_the_same_limit_is_no_gap(limit: int | None) -> None:
    assert check_of(loaded_of(limit)[0]).gap(answers(limit), 0) < 1e-5


@pytest.mark.parametrize(("policy", "engine"), [(9, 12), (9, 4), (None, 100), (100, None)])
def test_another_limit_is_named(policy: int | None, engine: int | None) -> None:
    loaded, _ = loaded_of(policy)
    with pytest.raises(EngineError, match="about an image, and the same without one") as caught:
        check_of(loaded).gap(answers(engine), 3)
    assert "step 3" in str(caught.value)
    assert "\n" not in str(caught.value)
    size = dict(loaded.model.sight.view.processor.size)
    assert f"--mm-processor-kwargs '{json.dumps({'size': size})}'" in str(caught.value)


def test_other_weights_are_no_matter_of_images() -> None:
    loaded, _ = loaded_of(9)
    with torch.no_grad():
        next(iter(loaded.parameters())).mul_(1.5)
    with pytest.raises(EngineError, match="serve the policy's base model") as caught:
        check_of(loaded).gap(answers(9), 0)
    assert "image" not in str(caught.value)


@pytest.mark.parametrize(("longest", "most"), [(4096, 2000), (512, 256), (64, 12)])
def test_the_image_leaves_room_in_the_context(longest: int, most: int) -> None:
    loaded, _ = loaded_of(4000)
    image = check_of(loaded, longest)._image(loaded.model.sight)
    assert most / 2.5 < loaded.model.sight.extent([image]).extra + 1 <= most
