"""Diffusion generators with random weights: the same image in every batch, and images per second by batch."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.generators import make, side
from benchmarks.gpu.context import Context, full_float32, largest_difference
from benchmarks.gpu.models import quiet
from raycond.data.classes import Classes
from raycond.models.codecs.registry import open_codec
from raycond.models.generators.base import Wanted
from raycond.models.generators.latent_diffusion import LatentDiffusion
from raycond.models.generators.options import GeneratorOptions
from raycond.models.generators.registry import open_generator
from raycond.models.generators.sampler import SCHEDULERS

CLASSES = Classes(("n01440764",), ("tench",))
GREY = 1 / 255  # a step of an 8-bit image
# float32 sums in another order; numbers of 7 bits, in which every step of the sampler's model is computed
FLOAT32, BF16 = 0.5 * GREY, 8 * GREY
LARGEST, MEAN = "largest difference of a pixel", "mean difference of a pixel"


@dataclass(frozen=True)
class Sizes:
    """kind: which generator. size: the name of its figures' setting, pixels a side. batches: that are measured."""

    kind: Literal["sd", "dit"]
    size: int
    batches: tuple[int, ...]


def run(context: Context, sizes: Sizes) -> None:
    quiet()
    _samplers(context, sizes.kind)
    model = "tiny" if context.tiny else "full"
    folder = context.scratch / sizes.kind
    with torch.device(context.device):
        _, where = make(sizes.kind, model, folder, torch.float32 if context.tiny else torch.bfloat16)
    context.free()
    cells = side(sizes.kind, model)
    _same_in_every_batch(context, sizes.kind, where, cells)
    context.free()
    _figures(context, sizes, where, cells)


def opened(
    spec: str, where: str, cells: int, device: torch.device | str, dtype: str, **options: Any
) -> LatentDiffusion:
    """The generator of a folder, with the folder's own VAE."""
    codec = open_codec(f"kl:{where}", device=str(device), dtype=dtype)
    size = cells * codec.factor
    generator = open_generator(
        f"{spec}:{where}",
        options=GeneratorOptions(**options),
        classes=CLASSES,
        codec=codec,
        size=size,
        device=str(device),
        dtype=dtype,
    )
    assert isinstance(generator, LatentDiffusion)  # as every one of a folder of diffusers
    return generator


def wanted(count: int, cells: int) -> Wanted:
    latents = torch.randn(count, 4, cells, cells, generator=torch.Generator().manual_seed(0))
    return Wanted(latents, torch.zeros(count, dtype=torch.long), tuple(range(count)))


# ---- checks


def _samplers(context: Context, kind: str) -> None:
    """A miniature model with every sampler, in float32, on the device and on the CPU."""
    folder = context.scratch / f"{kind}-samplers"
    _, where = make(kind, "tiny", folder, torch.float32)
    cells = side(kind, "tiny")
    for name in list(SCHEDULERS)[: 2 if context.tiny else None]:
        with full_float32():
            images = [
                opened(kind, where, cells, device, "float32", steps=4, scheduler=name)(wanted(2, cells))
                for device in (context.device, "cpu")
            ]
        name = f"{kind} of miniature size, {name}, against the CPU"
        context.check(name, largest_difference(*images), FLOAT32, LARGEST)


def _same_in_every_batch(context: Context, kind: str, where: str, cells: int) -> None:
    """Images one at a time, and all at once in another order."""
    asked = wanted(3, cells)
    order = [2, 0, 1]
    for dtype, limit in (("float32", FLOAT32), ("bfloat16", BF16)):
        generator = opened(kind, where, cells, context.device, dtype, steps=4, batch=1)
        with full_float32():
            alone = generator(asked)
            generator.options = replace(generator.options, batch=len(asked))
            together = generator(asked.rows(order))[torch.tensor(order).argsort()]
            again = generator(asked.rows(order))[torch.tensor(order).argsort()]
        if dtype == "float32":
            error, what = largest_difference(together, alone), LARGEST
        else:
            error, what = float((together - alone).abs().mean()), MEAN
        context.check(f"{kind}, {dtype}: alone and in a batch", error, limit, what)
        context.check(f"{kind}, {dtype}: the same batch twice", largest_difference(together, again), 0, LARGEST)
        del generator
        context.free()


# ---- figures


def _figures(context: Context, sizes: Sizes, where: str, cells: int) -> None:
    """Images per second with raycond's default options, from centroids to images in [0, 1] on the CPU."""
    options = {"steps": 2} if context.tiny else {}
    generator = opened(sizes.kind, where, cells, context.device, "auto", **options)
    generator.options = replace(generator.options, batch=1)
    with FlopCounterMode(display=False) as counter:  # the first call, which also warms up
        generator(wanted(1, cells))
    used = generator.options
    share = f"strength {used.strength:g}" if sizes.kind == "sd" else f"noise {used.noise:g}"
    text = ", a text encoder of two layers, which reads a prompt once a class" if sizes.kind == "sd" else ""
    context.note(f"{sizes.kind}: {used.steps} steps, {share}, guidance {generator.guidance:g}, "  # type: ignore[attr-defined]
                 f"{counter.get_total_flops() / 1e12:.3g} TFLOP an image; random weights{text}")  # fmt: skip
    measure = partial(_measure, context, sizes, generator, cells, counter.get_total_flops())
    context.sweep(f"{sizes.kind} at {sizes.size} px, batch", sizes.batches[: 2 if context.tiny else None], measure)


def _measure(context: Context, sizes: Sizes, generator: LatentDiffusion, cells: int, flops: int, batch: int) -> None:
    generator.options = replace(generator.options, batch=batch)
    asked = wanted(batch, cells)
    with context.memory() as memory:
        seconds = context.seconds(lambda: generator(asked), repeats=2, warm=False)
    rates = [batch / one for one in seconds]
    done = flops * statistics.median(rates)
    beside = {"TFLOP/s": done / 1e12, "share of measured peak": done / statistics.median(context.peak), **memory}
    context.figure(sizes.kind, "images/s", rates, {"size": sizes.size, "batch": batch}, beside)
