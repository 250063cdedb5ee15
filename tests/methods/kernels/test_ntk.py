"""Kernels against published recursions: golden numbers of neural-tangents, the naive form, finite differences."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from raycond.core.errors import UserError
from raycond.methods.kernels import ntk
from raycond.methods.kernels.architecture import Architecture, Level
from raycond.methods.kernels.ntk import kernel_matrix, kernel_vjp
from raycond.methods.kernels.registry import kernel
from tests.support.naive_kernels import naive_kernel

TWO = (Level(1, True), Level(1, True))
# (NNGP xx, xz, zz), (NTK xx, xz, zz), W_std √2, b_std 0.1, float64; the rows of vectors and the first three of images
# agree between neural-tangents 0.6.5 and an independent implementation
VECTORS = {
    ("fc1", "relu"): ((1.15390750, 0.36473115, 0.88609250), (2.29781501, 0.40160013, 1.76218499)),
    ("fc2", "relu"): ((1.16390750, 0.53540631, 0.89609250), (3.46172251, 0.78337940, 2.65827749)),
    ("fc3", "relu"): ((1.17390750, 0.64857327, 0.90609250), (4.63563002, 1.17787022, 3.56436998)),
    ("fc1", "erf"): ((0.98988270, 0.06976098, 0.88872540), (2.22351022, 0.12956589, 1.93989561)),
    ("fc2", "erf"): ((0.93525667, 0.07177445, 0.89419243), (3.47774488, 0.18659720, 3.20880856)),
    ("fc3", "erf"): ((0.91365842, 0.07463092, 0.89653359), (4.98091561, 0.24280105, 4.71601493)),
}
IMAGES = [
    (8, 3, kernel("convnet"), (0.10083762, 0.10054878, 0.10097140), (0.23095123, 0.22125310, 0.23133392)),
    (8, 3, kernel("convnet3"), (0.08668222, 0.08637769, 0.08696882), (0.18163919, 0.17400761, 0.18243327)),
    (8, 3, kernel("conv-vec3"), (0.69883947, 0.43453355, 0.70064269), (2.73695512, 0.76411060, 2.74416800)),
    (8, 3, kernel("conv-vec3", head="gap"), (0.40635268, 0.40669245, 0.40771982), (0.79754285, 0.78961665, 0.80062326)),
    (8, 3, Architecture("two", TWO), (0.24663105, 0.24058821, 0.24754949), (0.50294442, 0.45981518, 0.50531701)),
    (
        8,
        3,
        Architecture("two", TWO, head="gap"),
        (0.22042520, 0.22059135, 0.22147359),
        (0.40498964, 0.40036023, 0.40758756),
    ),
    (14, 1, kernel("convnet"), (0.28585522, 0.28540058, 0.28583709), (0.84646755, 0.82832390, 0.84646159)),
]
NETWORKS = {
    "fc1": (kernel("fc1"), (2, 2, 2)),
    "fc3": (kernel("fc3"), (2, 2, 2)),
    "fc2-erf": (kernel("fc2", activation="erf"), (2, 2, 2)),
    "conv-vec3": (kernel("conv-vec3"), (3, 5, 4)),
    "pooled": (Architecture("pooled", (Level(2, True), Level(1, True))), (1, 5, 4)),
    "many channels": (Architecture("two", TWO), (5, 4, 6)),
    "gap": (Architecture("deep", (Level(2, True), Level(1, True)), head="gap"), (2, 5, 7)),
    "erf": (Architecture("two", TWO, activation="erf", head="gap"), (2, 5, 4)),
    "myrtle5": (kernel("myrtle5"), (3, 4, 4)),
    "no bias": (Architecture("two", TWO, b_std=0.0), (1, 5, 4)),
}
each_network = pytest.mark.parametrize(("network", "shape"), NETWORKS.values(), ids=NETWORKS)


def pair(matrix: Tensor) -> list[float]:
    return [matrix[0, 0].item(), matrix[0, 1].item(), matrix[1, 1].item()]


@pytest.mark.parametrize(("name", "activation"), VECTORS, ids="-".join)
def test_golden_numbers_of_vectors(name: str, activation: str) -> None:
    i = torch.arange(8, dtype=torch.float64)
    x = torch.stack([(i + 1).sin(), (i + 1).cos()])[:, :, None, None]
    network = kernel(name, activation=activation)
    nngp, tangent = VECTORS[name, activation]
    assert pair(kernel_matrix(network, x, output="nngp")) == pytest.approx(nngp, abs=1e-8)
    assert pair(kernel_matrix(network, x)) == pytest.approx(tangent, abs=1e-7)


@pytest.mark.parametrize(("side", "channels", "network", "nngp", "tangent"), IMAGES)
def test_golden_numbers_of_images(side: int, channels: int, network: Architecture, nngp: tuple, tangent: tuple) -> None:
    row, column, channel = (torch.arange(n, dtype=torch.float64) for n in (side, side, channels))
    a = 1 + row[None, :, None] + 2 * column[None, None, :] + 3 * channel[:, None, None]
    x = torch.stack([a.sin(), a.cos()])
    assert pair(kernel_matrix(network, x, output="nngp")) == pytest.approx(nngp, abs=1e-8)
    assert pair(kernel_matrix(network, x)) == pytest.approx(tangent, abs=1e-7)


def test_closed_form_of_one_layer(normal: Callable[..., Tensor]) -> None:
    x = normal(4, (3, 2, 2))
    v = 2 * x.flatten(1).square().mean(1) + 0.01
    torch.testing.assert_close(kernel_matrix(kernel("fc1"), x).diagonal(), 2 * v + 0.01)
    torch.testing.assert_close(kernel_matrix(kernel("fc1"), x, output="nngp").diagonal(), v + 0.01)


@each_network
@pytest.mark.parametrize("output", ["ntk", "nngp"])
def test_equals_the_naive_form(
    network: Architecture, shape: tuple, output: str, normal: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also across the borders of tiles: here of 2 by 3 image pairs or fewer."""
    monkeypatch.setitem(ntk.ENTRIES, "cpu", 6 * math.prod(network.seen(shape)[1:]))
    x, z = normal(5, shape), normal(4, shape, seed=1)
    for other in (z, None):
        expected = naive_kernel(network, x, x if other is None else other)[output == "ntk"]
        torch.testing.assert_close(kernel_matrix(network, x, other, output=output), expected, rtol=1e-12, atol=1e-14)


@each_network
@pytest.mark.parametrize("output", ["ntk", "nngp"])
def test_gradient_equals_that_of_autograd(
    network: Architecture, shape: tuple, output: str, normal: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ntk.ENTRIES, "cpu", 6 * math.prod(network.seen(shape)[1:]))
    x, z = normal(4, shape).requires_grad_(), normal(3, shape, seed=1).requires_grad_()
    weights = normal(4, (3,), seed=2)
    expected = torch.autograd.grad((naive_kernel(network, x, z)[output == "ntk"] * weights).sum(), (x, z))
    for gradient, right in zip(kernel_vjp(network, x, z, weights, output=output), expected, strict=True):
        torch.testing.assert_close(gradient, right, rtol=1e-10, atol=1e-14)
    by_x, by_z = kernel_vjp(network, x, z, weights, output=output, sides=(False, True))
    assert by_x is None
    torch.testing.assert_close(by_z, expected[1], rtol=1e-10, atol=1e-14)


@each_network
def test_gradient_of_a_kernel_of_equal_images(
    network: Architecture, shape: tuple, normal: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finite on the diagonal, where the angle is 0, and equal to finite differences of the kernel itself."""
    monkeypatch.setitem(ntk.ENTRIES, "cpu", 6 * math.prod(network.seen(shape)[1:]))
    x, weights, direction = normal(3, shape), normal(3, (3,), seed=1), normal(3, shape, seed=2)
    gradient, _ = kernel_vjp(network, x, None, weights)
    step = 1e-5
    up, down = (float((kernel_matrix(network, x + h * direction) * weights).sum()) for h in (step, -step))
    assert float((gradient * direction).sum()) == pytest.approx((up - down) / (2 * step), rel=1e-6, abs=1e-9)


@each_network
def test_symmetric_and_positive(network: Architecture, shape: tuple, normal: Callable[..., Tensor]) -> None:
    x = normal(6, shape)
    matrix = kernel_matrix(network, x)
    assert torch.equal(matrix, matrix.t())
    assert torch.linalg.eigvalsh(matrix).min() > 0


@each_network
def test_float32(network: Architecture, shape: tuple, normal: Callable[..., Tensor]) -> None:
    """Also on the diagonal, where rounding would show a thousandfold without a tolerance."""
    x, weights = normal(6, shape), normal(6, (6,), seed=1)
    exact = kernel_matrix(network, x)
    rough = kernel_matrix(network, x.float())
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough.double(), exact, rtol=4e-6, atol=0)
    gradient, _ = kernel_vjp(network, x, None, weights)
    rough_gradient, _ = kernel_vjp(network, x.float(), None, weights.float())
    torch.testing.assert_close(rough_gradient, gradient, rtol=0, atol=2e-5 * float(gradient.abs().max()))


@pytest.mark.parametrize("name", ["fc1", "fc3"])
def test_float32_of_digits(name: str) -> None:
    """Sums over many pixels of one background are rounded to one side, the norms are not."""
    random = torch.Generator().manual_seed(0)
    ink = (torch.rand(40, 1, 28, 28, generator=random) < 0.15) * torch.rand(40, 1, 28, 28, generator=random)
    x = ink.double() * 3.2 - 0.42
    exact, rough = (kernel_matrix(kernel(name), images).double() for images in (x, x.float()))
    torch.testing.assert_close(rough, exact, rtol=5e-6, atol=0)


def test_black_images_without_biases() -> None:
    network = Architecture("two", TWO, b_std=0.0)
    x = torch.zeros(2, 1, 6, 6, dtype=torch.float64)
    x[1, :, 2:4, 3:6] = 1
    matrix = kernel_matrix(network, x)
    assert float(matrix[0, 0]) < 1e-20 < float(matrix[1, 1])
    assert kernel_vjp(network, x, None, torch.ones(2, 2))[0].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_erf_of_strong_contrasts(dtype: torch.dtype, normal: Callable[..., Tensor]) -> None:
    """Its angle comes near 0 for equal images of large pixels, and is never 0."""
    x = (300 * normal(3, (2, 2, 2))).to(dtype)
    network = kernel("fc2", activation="erf")
    matrix = kernel_matrix(network, x)
    torch.testing.assert_close(matrix, naive_kernel(network, x.double(), x.double())[1].to(dtype), rtol=0.1, atol=0)
    assert kernel_vjp(network, x, None, torch.ones(3, 3))[0].isfinite().all()


def test_images_that_kernels_refuse(normal: Callable[..., Tensor]) -> None:
    network, x = kernel("convnet"), normal(2, (1, 8, 8))
    with pytest.raises(UserError, match="square"):
        kernel_matrix(kernel("myrtle5"), normal(2, (3, 8, 9)))
    with pytest.raises(UserError, match=r"float32 or float64, not \(2, 64\)"):
        kernel_matrix(network, x.flatten(1))
    with pytest.raises(UserError, match="uint8"):
        kernel_matrix(network, x.to(torch.uint8))
    with pytest.raises(UserError, match="images of one kind"):
        kernel_matrix(network, x, normal(2, (3, 8, 8)))
    with pytest.raises(UserError, match="images of one kind"):
        kernel_matrix(network, x, x.float())
