from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from raycond.core.errors import UserError
from raycond.methods.kernels.regression import SingularKernel, accuracy, centered_labels, fit, gradients, loss


@pytest.fixture
def kernel(normal: Callable[..., Tensor]) -> Tensor:
    """(6, 6), positive definite."""
    x = normal(6, (9,))
    return x @ x.t()


def test_labels_are_centered() -> None:
    labels = centered_labels(torch.tensor([2, 0]), 10)
    assert labels[0, 2] == pytest.approx(0.9)
    assert labels[0, 1] == pytest.approx(-0.1)
    assert float(labels.sum()) == pytest.approx(0)
    assert loss(torch.zeros(2, 10), labels) == pytest.approx(0.045)  # of predicting nothing
    with pytest.raises(UserError, match="labels go from 0 to 2: with 2 classes they must be 0 to 1"):
        centered_labels(torch.tensor([2, 0]), 2)


def test_regularization_is_scaled_by_the_mean_diagonal(kernel: Tensor, normal: Callable[..., Tensor]) -> None:
    labels, k_ts = normal(6, (3,), seed=1), normal(4, (6,), seed=2)
    regularized = kernel + 0.01 * kernel.trace() / 6 * torch.eye(6, dtype=torch.float64)
    ridge = fit(kernel, labels, reg=0.01)
    torch.testing.assert_close(ridge.predict(k_ts), k_ts @ torch.linalg.solve(regularized, labels))
    # the predictions do not depend on the scale of the kernel
    torch.testing.assert_close(fit(5 * kernel, labels, reg=0.01).predict(5 * k_ts), ridge.predict(k_ts))


def test_gradients_are_those_of_autograd(kernel: Tensor, normal: Callable[..., Tensor]) -> None:
    k_ts, labels, targets = normal(5, (6,), seed=1), normal(6, (3,), seed=2), normal(5, (3,), seed=3)
    variables = [value.clone().requires_grad_() for value in (k_ts, kernel, labels)]
    a, b, y = variables
    regularized = b + 0.01 * b.trace() / 6 * torch.eye(6, dtype=torch.float64)
    value = 0.5 * (a @ torch.linalg.solve(regularized, y) - targets).square().mean()
    expected = torch.autograd.grad(value, variables)
    by = gradients(k_ts, kernel, labels, targets, reg=0.01)
    assert by.loss == pytest.approx(float(value.detach()))
    for gradient, right in zip((by.k_ts, by.k_ss, by.labels), expected, strict=True):
        torch.testing.assert_close(gradient, right, rtol=1e-9, atol=1e-13)


def test_accuracy_is_of_the_largest_prediction() -> None:
    assert accuracy(torch.tensor([[0.1, 0.3], [2.0, 1.0]]), torch.tensor([1, 1])) == 0.5


def test_singular_kernels(normal: Callable[..., Tensor]) -> None:
    """Of equal images; with a negative eigenvalue, as rounding in float32 leaves one, a larger ridge is needed."""
    x = normal(5, (9,))
    x[3] = x[1]
    kernel, labels = x @ x.t(), normal(5, (2,), seed=1)
    kernel -= 1e-4 * torch.eye(5)
    with pytest.raises(SingularKernel, match=r"5 support images is singular with regularization 1e-06.*equal images"):
        fit(kernel, labels)
    ridge = fit(kernel, labels, allow_raise=True)
    assert ridge.reg == pytest.approx(1e-4)
    with pytest.raises(SingularKernel, match=r"regularizations from 1e-06 to 0.1"):
        fit(-kernel, labels, allow_raise=True)


def test_kernels_that_are_not_finite(kernel: Tensor) -> None:
    labels = torch.zeros(6, 2)
    kernel[2, 4] = torch.nan
    with pytest.raises(UserError, match="of the support with itself is nan at row 2, column 4"):
        fit(kernel, labels)
    kernel[2, 4] = 0
    with pytest.raises(UserError, match="between targets and support is inf at row 0, column 1"):
        fit(kernel, labels).predict(torch.tensor([[0.0, torch.inf, 0, 0, 0, 0]]))
    with pytest.raises(UserError, match=r"not \(6, 6\) beside \(5, 2\)"):
        fit(kernel, labels[:5])
