"""Muon's direction and its updates."""

from __future__ import annotations

import pytest
import torch

from slm_math.modules.muon import Muon, orthogonalized

ITERATIONS = {"coefficients": (3.4445, -4.7750, 2.0315), "steps": 5, "eps": 1e-7}


@pytest.mark.parametrize("shape", [(24, 24), (16, 40), (40, 16)], ids=str)
def test_singular_vectors_stay_and_values_come_near_one(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    left, _, right = torch.linalg.svd(matrix.double(), full_matrices=False)
    values = left.T @ orthogonalized(matrix, **ITERATIONS).double() @ right.T
    assert (values - values.diag().diag()).abs().max() < 1e-4
    assert values.diag().min() > 0.3
    assert values.diag().max() < 1.25


def test_updates_are_those_of_torch() -> None:
    """As far as the 8 bits of its bfloat16 go."""
    draw = torch.Generator().manual_seed(0)
    start = torch.randn(12, 30, generator=draw)
    gradients = [torch.randn(12, 30, generator=draw) for _ in range(5)]
    ends = []
    for kind in (Muon, torch.optim.Muon):
        matrix = torch.nn.Parameter(start.clone())
        optimizer = kind([matrix], lr=0.02, weight_decay=0.1)
        for gradient in gradients:
            matrix.grad = gradient.clone()
            optimizer.step()
        ends.append(matrix.detach() - start)
    assert (ends[0] - ends[1]).abs().max() < 0.02 * ends[1].abs().max()


def test_a_tall_matrix_moves_further() -> None:
    """By the square root of its rows over its columns, as torch's."""
    moved = {}
    for shape in ((8, 32), (32, 8)):
        matrix = torch.nn.Parameter(torch.zeros(shape))
        matrix.grad = torch.eye(*shape)
        Muon([matrix], lr=0.1).step()
        moved[shape] = matrix.detach().norm().item()
    assert moved[32, 8] == pytest.approx(2 * moved[8, 32], rel=1e-5)
