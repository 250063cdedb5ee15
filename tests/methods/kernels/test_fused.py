"""The GPU's kernels without a GPU: through Triton's interpreter, and compiled for one."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from raycond.methods.kernels.architecture import Architecture, Level
from raycond.methods.kernels.ntk import kernel_matrix, kernel_vjp
from raycond.methods.kernels.recursion import Fields, Recursion
from raycond.methods.kernels.registry import kernel

triton = pytest.importorskip("triton")
NAME = "raycond.methods.kernels.fused"


def fresh() -> ModuleType:
    """Whether kernels are interpreted is settled when their module is imported."""
    sys.modules.pop(NAME, None)
    return importlib.import_module(NAME)


@pytest.fixture
def interpreted(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    fused = fresh()
    monkeypatch.setattr(fused, "ROWS", 2)
    monkeypatch.setattr(fused, "COLUMNS", 4)
    yield fused
    sys.modules.pop(NAME)


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (Architecture("convolution, then pooling", (Level(2, True),)), (1, 2, 2)),
        (Architecture("pooling, then convolution", (Level(1, True), Level(1))), (1, 2, 2)),
        (Architecture("global", (Level(1),), head="gap"), (2, 1, 3)),
    ],
    ids=["convolution, pooling", "pooling, convolution", "global"],
)
def test_equals_the_passes(
    network: Architecture, shape: tuple, interpreted: ModuleType, normal: Callable[..., Tensor]
) -> None:
    """Values and gradients; 2 by 3 image pairs leave part of a program's columns empty."""
    x, z, weights = normal(2, shape).float(), normal(3, shape, seed=1).float(), normal(2, (2, 3), seed=2).float()
    left, right = Fields.of(network, x), Fields.of(network, z)
    results = []
    for recursion in (Recursion(network, shape), interpreted.FusedRecursion(network, shape)):
        entering, values = recursion.forward(left, right)
        by_left, by_right = left.zeros(), right.zeros()
        recursion.backward(left, right, entering, weights, by_left, by_right)
        results.append([values, by_left.images, by_right.images, *by_left.norms, *by_right.norms])
    for expected, fused in zip(*results, strict=True):
        torch.testing.assert_close(fused, expected, rtol=0, atol=2e-6 * float(expected.abs().max()))


def test_several_tiles(interpreted: ModuleType, normal: Callable[..., Tensor]) -> None:
    network, shape = Architecture("one", (Level(1),)), (1, 1, 2)
    x, z = normal(3, shape).float(), normal(5, shape, seed=1).float()
    left, right = Fields.of(network, x), Fields.of(network, z)
    entering, values = interpreted.FusedRecursion(network, shape).forward(left, right)
    torch.testing.assert_close(values[1], kernel_matrix(network, x, z))
    by_left, by_right = left.zeros(), right.zeros()
    weights = torch.stack((torch.zeros(3, 5), normal(3, (5,), seed=2).float()))
    interpreted.FusedRecursion(network, shape).backward(left, right, entering, weights, by_left, by_right)
    by_x, by_z = kernel_vjp(network, x, z, weights[1])
    torch.testing.assert_close(left.gradient(network, by_left, shape), by_x, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(right.gradient(network, by_right, shape), by_z, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["_forward", "_backward", "_by_pixels"])
def test_compiles_for_a_gpu(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The interpreter accepts more than the compiler; sizes of 1 are constants to it."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    function = getattr(fresh(), name)
    constants = {"FIRST": False, "POOL": True, "LAST": False, "BY_X": False, "ROWS": 8, "COLUMNS": 64}
    constants |= {"ry": 1, "rx": 1, "I": 1, "channels": 1, "out_ry": 1, "next_ry": 1}
    constants = {name: value for name, value in constants.items() if name in function.arg_names}
    floats = ("weight", "bias", "gain", "share")
    integers = ("J", "down", "across", "H", "W", "out_h", "out_w", "out_rx", "next_h", "next_w", "next_rx")
    types = {name: "fp32" if name in floats else "i32" if name in integers else "*fp32" for name in function.arg_names}
    source = ASTSource(function, types | dict.fromkeys(constants, "constexpr"), constants)
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32))
    assert "ld.global" in compiled.asm["ptx"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", ["convnet", "convnet3", "myrtle5"])
def test_on_a_gpu(name: str, normal: Callable[..., Tensor]) -> None:
    network, shape = kernel(name), (3, 16, 16)
    x, z, weights = normal(9, shape).float(), normal(70, shape, seed=1).float(), normal(9, (70,), seed=2).float()
    on_gpu = kernel_matrix(network, x.cuda(), z.cuda()).cpu()
    torch.testing.assert_close(on_gpu, kernel_matrix(network, x, z), rtol=5e-6, atol=0)
    for fused, expected in zip(
        kernel_vjp(network, x.cuda(), z.cuda(), weights.cuda()), kernel_vjp(network, x, z, weights), strict=True
    ):
        assert fused is not None
        assert expected is not None
        torch.testing.assert_close(fused.cpu(), expected, rtol=0, atol=5e-5 * float(expected.abs().max()))


def test_other_networks_take_the_passes(interpreted: ModuleType) -> None:
    assert interpreted.supports(kernel("convnet"), torch.float32)
    assert not interpreted.supports(kernel("convnet"), torch.float64)
    assert not interpreted.supports(kernel("fc1"), torch.float32)
    assert not interpreted.supports(kernel("convnet", activation="erf"), torch.float32)
