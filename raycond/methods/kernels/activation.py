"""What an activation does to the covariances of an infinitely wide network, and the derivative of that.

With θ the angle between the pre-activations at two pixels, cos θ = K / (n_p n_q), an activation maps the covariance K
(NNGP) and the tangent kernel T to

    ReLU (n² = K_pp)        K' = n_p n_q (sin θ + (π − θ) cos θ) / 2π       T' = T (π − θ) / 2π
    erf  (n² = 1 + 2 K_pp)  K' = 2/π asin c                                 T' = T 4/π / (n_p n_q √(1 − c²))

with c = 2 K / (n_p n_q) for erf (Cho & Saul 2009; Williams 1997). Here every function takes m = −cos θ (ReLU) or −c
(erf), because atan2(sin θ, m) = π − θ then needs no further pass over the data, and gives K' and the sum S' = K' + T',
which is what the next layer of a tangent kernel needs: T ← σ_w² avg(K' + T') + σ_b².

With ReLU rounding makes 1 − m² a little above 0 for equal pixels, and its root a thousand times that; so 1 − m² below
`TOLERANCE` counts as 0. In float32 sums over the 784 pixels of a digit are off by 2e-6, which the norms do not share.
Derivatives there are set to 0: they diverge, and cancel against those of the norms n.

Arrays: m, K', S', T are (h, w, i, j): pixels p of a plane, images i with p, images j with q. Norms are (h, w, i) and
(h, w, j).
"""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-13}
SMALLEST = 1e-30  # of a variance: black pixels have none in a network without biases


class Saved(NamedTuple):
    """What a derivative needs of a forward pass. root: √(1 − m²), of ReLU 0 within the tolerance. angle: π − θ, or
    asin m. tangent: T before the activation; None in the first layer, where T = K."""

    m: Tensor
    root: Tensor
    angle: Tensor
    tangent: Tensor | None


class Gradients(NamedTuple):
    """Of a sum of weighted outputs. k, t: by K and T. log_norm: by log n_p and, with the same values, by log n_q."""

    k: Tensor
    t: Tensor
    log_norm: Tensor


class DualActivation(Protocol):
    """scale: how far norms scale K, so that m = −scale · K / (n_p n_q)."""

    scale: float

    def norm(self, variance: Tensor) -> Tensor:
        """n from K_pp."""

    def of_equal(self, variance: Tensor) -> Tensor:
        """K' from K_pp for two equal pixels."""

    def angles(self, m: Tensor, tangent: Tensor | None) -> Saved:
        """The first half of a forward pass."""

    def __call__(self, saved: Saved, p: Tensor, q: Tensor, gain: float, out: Tensor) -> None:
        """Write gain · K' and gain · S' into out (2, h, w, i, j); p, q: norms."""

    def gradients(self, saved: Saved, p: Tensor, q: Tensor, gain: float, grad: Tensor) -> Gradients:
        """grad: by what `__call__` wrote."""


class Relu:
    scale = 1.0

    def norm(self, variance: Tensor) -> Tensor:
        return variance.clamp_min(SMALLEST).sqrt()

    def of_equal(self, variance: Tensor) -> Tensor:
        return variance / 2

    def angles(self, m: Tensor, tangent: Tensor | None) -> Saved:
        root = F.threshold(_one_minus_square(m), TOLERANCE[m.dtype], 0.0, inplace=True).sqrt_()
        return Saved(m, root, torch.atan2(root, m), tangent)

    def __call__(self, saved: Saved, p: Tensor, q: Tensor, gain: float, out: Tensor) -> None:
        m, root, angle, tangent = saved
        k, s = out
        amplitude = _outer(p * (gain / (2 * math.pi)), q)
        product = angle * m
        torch.sub(root, product, out=k).mul_(amplitude)
        if tangent is None:  # T = n_p n_q cos θ
            torch.addcmul(k, product, amplitude, value=-1, out=s)
        else:
            torch.addcmul(k, tangent, angle, value=gain / (2 * math.pi), out=s)

    def gradients(self, saved: Saved, p: Tensor, q: Tensor, gain: float, grad: Tensor) -> Gradients:
        m, root, angle, tangent = saved
        half = gain / (2 * math.pi)
        if tangent is None:
            tangent = _outer(-p, q).mul_(m)
        t = grad[1] * angle
        t *= half
        k = grad[0] * angle
        k.mul_(half).add_(t)
        # d(π − θ)/dm = −1 / sin θ
        bent = _inverse(root).mul_(grad[1]).mul_(tangent).mul_(half)
        log_norm = (grad[0] + grad[1]).mul_(root).mul_(_outer(p * half, q)).addcmul_(bent, m)
        k += bent.mul_((1 / p)[..., None]).mul_((1 / q)[..., None, :])
        return Gradients(k, t, log_norm)


class Erf:
    scale = 2.0

    def norm(self, variance: Tensor) -> Tensor:
        return (1 + 2 * variance).sqrt()

    def of_equal(self, variance: Tensor) -> Tensor:
        return (2 / math.pi) * torch.asin(2 * variance / (1 + 2 * variance))

    def angles(self, m: Tensor, tangent: Tensor | None) -> Saved:
        root = _one_minus_square(m).clamp_min_(torch.finfo(m.dtype).eps).sqrt_()  # of pixels of any contrast above 0
        return Saved(m, root, torch.atan2(m, root), tangent)

    def __call__(self, saved: Saved, p: Tensor, q: Tensor, gain: float, out: Tensor) -> None:
        m, root, angle, tangent = saved
        k, s = out
        torch.mul(angle, -2 * gain / math.pi, out=k)
        if tangent is None:  # T = −m n_p n_q / 2
            torch.addcdiv(k, m, root, value=-2 * gain / math.pi, out=s)
        else:
            slope = _outer(p, q).mul_(root).reciprocal_()
            torch.addcmul(k, tangent, slope, value=4 * gain / math.pi, out=s)

    def gradients(self, saved: Saved, p: Tensor, q: Tensor, gain: float, grad: Tensor) -> Gradients:
        m, root, _, tangent = saved
        norms = _outer(p, q)
        if tangent is None:
            tangent = (norms * m).mul_(-0.5)
        slope = (norms * root).reciprocal_().mul_(4 * gain / math.pi)  # gain · dK'/dK
        t = grad[1] * slope
        k = (grad[0] + grad[1]).mul_(slope)
        bent = (t * tangent).div_(root).div_(root)  # slope / (1 − m²)
        log_norm = (k * m).mul_(norms).mul_(0.5).sub_(bent)
        k += bent.mul_(m).div_(norms).mul_(-2)
        return Gradients(k, t, log_norm)


ACTIVATIONS: dict[str, DualActivation] = {"relu": Relu(), "erf": Erf()}


def _one_minus_square(m: Tensor) -> Tensor:
    return torch.addcmul(torch.ones((), dtype=m.dtype, device=m.device), m, m, value=-1)


def _outer(p: Tensor, q: Tensor) -> Tensor:
    return p[..., None] * q[..., None, :]


def _inverse(root: Tensor) -> Tensor:
    """1 / root, and 0 where root is 0."""
    return root.reciprocal().nan_to_num_(posinf=0.0)
