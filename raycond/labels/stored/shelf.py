"""A folder of stored labels, or a folder of such folders: one for each training set of a grid."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from raycond.core import files
from raycond.core.errors import UserError
from raycond.data.classes import Classes
from raycond.labels.base import Kind
from raycond.labels.stored.labels import NAME, NO_BASELINES, StoredLabels


class Shelf(StoredLabels):
    """Stored labels of several sets of images; `of` finds those of one set. Raises UserError where there are none."""

    def __init__(self, folder: str, labels: Sequence[StoredLabels]) -> None:
        self.folder, self.labels = files.absolute(folder), tuple(labels)
        if not labels:
            raise UserError(f"{folder}: no {NAME}, and no folder in it that has one: no stored labels")
        self.ids = torch.cat([found.ids for found in labels])

    @property
    def name(self) -> str:
        return " | ".join(sorted({found.name for found in self.labels}))

    def of(self, ids: Tensor) -> StoredLabels:
        """Those of exactly these images; else the first in the order of their names that have all of them."""
        ids = ids.cpu()
        ordered = ids.sort().values
        for found in self.labels:
            if torch.equal(found.ids, ordered):
                return found
        for found in self.labels:
            if bool(torch.isin(ids, found.ids).all()):
                return found
        raise UserError(
            f"{self.folder}: none of its {len(self.labels)} stored labels are of this set of {len(ids)} images; store "
            f"labels for it (another size, encoding or selection of images is another set){NO_BASELINES}"
        )


def open_labels(folder: str, classes: Classes) -> StoredLabels:
    """The stored labels in `folder`, or those in the folders in it. Raises UserError as `StoredLabels` does."""
    if files.exists(files.join(files.absolute(folder), NAME)) or not files.is_dir(folder):
        return StoredLabels(folder, classes)
    inside = [entry.uri for entry in files.listdir(files.absolute(folder)) if entry.is_dir]
    return Shelf(folder, [StoredLabels(uri, classes) for uri in inside if files.exists(files.join(uri, NAME))])


def identity(where: str, classes: Classes) -> tuple[str, str]:
    """(name, digest) of the labels at `where`. Raises UserError as opening does."""
    return _identity(open_labels(where, classes))


def open_stored(where: str, classes: Classes, _device: torch.device) -> tuple[tuple[str, str], StoredLabels]:
    """The same and the labels, which a training recognises: they answer for views by number, not for images."""
    labels = open_labels(where, classes)
    return _identity(labels), labels


def _identity(labels: StoredLabels) -> tuple[str, str]:
    every = labels.labels if isinstance(labels, Shelf) else (labels,)
    return labels.name, files.digest(sorted(str(found.index["digest"]) for found in every))


STORED = Kind("online", identity, open_stored)
