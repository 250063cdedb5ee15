"""What the benchmarks share: real latents (encoded once and kept), machine description, side-by-side timing."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.processor import processor
from raycond.core.errors import BadImage
from raycond.models.codecs.registry import open_codec

ROOT = Path(__file__).resolve().parent.parent
KEEP = ROOT / "runs" / "bench"


def folder(variable: str, name: str) -> Path:
    """Real data or weights: where the variable says, else beside the repository."""
    found = Path(os.environ.get(variable) or ROOT.parent / "shared" / name)
    if not found.is_dir():
        raise SystemExit(f"benchmarks need real {name}: set {variable} to a folder that has them")
    return found


def imagenette() -> str:
    return str(folder("RAYCOND_DATA", "data") / "imagenette" / "train")


def taef2() -> str:
    return f"taef2:{folder('RAYCOND_WEIGHTS', 'weights')}"


def latents(label: int, size: int, *, flip: bool = False) -> Tensor:
    """TAEF2 latents (n, 32·(size/8)²) float32 of one Imagenette class, optionally of the mirrored images."""
    from raycond.data.images import load_many
    from raycond.data.sources import open_source

    place = KEEP / f"latents-{size}-{label}{'-flip' if flip else ''}.npy"
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        source = open_source(imagenette(), index_dir=str(KEEP / "index"))
        codec = open_codec(taef2())
        found = load_many(
            source.refs(label), size=size, resize="crop", channels=3, max_pixels=10**8, threads=2, prefetch=64
        )
        images = np.stack([image for _, image, _ in found if not isinstance(image, BadImage)])
        x = torch.from_numpy(np.ascontiguousarray(images[:, :, ::-1] if flip else images)).permute(0, 3, 1, 2)
        np.save(place, torch.cat([codec.encode(batch) for batch in x.split(32)]).flatten(1).numpy())
    return torch.from_numpy(np.load(place))


def side_by_side(runs: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each function; they take turns in changing order, so that a drifting machine hits all alike."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeats + 1):
        names = list(runs)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            started = time.perf_counter()
            runs[name]()
            if turn:  # the first turn warms up
                taken[name].append(time.perf_counter() - started)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def machine() -> str:
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    python, cores = platform.python_version(), os.cpu_count()
    return f"{processor()}, {cores} cores, {gpu}; Python {python}, torch {torch.__version__}"


def print_table(head: list[str], rows: list[list[str]]) -> None:
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    for row in [head, ["-" * w for w in widths], *rows]:
        print("| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |", flush=True)
    print()
