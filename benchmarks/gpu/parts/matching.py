"""Matching on the device: the same bits twice, the CPU's images, and steps per second of every method and sampling."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu.context import Context, differing, full_float32, relative_error
from benchmarks.gpu.facts import nominal_peak
from benchmarks.gpu.part import Part
from raycond.data.class_arrays import Pixels
from raycond.methods.match.config import MatchConfig
from raycond.methods.match.published import normalization, published
from raycond.methods.match.real import RealImages
from raycond.methods.match.training import Matching

# of how far the images have moved after two steps, whose gradients are differentiated twice
MOVED = 1e-3
BLOCK = 10  # steps that are timed together: as many as lie between two clusterings


@dataclass(frozen=True)
class Sizes:
    """images: a class. check, timed: networks. ipc: images per class. most: bounds on the batches, or None."""

    classes: int
    images: int
    check: str
    timed: str
    ipc: int
    most: int | None


FULL = Sizes(10, 5000, "convnet3-w32", "convnet3", 10, None)
TINY = Sizes(2, 40, "convnet3-w4", "convnet3-w4", 1, 4)
METHODS = ("dc", "dsa", "dm", "idc")


def run(context: Context) -> None:
    sizes = TINY if context.tiny else FULL
    _against_cpu(context, sizes)
    for method in METHODS:
        _twice(context, sizes, method)
    for method in METHODS:
        for sampling in ("random", "dream"):
            _time(context, sizes, method, sampling)


def settings(sizes: Sizes, method: str, sampling: str, network: str) -> MatchConfig:
    """The published ones on CIFAR-10, cut down where they are tiny."""
    factor = 2 if method == "idc" else 1
    found = published(method, "cifar10", sizes.ipc, factor=factor, sampling=sampling)  # type: ignore[arg-type]
    found = replace(found, network=network, init="noise" if method == "dc" else "random")
    if sizes.most is None:
        return found
    training = replace(found.training, epochs=1, images=sizes.most, batch=sizes.most)
    small = replace(found.sampling, clusters=sizes.most)
    return replace(found, batch=sizes.most, training=training, sampling=small)


def phase(config: MatchConfig, sizes: Sizes, device: torch.device | str) -> Matching:
    """At its start, on noise: matching does not care what the pixels show."""
    draw = np.random.default_rng(0)
    parts = [draw.integers(0, 256, (sizes.images, 3, 32, 32), dtype=np.uint8) for _ in range(sizes.classes)]
    return Matching(config, RealImages(Pixels(parts, device), *normalization(config.method, "cifar10")), seed=0)


# ---- checks


def _against_cpu(context: Context, sizes: Sizes) -> None:
    """Without augmentation, whose draws are the device's own."""
    config = replace(settings(sizes, "dc", "random", sizes.check), precision="float32")
    config = replace(config, training=replace(config.training, epochs=1))
    moved = []
    with full_float32():
        for device in ("cpu", context.device):
            found = phase(config, sizes, device)
            start = found.stored.detach().cpu().clone()
            list(islice(found.run(), 2))
            moved.append(found.stored.detach().cpu() - start)
    context.check("dc, two steps against the CPU", relative_error(moved[1], moved[0]), MOVED, "relative error")


def _twice(context: Context, sizes: Sizes, method: str) -> None:
    config = settings(sizes, method, "dream", sizes.check)
    images = []
    for _ in range(2):
        found = phase(config, sizes, context.device)
        list(islice(found.run(), 3))
        images.append(found.stored)
    context.check(f"{method}, dream, three steps twice", differing(images[1], images[0]), 0, "numbers that differ")
    context.free()


# ---- time


def _time(context: Context, sizes: Sizes, method: str, sampling: str) -> None:
    if not context.has(10, f"{method}, {sampling}"):
        return
    config = settings(sizes, method, sampling, sizes.timed)
    try:
        with context.memory() as memory:
            found = phase(config, sizes, context.device)
            steps = found.run()
            with FlopCounterMode(display=False) as counter:
                _block(steps)
            seconds = context.seconds(lambda: _block(steps), warm=False)
    except torch.OutOfMemoryError:
        context.note(f"{method}, {sampling}: does not fit into the device's memory")
        context.free()
        return
    rates = [BLOCK / one for one in seconds]
    done, nominal = counter.get_total_flops() / BLOCK * statistics.median(rates), nominal_peak(context.device)
    shares = {"TFLOP/s": done / 1e12, "share of measured peak": done / statistics.median(context.peak)}
    if nominal:
        shares["share of nominal peak"] = done / nominal
    how = {"method": method, "sampling": sampling, "network": sizes.timed, "ipc": sizes.ipc}
    context.figure("matching", "steps/s", rates, how, {**shares, **memory})
    context.free()


def _block(steps: Iterator[int]) -> None:
    assert len(list(islice(steps, BLOCK))) == BLOCK, "the phase has ended"


PART = Part("Matching: DC, DSA, DM and IDC with random and DREAM's sampling", 40, 10, run)
