"""How many threads torch uses, at the start and after an interruption."""

from collections.abc import Iterator

import pytest
import torch

from slm_math.modules.random_state import random_state, restore_random_state
from slm_math.policy import threads


@pytest.fixture(autouse=True)
def unchanged(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(threads, "_asked", False)
    monkeypatch.setattr(threads, "cores", lambda: 4)
    monkeypatch.setattr("os.getloadavg", lambda: (2.6, 0.0, 0.0))
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("fixed", "number"), [(False, 1), (True, 4)])
def test_only_a_deterministic_run_does_not_look_at_the_load(fixed: bool, number: int) -> None:
    threads.set_threads(None, fixed)
    assert torch.get_num_threads() == number


def test_resumed_run_has_as_many_threads_as_before(capsys: pytest.CaptureFixture[str]) -> None:
    torch.set_num_threads(3)
    state = random_state()
    threads.set_threads(None)
    restore_random_state(state)
    assert torch.get_num_threads() == 3
    assert "torch uses 3 CPU threads, as before the interruption" in capsys.readouterr().out


def test_number_that_the_user_chose_stays_on_resume() -> None:
    torch.set_num_threads(3)
    state = random_state()
    threads.set_threads(2)
    restore_random_state(state)
    assert torch.get_num_threads() == 2


def test_machine_with_fewer_cores_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    torch.set_num_threads(1)
    restore_random_state(random_state() | {"threads": 6})
    assert torch.get_num_threads() == 4
    assert "4 CPU threads, and not 6 (there are no more cores)" in capsys.readouterr().out


def test_checkpoint_without_the_number_changes_nothing() -> None:
    state = random_state()
    del state["threads"]
    torch.set_num_threads(2)
    restore_random_state(state)
    assert torch.get_num_threads() == 2
