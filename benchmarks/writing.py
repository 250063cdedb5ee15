"""Processor time per class of writing, opening and checking a condensed set, at 250 to 2,000 classes.

python -m benchmarks.writing [CLASSES ...]

Each class has three images of 8 pixels; it should cost the same however many classes there are. Processor time is
measured, so that other programs on the machine change little.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks.common import machine, print_table
from raycond.data.classes import Classes
from raycond.data.encoded import encode_image
from raycond.methods.quantize.codebook import Codebook
from raycond.sets.reader import open_set
from raycond.sets.verify import verify
from raycond.sets.writer import ClassPart, SetWriter

CLASSES = (250, 500, 1000, 2000)
IPC, SIDE, LATENT = 3, 8, (4, 2, 2)
ABOUT = {
    "name": "benchmark",
    "method": "DDOQ",
    "generator": "none",
    "size": SIDE,
    "channels": 3,
    "codec": {"name": "pixels", "sha256": "pixels", "channels": 3},
    "seed": 0,
    "config": {},
    "source": {"uri": "generated", "sha256": "generated", "quarantined": 0},
    "raycond": "",
}


def part(label: int) -> ClassPart:
    """Noise, other for each class."""
    draw = np.random.default_rng(label)
    images = [encode_image(draw.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8), "png") for _ in range(IPC)]
    book = Codebook(torch.zeros(IPC, *LATENT), torch.ones(IPC, dtype=torch.int64), 1.0, torch.arange(IPC))
    return ClassPart(label, images, book, tuple(f"{label}/{k}" for k in range(IPC)))


def seconds(action: Callable[[], object]) -> float:
    started = time.process_time()
    action()
    return time.process_time() - started


def measure(count: int) -> list[float]:
    """Processor seconds of writing, opening and checking a set of `count` classes; making the images is left out."""
    parts = [part(label) for label in range(count)]
    classes = Classes.of(f"class{label:06d}" for label in range(count))
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "set")
        writer = SetWriter(path, classes, [IPC], "density", "png", lambda _, label: parts[label])
        times = [seconds(lambda: writer.write(ABOUT)), seconds(lambda: open_set(path))]
        problems: list[str] = []
        times.append(seconds(lambda: problems.extend(verify(path))))
        assert not problems, problems[:3]
    return times


def main(counts: tuple[int, ...] = CLASSES) -> None:
    print(machine(), "\n", flush=True)
    measure(10)  # what is imported and set up once
    rows = []
    for count in counts:
        write, read, check = measure(count)
        per_class = [f"{1000 * value / count:.2f}" for value in (write, read, check)]
        rows.append([f"{count:,}", f"{write:.2f}", *per_class])
    print_table(["classes", "write, s", "write, ms a class", "open, ms a class", "verify, ms a class"], rows)


if __name__ == "__main__":
    main(tuple(int(text) for text in sys.argv[1:]) or CLASSES)
