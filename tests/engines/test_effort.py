"""Engines that render the chat themselves refuse an effort, which they could not pass on."""

import pytest

from slm_math.engines.base import Request
from slm_math.engines.transformers import TransformersEngine
from slm_math.engines.vllm_requests import check_request
from slm_math.types import Sampling, user

REQUEST = Request(user("2 + 2?"), Sampling(effort="low"))


def test_transformers_refuses_an_effort() -> None:
    engine = TransformersEngine.__new__(TransformersEngine)  # it is refused before any model is met
    with pytest.raises(ValueError, match="effort 'low': only chat endpoints take an effort"):
        engine.submit(REQUEST)


def test_vllm_refuses_an_effort() -> None:
    with pytest.raises(ValueError, match="only chat endpoints take an effort"):
        check_request(REQUEST)
