"""What a run will need, before anything is computed: bytes of a block and of the factorization, entries, hours."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch

from raycond.core.errors import UserError
from raycond.methods.kernels.architecture import Architecture, Shape
from raycond.methods.kernels.ntk import kernel_matrix, tile_of
from raycond.methods.kernels.self_covariance import IMAGES

FORWARD_ARRAYS, TAPE_ARRAYS, BACKWARD_ARRAYS = 11, 5, 9  # of one plane of a tile that are alive at once
LIBRARIES = 2**26  # bytes that torch and its libraries take for themselves on first use
SELF_ARRAYS = 8  # of a self-covariance for its derivative, per layer
VJP_COST = 4.2  # of a block and its vector-Jacobian product by one side, in times of the block; measured on CPUs
SOLVER_MATRICES = 5  # (n, n): kernel, regularized kernel, factor, derivative and its symmetric form


@dataclass(frozen=True)
class Work:
    """A run. support: images; targets: per step; steps: passes over them, 1 for Label Solve; learned: whether images
    are learned, which takes vector-Jacobian products; tests: images scored in the end."""

    network: Architecture
    shape: Shape
    support: int
    targets: int
    steps: int = 1
    learned: bool = True
    tests: int = 0
    classes: int = 10
    dtype: torch.dtype = torch.float32


@dataclass(frozen=True)
class Plan:
    """block_bytes: of a worker that computes one block; solver_bytes: of the process that assembles and factors;
    entries: kernel entries, a vector-Jacobian product counted as `VJP_COST` − 1 more; hours: None without a rate."""

    block: int
    block_bytes: int
    solver_bytes: int
    blocks_per_step: int
    entries: float
    hours: float | None


def plan(
    work: Work, block: int, *, worker_memory: int, solver_memory: int, rate: float | None = None, workers: int = 1
) -> Plan:
    """Bytes of memory are those of one worker and of the solver. rate: entries per second of one worker.

    Raises UserError if the network does not take the images, or if something does not fit: for a block, naming the
    largest that does.
    """
    work.network.check(work.shape)
    block = min(block, max(work.support, work.targets))
    solver = solver_bytes(work)
    if solver > solver_memory:
        raise UserError(
            f"a support of {work.support} images with {work.targets} targets needs {_gb(solver)} to factor its kernel, "
            f"and {_gb(solver_memory)} are there; use a smaller --ipc or --targets"
        )
    if block_bytes(work, block) > worker_memory:
        _refuse_block(work, block, worker_memory)
    down, across = math.ceil(work.support / block), math.ceil(work.targets / block)
    entries = _entries(work)
    return Plan(
        block,
        block_bytes(work, block),
        solver,
        down * across + down * (down + 1) // 2,
        entries,
        None if rate is None else entries / rate / workers / 3600,
    )


def block_bytes(work: Work, block: int) -> int:
    """Of a worker's memory that a block of `block` × `block` image pairs takes, by counting its arrays."""
    network, item = work.network, work.dtype.itemsize
    pixels = math.prod(work.shape)
    sizes, self_pairs = network.sizes(work.shape), _self_pairs(work)
    norm_values = sum(level.layers * h * w for level, (h, w) in zip(network.levels, sizes, strict=True))
    images = 2 * block * pixels * (3 * item + 8) + 2 * block * norm_values * (2 * item + 8)
    rows, columns = tile_of(network, work.shape, work.dtype, block, block)
    plane = rows * columns * sizes[0][0] * sizes[0][1] * item
    kept = rows * columns * sum(network.pixel_pairs(work.shape)[1:]) * 2 * item
    layers = max(level.layers for level in network.levels)
    if work.learned:
        tile = plane * (FORWARD_ARRAYS + BACKWARD_ARRAYS + TAPE_ARRAYS * layers) + 2 * kept
        own = min(IMAGES, block) * self_pairs * 8 * SELF_ARRAYS
    else:
        tile, own = plane * FORWARD_ARRAYS + kept, min(IMAGES, block) * self_pairs * 8 * 2
    return LIBRARIES + images + block * block * (item + 8) + max(tile, own)


def solver_bytes(work: Work) -> int:
    """Of the process that assembles K_ss and K_ts and factors: float64. Label Solve holds a row of blocks of K_ts."""
    n = work.support
    held = 3 * work.targets if work.learned else 0
    state = 3 * n * (math.prod(work.shape) + work.classes) if work.learned else 0
    return 8 * (SOLVER_MATRICES * n * n + held * n + state)


def measured_rate(work: Work, *, seconds: float = 1.0, device: str = "cpu") -> float:
    """Kernel entries per second of this process, from blocks of random images; takes about `seconds`."""
    random = torch.Generator().manual_seed(0)
    count, best = 8, 0.0
    spent = 0.0
    while spent < seconds:
        x, z = (torch.randn(n, *work.shape, generator=random, dtype=work.dtype).to(device) for n in (count, 8 * count))
        started = time.perf_counter()
        kernel_matrix(work.network, x, z)
        _wait(device)
        taken = time.perf_counter() - started
        best, spent = max(best, len(x) * len(z) / taken), spent + taken
        if taken < seconds / 8:
            count *= 2
    return best


def _entries(work: Work) -> float:
    per_step = work.support * work.targets + work.support * (work.support + 1) / 2
    cost = VJP_COST if work.learned else 1.0
    return work.steps * per_step * cost + work.tests * work.support


def _self_pairs(work: Work) -> int:
    """Entries of an image's self-covariance over all layers, one plane of each pair d, −d."""
    total = 0
    sizes, radii = work.network.sizes(work.shape), work.network.self_radii(work.shape)
    for level, (height, width), (down, right) in zip(work.network.levels, sizes, radii, strict=True):
        planes = ((2 * down + 1) * (2 * right + 1) + 1) // 2
        total += level.layers * planes * height * width
    return total


def _refuse_block(work: Work, block: int, memory: int) -> None:
    low, high = 0, block  # the largest that fits is in [low, high)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if block_bytes(work, middle) <= memory else (low, middle)
    needs = f"a block of {block}×{block} image pairs needs {_gb(block_bytes(work, block))} of a worker's {_gb(memory)}"
    if not low:
        raise UserError(f"{needs}, and not even one pair of images fits: use smaller images or another kernel")
    raise UserError(f"{needs}: use --block {low} or less")


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f} GB"


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()
