"""The labelers by name: `KIND[:WHERE]` → a labeler, opened."""

from __future__ import annotations

import torch

from raycond.core import files
from raycond.core.registry import Entry, Registry
from raycond.data.classes import Classes
from raycond.labels.base import Identity, Kind, Labeler

__all__ = ["LABELERS", "Labeler", "identity", "open_labeler"]

_HERE = "raycond.labels"

# each target is a `base.Kind`
LABELERS = Registry(
    "labeler",
    [
        Entry("hard", "the label that each image is stored with", f"{_HERE}.base:HARD"),
        Entry("once", "one soft label for each image, from the image as it is", f"{_HERE}.teacher:ONCE", "TEACHER"),
        Entry("teacher", "a soft label for every augmented, mixed view", f"{_HERE}.teacher:EVERY_VIEW", "TEACHER"),
        Entry(
            "projector",
            "a soft label for every view, from CLIP and a fitted delta (HeLlO)",
            f"{_HERE}.projector.labeler:PROJECTOR",
            "DIR[,clip=CLIP]",
        ),
        Entry("stored", "labels stored for the views of a set's images", f"{_HERE}.stored.shelf:STORED", "DIR"),
    ],
)


def open_labeler(spec: str, *, classes: Classes, device: str | torch.device) -> Labeler:
    """The labeler of `hard`, `once:TEACHER`, `teacher:TEACHER`, `projector:DIR` or `stored:DIR`.

    `teacher.open_teacher` has the form of TEACHER. Raises UserError, listing the kinds, for an unknown one, and for a
    teacher that cannot be opened.
    """
    name, kind, where = _parse(spec)
    if kind.open is None:
        return Labeler(kind.mode, *_identity(name))
    opened, logits = kind.open(where, classes, torch.device(device))
    return Labeler(kind.mode, *_identity(name, *opened), logits)


def identity(spec: str, classes: Classes) -> Identity:
    """(name, digest) of the labeler that `open_labeler` would open, without a device. Raises UserError as it does."""
    name, kind, where = _parse(spec)
    return _identity(name, *kind.identity(where, classes)) if kind.identity else _identity(name)


def _identity(kind: str, name: str = "", digest: str = "") -> Identity:
    return f"{kind}:{name}" if name else kind, files.digest([kind, digest])


def _parse(spec: str) -> tuple[str, Kind, str]:
    entry, where = LABELERS.parse(spec)
    kind: Kind = entry.load()
    return entry.name, kind, where
