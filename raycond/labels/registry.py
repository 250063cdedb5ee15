"""Labelers: what a student is told an image is. Hard labels, one soft label an image, or a label for every view."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from raycond.core import files
from raycond.core.errors import UserError
from raycond.data.classes import Classes
from raycond.labels import describe, open_teacher
from raycond.labels.projector import labeler
from raycond.labels.stored import shelf

Mode = Literal["hard", "fixed", "online"]
Identity = tuple[str, str]  # short name, digest
Logits = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Labeler:
    """`logits` takes images (n, c, h, w) in [0, 1], gives (n, classes) float32 without gradients; None for hard labels.

    mode: hard (the stored label), fixed (the soft label of the un-augmented image, made once) or online (that of every
    augmented, mixed view). name: short, for tables. digest: changes with whatever changes a label.
    """

    mode: Mode
    name: str
    digest: str
    logits: Logits | None = None


@dataclass(frozen=True)
class Kind:
    """A kind of labeler: its mode, what follows its colon ("" for nothing), what it is, and how to make one.

    identity: (where, classes) → name and digest, without a device; open: (where, classes, device) → these and `logits`.
    Hard labels have neither.
    """

    mode: Mode
    form: str
    help: str
    identity: Callable[[str, Classes], Identity] | None = None
    open: Callable[[str, Classes, torch.device], tuple[Identity, Logits]] | None = None


def _teacher(where: str, classes: Classes) -> Identity:
    found = describe(where, classes)
    return found.name, found.digest


def _open_teacher(where: str, classes: Classes, device: torch.device) -> tuple[Identity, Logits]:
    teacher = open_teacher(where, classes=classes, device=device)
    return (teacher.name, teacher.digest), teacher


KINDS: dict[str, Kind] = {
    "hard": Kind("hard", "", "the label that each image is stored with"),
    "once": Kind("fixed", "TEACHER", "one soft label for each image, from the image as it is", _teacher, _open_teacher),
    "teacher": Kind("online", "TEACHER", "a soft label for every augmented, mixed view", _teacher, _open_teacher),
    "projector": Kind(
        "online",
        labeler.FORM,
        "a soft label for every view, from CLIP and a fitted delta (HeLlO)",
        labeler.identity,
        labeler.open_logits,
    ),
    "stored": Kind("online", "DIR", "labels stored for the views of a set's images", shelf.identity, shelf.open_stored),
}


def open_labeler(spec: str, *, classes: Classes, device: str | torch.device) -> Labeler:
    """The labeler of `hard`, `once:TEACHER`, `teacher:TEACHER`, `projector:DIR` or `stored:DIR`; `labels.open_teacher`
    has the form of TEACHER.

    Raises UserError, listing the kinds, for an unknown one, and for a teacher that cannot be opened.
    """
    head, kind, where = _parse(spec)
    if kind.open is None:
        return Labeler(kind.mode, *_identity(head))
    found, logits = kind.open(where, classes, torch.device(device))
    return Labeler(kind.mode, *_identity(head, *found), logits)


def identity(spec: str, classes: Classes) -> Identity:
    """(name, digest) of the labeler that `open_labeler` would open, without a device. Raises UserError as it does."""
    head, kind, where = _parse(spec)
    return _identity(head, *kind.identity(where, classes)) if kind.identity else _identity(head)


def _identity(head: str, name: str = "", digest: str = "") -> Identity:
    return f"{head}:{name}" if name else head, files.digest([head, digest])


def _parse(spec: str) -> tuple[str, Kind, str]:
    head, _, where = spec.partition(":")
    if head not in KINDS:
        known = "\n".join(f"  {_form(name):26} {kind.help}" for name, kind in KINDS.items())
        raise UserError(f"labeler {spec!r}: unknown kind {head!r}; known kinds:\n{known}")
    if bool(KINDS[head].form) != bool(where):
        raise UserError(f"labeler {spec!r}: expected {_form(head)}")
    return head, KINDS[head], where


def _form(head: str) -> str:
    return f"{head}:{KINDS[head].form}" if KINDS[head].form else head
