"""How much memory a training takes, measured on two steps of it."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch

from raycond.data.labelled import LabelledImages
from raycond.evaluate.cell import Cell, peak_memory
from raycond.evaluate.train import TEST_VALUES, train_and_test
from raycond.labels.registry import Labeler, open_labeler
from raycond.labels.stored.labels import StoredLabels

CUDA_CONTEXT = 600 * 2**20  # of a process on a GPU, outside torch's allocator


class Need(NamedTuple):
    """bytes: of a process that trains, its data left out; on a GPU those of the GPU, which has device_bytes."""

    bytes: int
    device_bytes: int

    @staticmethod
    def key(cell: Cell) -> str:
        """Trainings of one key take the same memory."""
        p = cell.protocol
        return f"{cell.student} {p.batch} {p.precision} {p.compile} {p.max_size} {cell.options.size} {cell.labeler}"


def measure(cell: Cell) -> Need:
    """Two steps on random pixels at the cell's batch and size, and one batch of a test, which may be the larger.

    Call it in a process of its own.
    """
    protocol = cell.protocol.override(steps=2, schedule="constant", milestones=(), restart=False, tasks=1, checks=1)
    side, channels, classes = cell.options.size, cell.options.channels, len(cell.classes)
    count = max(classes, min(protocol.batch, 1024))
    images = torch.randint(0, 256, (count, channels, side, side), dtype=torch.uint8)
    data = LabelledImages(images, torch.arange(count) % classes, classes)
    rows = torch.arange(_test_batch(cell)) % count
    tests = LabelledImages(images[rows], data.labels[rows], classes)
    cuda = cell.device.startswith("cuda")
    train_and_test(
        data,
        tests,
        student=cell.student,
        protocol=protocol,
        seed=0,
        device=cell.device,
        threads=None if cuda else 1,
        labeler=_labeler(cell),
    )
    if cuda:
        return Need(torch.cuda.max_memory_reserved() + CUDA_CONTEXT, torch.cuda.get_device_properties(0).total_memory)
    return Need(peak_memory(), 0)


def _labeler(cell: Cell) -> Labeler:
    """The cell's, where it can label random pixels: those whose labels are stored it does not know."""
    found = open_labeler(cell.labeler, classes=cell.classes, device=cell.device)
    if isinstance(found.logits, StoredLabels):
        return replace(found, logits=lambda images: images.new_zeros(len(images), len(cell.classes)))
    return found


def _test_batch(cell: Cell) -> int:
    """Images that `train_and_test` tests at once."""
    side = min(cell.options.size, cell.protocol.max_size or cell.options.size)
    values = TEST_VALUES.get(cell.device.partition(":")[0], 2**26)
    return min(512, max(1, values // (128 * side**2)))
