"""What every labeler is: hard labels, one soft label an image, or a label for every view."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from raycond.data.classes import Classes

Mode = Literal["hard", "fixed", "online"]
Identity = tuple[str, str]
"""A short name for tables, and a digest that changes with whatever changes a label."""
Logits = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Labeler:
    """A labeler, opened."""

    mode: Mode
    """hard (the stored label), fixed (the soft label of the un-augmented image, made once) or online (that of every
    augmented, mixed view)."""

    name: str
    """Short, for tables."""

    digest: str
    """Changes with whatever changes a label."""

    logits: Logits | None = None
    """Images (n, c, h, w) in [0, 1] → (n, classes) float32 without gradients; None for hard labels."""


@dataclass(frozen=True)
class Kind:
    """A kind of labeler, as it is entered in `registry.LABELERS`. Hard labels have neither function."""

    mode: Mode
    """As in `Labeler`."""

    identity: Callable[[str, Classes], Identity] | None = None
    """(what follows the colon, classes) → name and digest, without a device. Raises UserError as `open` does."""

    open: Callable[[str, Classes, torch.device], tuple[Identity, Logits]] | None = None
    """(what follows the colon, classes, device) → name and digest, and what gives logits."""


HARD = Kind("hard")
