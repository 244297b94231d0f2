"""vLLM in this process against plain transformers: tokens, log-probabilities, ends, weights,
adapters.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from on_vllm.checks import GENERATION, NEEDS_VLLM, Hold

pytestmark = NEEDS_VLLM
WEIGHTS = ("updates", "cached")


@pytest.fixture(scope="module", params=["tied", "untied"])
def subject(script: Any, models: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    folder, model, tokenizer = models[request.param]
    subject = script.Subject(script.inside.inside(folder), model, tokenizer)
    yield subject
    subject.engine.close()


def test_every_check_is_run(script: Any) -> None:
    assert tuple(check.__name__ for check in script.generation.CHECKS) == GENERATION
    assert tuple(check.__name__ for check in script.weights.CHECKS) == WEIGHTS


def test_start_disturbs_nothing_and_can_be_repeated(script: Any, subject: Any, hold: Hold) -> None:
    hold(script.inside.start(subject))


@pytest.mark.parametrize("check", GENERATION)
def test_generation(script: Any, subject: Any, hold: Hold, check: str) -> None:
    hold(getattr(script.generation, check)(subject))


@pytest.mark.parametrize("check", WEIGHTS)
def test_weights(script: Any, subject: Any, hold: Hold, check: str) -> None:
    hold(getattr(script.weights, check)(subject))


def test_adapters(script: Any, models: Any, hold: Hold, tmp_path: Path) -> None:
    folder, model, tokenizer = models["tied"]
    with closing(script.inside.for_adapters(folder)) as engine:
        subject = script.Subject(engine, script.weights.with_adapters(model), tokenizer)
        hold(script.weights.adapters(subject, tmp_path))


@pytest.mark.usefixtures("forget_rotary")
def test_weights_of_a_wrong_shape(script: Any, models: Any, hold: Hold) -> None:
    folder, model, tokenizer = models["untied"]
    with closing(script.inside.inside(folder)) as engine:
        subject = script.Subject(engine, model, tokenizer)
        subject.send()
        hold(script.weights.failed(subject))


def test_engines_side_by_side(script: Any, models: Any, hold: Hold) -> None:
    folder, model, tokenizer = models["untied"]
    with closing(script.inside.inside(folder)) as engine:
        hold(script.inside.company(script.Subject(engine, model, tokenizer), folder))
