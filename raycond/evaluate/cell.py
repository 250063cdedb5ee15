"""One cell of an evaluation: build the training set of a method, train a student, test it. Needs only files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from raycond import files
from raycond.data import stream
from raycond.data.images import load
from raycond.data.refs import ImageRef
from raycond.data.sources import Source
from raycond.device import require_device
from raycond.errors import BadImage, RaycondError
from raycond.evaluate.labelled import LabelledImages
from raycond.evaluate.protocol import Protocol
from raycond.evaluate.table import Row
from raycond.evaluate.train import train_and_test
from raycond.generate.images import decode_image, unpack
from raycond.quantize import store


@dataclass(frozen=True)
class ImageOptions:
    """How every image of a run is decoded."""

    size: int
    resize: str
    channels: int
    max_pixels: int


@dataclass(frozen=True)
class Cell:
    """A training: method × IPC × student × seed, and where its images are.

    images, codebooks: one file per class in label order, of a condensed method (`medoid`, `d4m`, `ddoq`). source: of
    `random`. train_pixels: of `full`, whose ipc is None.
    """

    method: str
    ipc: int | None
    student: str
    seed: int
    protocol: Protocol
    classes: int
    options: ImageOptions
    test_pixels: str
    device: str
    weights: str = "uniform"
    images: tuple[str, ...] = ()
    codebooks: tuple[str, ...] = ()
    source: Source | None = None
    train_pixels: str = ""


def run_cell(cell: Cell) -> dict[str, Any]:
    """The fields of a `table.Row`, and `curve`: [step, top-1] of every check."""
    require_device(cell.device)
    test = pixels(cell.test_pixels, cell.classes)
    train = _training_set(cell)
    outcome = train_and_test(
        train,
        test,
        student=cell.student,
        protocol=cell.protocol,
        seed=cell.seed,
        device=cell.device,
        threads=1 if cell.device == "cpu" else None,
    )
    row = Row(
        cell.method,
        cell.ipc,
        cell.student,
        cell.seed,
        outcome.top1,
        outcome.best,
        outcome.steps,
        outcome.seconds,
        len(train),
        cell.protocol.name,
    )
    return asdict(row) | {"curve": [list(point) for point in outcome.curve]}


def _training_set(cell: Cell) -> LabelledImages:
    if cell.method == "full":
        return pixels(cell.train_pixels, cell.classes)
    if cell.method == "random":
        assert cell.source is not None
        assert cell.ipc is not None
        return random_images(cell.source, cell.ipc, cell.seed, cell.options)
    images: list[np.ndarray] = []
    labels: list[int] = []
    weights: list[torch.Tensor] = []
    for label, (uri, codebook) in enumerate(zip(cell.images, cell.codebooks, strict=True)):
        images += [decode_image(data, cell.options.channels) for data in unpack(uri)]
        labels += [label] * (len(images) - len(labels))
        weights.append(store.read(codebook).codebook.weights(cell.weights))
    return _labelled(np.stack(images), labels, cell.classes, torch.cat(weights))


def random_images(source: Source, ipc: int, seed: int, options: ImageOptions) -> LabelledImages:
    """IPC good images of each class, drawn without replacement by `seed`. Raises RaycondError if a class has fewer."""
    images, labels = [], []
    for label, class_id in enumerate(source.classes.ids):
        refs = source.refs(label)
        order = np.random.default_rng(int(files.digest(["random", seed, class_id])[:15], 16)).permutation(len(refs))
        found: list[np.ndarray] = []
        for i in order:
            if len(found) == ipc:
                break
            image = _load(refs[i], options)
            if image is not None:
                found.append(image)
        if len(found) < ipc:
            raise RaycondError(f"class {class_id}: {len(found)} usable images, random needs {ipc}")
        images += found
        labels += [label] * ipc
    return _labelled(np.stack(images), labels, len(source.classes), None)


def _load(ref: ImageRef, options: ImageOptions) -> np.ndarray | None:
    try:
        return load(
            ref,
            size=options.size,
            resize=options.resize,  # type: ignore[arg-type]
            channels=options.channels,  # type: ignore[arg-type]
            max_pixels=options.max_pixels,
        )[0]
    except BadImage:
        return None  # quarantined when the class was encoded


def _labelled(images: np.ndarray, labels: Sequence[int], classes: int, weights: torch.Tensor | None) -> LabelledImages:
    tensor = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    return LabelledImages(tensor, torch.tensor(labels), classes, weights)


def write_pixels(uri: str, images: np.ndarray, labels: np.ndarray) -> None:
    """A decoded split, images (N, H, W, C) uint8 and labels (N,), as an uncompressed npz."""
    with stream.writer(uri) as file:
        np.savez(file, images=images, labels=labels)


@lru_cache(maxsize=2)
def pixels(uri: str, classes: int) -> LabelledImages:
    """A decoded split, read once per process and shared by all its trainings."""
    with stream.reader(uri) as file, np.load(file, allow_pickle=False) as arrays:
        return _labelled(arrays["images"], arrays["labels"].tolist(), classes, None)
