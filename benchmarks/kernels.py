"""Kernel entries per second: this project's recursion against the formulas as they are written, in turns.

python -m benchmarks.kernels [--kernels fc1 convnet …] [--seconds 2] [--device cpu] [--dtype float32] [--no-naive]

Blocks of random images of MNIST's and CIFAR-10's shapes; the time is this process's processor time on a CPU, so that
others on the machine count little, and wall time on a GPU. The naive form holds all pixel pairs of all image pairs in
one array and takes its derivative by autograd; it gets as many image pairs as it is fastest with.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.common import machine, print_table
from raycond.methods.kernels.architecture import Architecture
from raycond.methods.kernels.ntk import kernel_matrix, kernel_vjp
from raycond.methods.kernels.registry import kernel
from tests.support.naive_kernels import naive_kernel

SHAPES = ((1, 28, 28), (3, 32, 32))
KERNELS = ("fc1", "fc3", "conv-vec3", "convnet3", "convnet", "myrtle5")
REPEATS = 3
# image pairs (rows, columns) of a block, and of one of the naive form, on a CPU
OURS = {"fc": (512, 2048), "conv-vec": (32, 128), "convnet": (8, 64), "myrtle": (2, 16)}
NAIVE = {"fc": (512, 2048), "conv-vec": (1, 2), "convnet": (1, 2), "myrtle": (1, 1)}
GPU = {"fc": (4096, 8192), "conv-vec": (512, 1024), "convnet": (64, 256), "myrtle": (16, 64)}
# a forward pass and a vector-Jacobian product by the rows: what a step of KIP takes of one block
PASSES = ("kernel", "kernel and product")


def family(name: str) -> str:
    return next(start for start in OURS if name.startswith(start))


def images(rows: int, columns: int, shape: tuple[int, ...], dtype: torch.dtype, device: str) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    return (
        torch.randn(rows, *shape, generator=random, dtype=dtype).to(device),
        torch.randn(columns, *shape, generator=random, dtype=dtype).to(device),
    )


def ours(network: Architecture, x: Tensor, z: Tensor, product: bool) -> None:
    kernel_matrix(network, x, z)
    if product:
        kernel_vjp(network, x, z, x.new_ones(len(x), len(z)), sides=(True, False))


def naive(network: Architecture, x: Tensor, z: Tensor, product: bool) -> None:
    x = x.detach().requires_grad_(product)
    with torch.set_grad_enabled(product):
        _, tangent = naive_kernel(network, x, z)
    if product:
        torch.autograd.grad(tangent.sum(), x)


def seconds(call: Callable[[], None], device: str) -> float:
    if device == "cpu":
        started = time.process_time()
        call()
        return time.process_time() - started
    started = time.perf_counter()
    call()
    torch.cuda.synchronize()
    return time.perf_counter() - started


def rates(calls: dict[str, tuple[int, Callable[[], None]]], device: str, least: float) -> dict[str, float]:
    """Median entries per second of each; they take turns, each for at least `least` seconds a turn."""
    measured: dict[str, list[float]] = {name: [] for name in calls}
    for _, call in calls.values():
        call()  # warms up
    for _ in range(REPEATS):
        for name, (entries, call) in calls.items():
            taken, count = 0.0, 0
            while taken < least:
                taken, count = taken + seconds(call, device), count + 1
            measured[name].append(entries * count / taken)
    return {name: statistics.median(values) for name, values in measured.items()}


def compare(name: str, shape: tuple[int, int, int], options: argparse.Namespace) -> list[list[str]]:
    network, dtype = kernel(name), getattr(torch, options.dtype)
    sizes = (OURS if options.device == "cpu" else GPU)[family(name)]
    x, z = images(*sizes, shape, dtype, options.device)
    a, b = images(*NAIVE[family(name)], shape, dtype, options.device)
    with_naive = options.naive and not (name.startswith("myrtle") and shape[0] == 3)
    rows = []
    for product, title in enumerate(PASSES):
        calls = {"ours": (x.shape[0] * z.shape[0], lambda p=product: ours(network, x, z, bool(p)))}
        if with_naive:
            calls["naive"] = (a.shape[0] * b.shape[0], lambda p=product: naive(network, a, b, bool(p)))
        result = rates(calls, options.device, options.seconds)
        times = f"{result['ours'] / result['naive']:.1f}" if with_naive else "–"
        plain = f"{result['naive']:,.0f}" if with_naive else "–"
        nanoseconds = f"{1e9 / result['ours'] / network.activations(shape):.2f}"
        size = "×".join(map(str, shape))
        rows.append([name, size, title, f"{result['ours']:,.0f}", nanoseconds, plain, times])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kernels", nargs="+", default=list(KERNELS))
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--no-naive", dest="naive", action="store_false")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{machine()}; {options.device}, {options.dtype}, one thread, median of {REPEATS}\n")
    rows = [row for name in options.kernels for shape in SHAPES for row in compare(name, shape, options)]
    head = ["kernel", "images", "pass", "entries/s", "ns per activation", "naive entries/s", "times naive"]
    print_table(head, rows)


if __name__ == "__main__":
    main()
