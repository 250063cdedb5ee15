"""Matching methods: seconds a step with random and with representative sampling, and where the time goes.

python -m benchmarks.matching [--network convnet3] [--ipc 10] [--classes 10] [--images 5000] [--device cuda]

Real CIFAR-10 images where the data folder has them, else noise: k-means is all that the pixels could slow down. One
measurement is as many steps as lie between two clusterings. Networks learn as the papers say, so a step of dc and dsa
includes its share of that; with few steps of a network, what a new one costs is in it too.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch

from benchmarks.common import KEEP, folder, machine, print_table, side_by_side
from raycond.core.errors import BadImage
from raycond.data.class_arrays import Pixels
from raycond.data.images import load_many
from raycond.data.sources import open_source
from raycond.methods.match import sampling as sampling_module
from raycond.methods.match.memory import plan
from raycond.methods.match.published import normalization, published
from raycond.methods.match.real import RealImages
from raycond.methods.match.training import Matching

PARTS = ("features", "k-means", "network", "rest")


def real_images(name: str, classes: int, images: int, device: str) -> RealImages:
    parts = list(islice(_cifar10(), classes)) if _has_cifar10() else []
    draw = np.random.default_rng(0)
    while len(parts) < classes:
        parts.append(draw.integers(0, 256, (images, 3, 32, 32), dtype=np.uint8))
    return RealImages(Pixels([part[:images] for part in parts], device), *normalization(name, "cifar10"))


def _has_cifar10() -> bool:
    try:
        return (folder("RAYCOND_DATA", "data") / "cifar10").is_dir()
    except SystemExit:
        return False


def _cifar10() -> Iterator[np.ndarray[Any, Any]]:
    place = folder("RAYCOND_DATA", "data") / "cifar10" / "train-*.parquet"
    source = open_source(str(place), index_dir=str(KEEP / "index"))
    for label in range(len(source.classes.ids)):
        decoded = load_many(source.refs(label), size=32, threads=2, prefetch=64)
        images = np.stack([image for _, image, _ in decoded if not isinstance(image, BadImage)])
        yield np.ascontiguousarray(images.transpose(0, 3, 1, 2))


class Run:
    """A phase that goes on, `steps` steps a call, and the seconds of its parts."""

    def __init__(self, matching: Matching, steps: int) -> None:
        self.matching, self.steps = matching, steps
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self.done = 0
        self._loop = matching.run()
        for part, owner, name in (("features", matching, "_features"), ("network", matching, "_train_network")):
            setattr(owner, name, self._timed(part, getattr(owner, name)))

    def __call__(self) -> None:
        started = time.perf_counter()
        before = sum(self.seconds.values())
        with self._kmeans():
            for _ in islice(self._loop, self.steps):
                self.done += 1
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds["rest"] += time.perf_counter() - started - (sum(self.seconds.values()) - before)

    def share(self, part: str) -> str:
        return f"{100 * self.seconds[part] / sum(self.seconds.values()):.0f} %"

    @contextmanager
    def _kmeans(self) -> Iterator[None]:
        original = sampling_module.representatives
        sampling_module.representatives = self._timed("k-means", original)
        try:
            yield
        finally:
            sampling_module.representatives = original

    def _timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **options: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*args, **options)
            finally:
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
                self.seconds[part] += time.perf_counter() - started

        return timed


def runs(options: argparse.Namespace) -> dict[str, Run]:
    built: dict[str, Run] = {}
    for method in options.methods:
        images = real_images(method, options.classes, options.images, options.device)
        for sampling in ("random", "dream"):
            config = published(method, "cifar10", options.ipc, factor=2 if method == "idc" else 1, sampling=sampling)
            config = replace(config, network=options.network, init="random", precision=options.precision)
            phase = Matching(config, images, seed=0)
            built[f"{method} {sampling}"] = Run(phase, config.sampling.recluster)
    return built


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=["dc", "dsa", "dm", "idc"])
    parser.add_argument("--network", default="convnet3")
    parser.add_argument("--ipc", type=int, default=10)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--images", type=int, default=5000, help="real images per class")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args(arguments if arguments is not None else [])
    print(machine(), end="\n\n")
    print(f"{options.network}, {options.classes} classes of {options.images} images, IPC {options.ipc}")
    built = runs(options)
    seconds = side_by_side({name: partial(run) for name, run in built.items()}, options.repeats)
    rows = []
    for name, run in built.items():
        phase = run.matching
        memory = plan(
            phase.config,
            shape=phase.real.shape,
            counts=phase.real.counts,
            classes=phase.count,
            device=options.device,
        )
        parts = [run.share(part) for part in PARTS]
        rows.append([name, f"{seconds[name] / run.steps:.3f}", *parts, f"{memory.total / 2**20:,.0f}"])
    print_table(["method", "s / step", *PARTS, "planned MiB"], rows)


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
