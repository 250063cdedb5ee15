from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from raycond.methods.kernels.activation import ACTIVATIONS

each = pytest.mark.parametrize("kind", ["relu", "erf"])


def layer(kind: str, k: Tensor, p: Tensor, q: Tensor, tangent: Tensor | None) -> Tensor:
    """(K', K' + T') (2, h, w, i, j) of covariances (h, w, i, j) and norms (h, w, i), (h, w, j), times 1.7."""
    activation = ACTIVATIONS[kind]
    m = -activation.scale * k / (p[..., None] * q[..., None, :])
    out = k.new_empty(2, *k.shape)
    activation(activation.angles(m, tangent), p, q, 1.7, out)
    return out


@each
def test_is_the_mean_over_gaussian_preactivations(kind: str) -> None:
    """K' is the mean of φ(u)φ(v) over u, v of covariance (k11, k12; k12, k22): by quadrature on a fine grid."""
    k11, k12, k22 = 1.3, 0.4, 0.8
    grid = torch.linspace(-9, 9, 601, dtype=torch.float64)
    a, b = torch.meshgrid(grid, grid, indexing="ij")
    density = torch.exp(-(a.square() + b.square()) / 2) / (2 * math.pi) * 0.03**2
    u = math.sqrt(k11) * a
    v = k12 / math.sqrt(k11) * a + math.sqrt(k22 - k12**2 / k11) * b
    phi, slope = {
        "relu": (torch.relu, lambda x: (x > 0).double()),
        "erf": (torch.erf, lambda x: 2 / math.sqrt(math.pi) * torch.exp(-x.square())),
    }[kind]
    mean, tangent = (float((density * f(u) * f(v)).sum()) for f in (phi, slope))
    p, q = (ACTIVATIONS[kind].norm(torch.full((1, 1, 1), v).double()) for v in (k11, k22))
    k, both = layer(kind, torch.full((1, 1, 1, 1), k12).double(), p, q, torch.ones(1, 1, 1, 1).double()).flatten()
    assert float(k) / 1.7 == pytest.approx(mean, abs=1e-3)
    assert float(both - k) / 1.7 == pytest.approx(tangent, abs=3e-3)
    assert float(ACTIVATIONS[kind].of_equal(torch.tensor(k11).double())) == pytest.approx(
        float((density * phi(u) ** 2).sum()), abs=1e-3
    )


@each
@pytest.mark.parametrize("first", [True, False])
def test_gradients(kind: str, first: bool, normal: Callable[..., Tensor]) -> None:
    """By K, T and the logarithms of the norms, against torch's own of the forward formulas."""
    shape = (2, 2, 3, 4)
    log_p, log_q = (0.1 * normal(2, (2, n), seed=n) for n in (3, 4))
    k, tangent, grad = 0.4 * normal(2, (2, 3, 4)).tanh(), normal(2, (2, 3, 4), seed=1), normal(2, shape, seed=2)
    activation = ACTIVATIONS[kind]
    m = -activation.scale * k / (log_p.exp()[..., None] * log_q.exp()[..., None, :])
    saved = activation.angles(m, None if first else tangent)
    found = activation.gradients(saved, log_p.exp(), log_q.exp(), 1.7, grad)

    variables = [value.requires_grad_() for value in (k, tangent, log_p, log_q)]
    p, q = log_p.exp()[..., None], log_q.exp()[..., None, :]
    c = activation.scale * k / (p * q)
    t = k if first else tangent
    if kind == "relu":
        angle = math.pi - torch.acos(c)
        new, slope = p * q * ((1 - c * c).sqrt() + angle * c) / (2 * math.pi), angle / (2 * math.pi)
    else:
        new, slope = 2 / math.pi * torch.asin(c), 4 / math.pi / (p * q * (1 - c * c).sqrt())
    total = (1.7 * torch.stack((new, new + t * slope)) * grad).sum()
    by_k, by_t, by_p, by_q = torch.autograd.grad(total, variables, allow_unused=True)
    torch.testing.assert_close(found.k + (found.t if first else 0), by_k)
    if not first:
        torch.testing.assert_close(found.t, by_t)
    torch.testing.assert_close(found.log_norm.sum(3), by_p)
    torch.testing.assert_close(found.log_norm.sum(2), by_q)


def test_rounding_near_equal_pixels_counts_as_equal() -> None:
    one = torch.ones(1, 1, 1)
    k, both = layer("relu", one[..., None] * (1 - 2e-7), one, one, one[..., None])
    assert float(both - k) == pytest.approx(1.7 / 2, rel=1e-7)
