"""Runs and their claim, for tests that change one of them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from claims.claimed import claimed

from slm_math.claims.figures import claim_members
from slm_math.claims.frozen import FrozenRun


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[FrozenRun]:
    return claimed(tmp_path_factory.mktemp("runs"))


@pytest.fixture
def members(runs: Sequence[FrozenRun]) -> dict[str, bytes]:
    return claim_members(runs)
