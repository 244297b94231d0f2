"""The page on the cost of a step shows what the script computes."""

from __future__ import annotations

from pathlib import Path

import cost_model
import pytest

PAGE = Path(__file__).parents[2] / "docs" / "cost_model.md"


def test_page_is_what_the_script_prints(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["cost_model.py", "--markdown"])
    cost_model.main()
    page = PAGE.read_text(encoding="utf-8")
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(lines) == 3 * (2 + 9)
    assert [line for line in lines if line not in page] == []


def test_step_of_one_gpu_is_the_one_of_the_formula() -> None:
    """65,536 tokens, 494 million weights, causal attention over 1,024, 40 % of 989 TFLOP/s."""
    small = cost_model.MODELS[0]
    seconds = cost_model.sft(small, cost_model.Cluster("h100", 1))["update"]
    assert seconds == pytest.approx(6 * 65536 * (494e6 + 24 * 896 * 1024) / (0.4 * 989e12))


def test_sums_of_gradients_cross_a_node_by_all_of_its_cards() -> None:
    """A ring in the node; between eight nodes each card has an eighth of the bytes."""
    inside = 2 * 7 / 8 * 1e9 / 450e9
    between = 2 * 7 / 8 * (1e9 / 8) / 50e9
    assert cost_model.Cluster("h100", 1).all_reduce(1e9) == 0
    assert cost_model.Cluster("h100", 8).all_reduce(1e9) == pytest.approx(inside / 0.7)
    assert cost_model.Cluster("h100", 64).all_reduce(1e9) == pytest.approx((inside + between) / 0.7)
