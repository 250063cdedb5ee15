"""A small folder of images with a condensed set of it and its decoded splits, written through the library."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from raycond.data.classes import Classes
from raycond.data.encoded import encode_image
from raycond.data.images import Decoding, load
from raycond.data.labelled import write_pixels
from raycond.data.sources import Source, open_source
from raycond.methods.quantize.codebook import Codebook
from raycond.sets.writer import ClassPart
from tests.data.make import tree
from tests.sets.make import write

OPTIONS = Decoding(8, "crop", 3, 1000)
CLASSES = Classes.of(("ant", "bee", "cat", "dog"))
IPCS = (1, 3)


@dataclass(frozen=True)
class Made:
    """Where things are: `data` the folder with train/ and val/, `set` the condensed set, `train` and `val` the decoded
    splits."""

    root: Path

    @property
    def data(self) -> str:
        return f"{self.root}/data"

    @property
    def set(self) -> str:
        return f"{self.root}/set"

    @property
    def train(self) -> str:
        return f"{self.root}/train.npz"

    @property
    def val(self) -> str:
        return f"{self.root}/val.npz"


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Four classes of 12 images; the set's images are real ones, so that each is its own medoid."""
    made = Made(tmp_path_factory.mktemp("evaluate"))
    for split, count in (("train", 12), ("val", 4)):
        tree(Path(made.data) / split, dict.fromkeys(CLASSES.ids, count))
    source = open_source(made.data, index_dir=f"{made.root}/index")
    _write_split(made.train, source)
    _write_split(made.val, open_source(made.data, split="val", index_dir=f"{made.root}/index"))
    write(made.set, ipcs=IPCS, classes=CLASSES, size=8, load=lambda ipc, label: _part(source, ipc, label))
    return made


def _write_split(uri: str, source: Source) -> None:
    refs = [ref for label in range(len(source.classes)) for ref in source.refs(label)]
    images = np.stack([load(ref, size=8, max_pixels=1000)[0] for ref in refs])
    write_pixels(uri, images, np.array([ref.label for ref in refs]))


def _part(source: Source, ipc: int, label: int) -> ClassPart:
    refs = source.refs(label)[1 : 2 * ipc : 2]
    encoded = [encode_image(load(ref, size=8, max_pixels=1000)[0], "png") for ref in refs]
    counts = torch.tensor([12 - ipc + 1] + [1] * (ipc - 1))
    book = Codebook(torch.zeros(ipc, 2), counts, 0.5, torch.arange(ipc))
    ids = tuple(ref.id for ref in refs)
    return ClassPart(label, encoded, book, ids)
