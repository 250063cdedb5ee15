"""HeLlO's projector on CLIP's RN50: its labels against the CPU, its fit twice, labels and fit steps per second."""

from __future__ import annotations

import tempfile
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks import labels as bench
from benchmarks.gpu.context import Context, full_float32, relative_error
from benchmarks.gpu.part import Part
from raycond.labels.projector.labeler import Logits
from raycond.labels.projector.network import Projector, ProjectorOptions

FLOAT32, TF32 = 1e-4, 3e-2  # largest relative errors: of sums in another order, and of factors of 10 bits of mantissa
BATCHES = (32, 128, 512)


def run(context: Context) -> None:
    if context.tiny:
        full = small = replace(bench.tiny(), batch=8, images=6)
    else:
        full, small = replace(bench.rn50(), batch=128, images=60), replace(bench.tiny(), images=20)
    _logits(context, full)
    _fit_twice(context, small)
    context.sweep("labels, batch", BATCHES[: 1 if context.tiny else None], partial(_labels, context, full))
    _fits(context, full)


def projector(sizes: bench.Sizes, device: torch.device | str, *, delta: bool) -> Projector:
    """The same on every device; delta: with one that is not zero, as after a fit."""
    clip = bench.random_clip(sizes.clip, torch.device("cpu"))
    head = torch.randn(len(bench.NAMES), clip.width, generator=torch.Generator().manual_seed(0))
    projector = Projector(clip, bench.NAMES, ProjectorOptions(), device, head=head / head.norm(dim=1, keepdim=True))
    if delta:
        random = torch.Generator().manual_seed(1)
        for tensor in projector.delta().values():
            tensor.data.add_(0.01 * torch.randn(tensor.shape, generator=random).to(tensor.device))
    return projector


def views(sizes: bench.Sizes, count: int) -> Tensor:
    random = torch.Generator().manual_seed(2)
    return torch.rand(count, sizes.channels, sizes.size, sizes.size, generator=random)


@torch.no_grad()
def _logits(context: Context, sizes: bench.Sizes) -> None:
    """Logits with a delta beside the weights, and added into them."""
    images = views(sizes, 4)
    expected = projector(sizes, "cpu", delta=True)(images)
    separate = projector(sizes, context.device, delta=True)
    merging = Logits(projector(sizes, context.device, delta=True))
    precisions: dict[str, tuple[Any, float]] = {
        "float32": (full_float32(), FLOAT32),
        "float32 with TF32 convolutions": (nullcontext(), TF32),
    }
    for name, (precision, limit) in precisions.items():
        with precision:
            logits, merged = separate(images), merging(images)
        for what, tensor in (("logits", logits), ("logits, delta merged", merged)):
            error = relative_error(tensor, expected)
            context.check(f"projector, {what}, {name}, against the CPU", error, limit, "relative error")


def _fit_twice(context: Context, sizes: bench.Sizes) -> None:
    """The state that a fit keeps after the same few steps."""
    steps = 3

    def state() -> bytes:
        with tempfile.TemporaryDirectory(dir=context.scratch) as folder:
            training = bench.fit_job(sizes, folder, 1, steps).open(context.device, 0, 1)
            for _ in training.run():
                pass
            return training.state()

    first, second = state(), state()
    wrong = sum(a != b for a, b in zip(first, second, strict=True))
    context.check(f"fit of {sizes.name}, twice", wrong, 0, "bytes of its state that differ")


def _labels(context: Context, sizes: bench.Sizes, batch: int) -> None:
    """Soft labels of a batch of views, as an online labeler gives them, in float32."""
    images = views(sizes, batch).to(context.device)
    logits = Logits(projector(sizes, context.device, delta=False))
    with context.memory() as memory:
        rates = [batch / one for one in context.seconds(partial(logits, images))]
    context.figure("labels", "labels/s", rates, {"clip": sizes.name, "batch": batch}, memory)


def _fits(context: Context, sizes: bench.Sizes) -> None:
    """Steps per second of raycond's fit and of a bare loop with the same CLIP, teacher, views and optimizer."""
    warm, count, repeats = (1, 2, 1) if context.tiny else (5, 20, 2)
    runs: dict[str, Any] = {"raycond": bench.our_fit, "bare loop": bench.bare_fit}
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, fit in runs.items():
            with tempfile.TemporaryDirectory(dir=context.scratch) as folder:
                rates[name].append(fit(sizes, folder, warm, count, context.device))
    for name, values in rates.items():
        context.figure("fit", "steps/s", values, {"clip": sizes.name, "batch": sizes.batch, "loop": name})


PART = Part("HeLlO's projector on CLIP's RN50 at 224 px", seconds=40, least=15, run=run)
