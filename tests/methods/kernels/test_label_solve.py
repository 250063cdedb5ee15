from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from raycond.core.errors import UserError
from raycond.methods.kernels.label_solve import NormalEquations, solve_labels
from raycond.methods.kernels.ntk import kernel_matrix
from raycond.methods.kernels.registry import kernel
from raycond.methods.kernels.regression import SingularKernel, centered_labels, fit, loss

NETWORK = kernel("fc2")


def test_is_the_least_squares_solution(normal: Callable[..., Tensor]) -> None:
    """Against the pseudo-inverse of the published formula, y = (K_ts (K_ss + λI)⁻¹)⁺ y_t, whatever the chunks."""
    support, targets, labels = normal(6, (5, 1, 1)), normal(40, (5, 1, 1), seed=1), torch.arange(40) % 3
    k_ts, k_ss = kernel_matrix(NETWORK, targets, support), kernel_matrix(NETWORK, support)
    ridge = 1e-6 / 6 * torch.eye(6, dtype=torch.float64)
    expected = torch.linalg.pinv(k_ts @ torch.linalg.inv(k_ss + ridge)) @ centered_labels(labels, 3)
    for block in (4, 7, 100):
        solved = solve_labels(NETWORK, support, targets, labels, 3, block=block)
        torch.testing.assert_close(solved, expected, rtol=1e-5, atol=1e-6)


def test_labels_of_all_targets_are_reproduced(normal: Callable[..., Tensor]) -> None:
    """Support and targets the same: the regression then predicts every label."""
    x, labels = normal(8, (12, 1, 1)), torch.arange(8) % 4
    solved = solve_labels(NETWORK, x, x, labels, 4)
    matrix = kernel_matrix(NETWORK, x)
    prediction = matrix @ torch.linalg.solve(matrix + 1e-6 / 8 * torch.eye(8), solved)
    torch.testing.assert_close(prediction, centered_labels(labels, 4), rtol=0, atol=1e-4)


def test_beats_the_labels_of_the_images(stripes: Tensor) -> None:
    labels = torch.arange(40) % 2
    support = stripes[:6]
    solved = solve_labels(NETWORK, support, stripes, labels, 2)
    k_ts, k_ss = kernel_matrix(NETWORK, stripes, support), kernel_matrix(NETWORK, support)
    targets = centered_labels(labels, 2)
    losses = [loss(fit(k_ss, y).predict(k_ts), targets) for y in (solved, centered_labels(labels[:6], 2))]
    assert losses[0] < 0.8 * losses[1]


def test_sums_go_on_where_they_stopped(normal: Callable[..., Tensor]) -> None:
    k_ts, labels = normal(30, (4,)), normal(30, (2,), seed=1)
    through, first = NormalEquations(4, 2), NormalEquations(4, 2)
    for start in range(0, 30, 10):
        through.add(k_ts[start : start + 10], labels[start : start + 10])
    first.add(k_ts[:10], labels[:10])
    second = NormalEquations.load(first.state())
    for start in (10, 20):
        second.add(k_ts[start : start + 10], labels[start : start + 10])
    assert torch.equal(second.solve(torch.eye(4)), through.solve(torch.eye(4)))
    assert first.count == 10
    assert second.count == 30


def test_supports_that_cannot_be_solved(normal: Callable[..., Tensor]) -> None:
    support = normal(6, (5, 1, 1))
    with pytest.raises(UserError, match=r"6 support images are more than the 4 target images.*smaller support"):
        solve_labels(NETWORK, support, normal(4, (5, 1, 1)), torch.zeros(4, dtype=torch.int64), 2)
    sums = NormalEquations(3, 2)
    with pytest.raises(UserError, match=r"kernel between targets \(from 0\) and support is nan"):
        sums.add(torch.full((1, 3), torch.nan), torch.zeros(1, 2))
    with pytest.raises(UserError, match=r"kernel \(k, 3\) and labels \(k, 2\), not \(4, 3\) and \(5, 2\)"):
        sums.add(torch.zeros(4, 3), torch.zeros(5, 2))
    sums.add(torch.ones(4, 3), torch.zeros(4, 2))
    with pytest.raises(SingularKernel, match="3 support images and 4 targets are singular with regularization 0"):
        sums.solve(torch.eye(3), reg=0.0)
