"""Both precisions of every closed form, and how near to it each must come."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-6}
Close = Callable[[Tensor | None, Any], None]


@pytest.fixture(params=[torch.float64, torch.float32], ids=["float64", "float32"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


@pytest.fixture
def close(request: pytest.FixtureRequest) -> Close:
    """Compares to 1e-10 in float64, or 1e-6 in a test of float32; relative to what is wanted where
    that exceeds 1.
    """
    names = request.fixturenames
    tolerance = TOLERANCE[request.getfixturevalue("dtype") if "dtype" in names else torch.float64]

    def check(got: Tensor | None, want: Any) -> None:
        assert got is not None
        want = torch.as_tensor(want, dtype=torch.float64).detach()
        got = got.detach().double()
        assert got.shape == want.shape
        assert got.isfinite().all(), got
        error = (got - want).abs() / want.abs().clamp(min=1)
        assert error.numel() == 0 or error.max().item() <= tolerance, (
            f"off by {error.max().item():.2e}: {got}, {want}"
        )

    return check
