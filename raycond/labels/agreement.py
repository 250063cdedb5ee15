"""How often a labeler names images as their hard labels do: a check of the class order, before anything learns."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from raycond.core.errors import UserError
from raycond.labels.base import Labeler

ENOUGH = 5  # images of each class, to tell another order of the classes from chance
CLEAR = 0.3  # by how much another order must agree better to be named


@dataclass(frozen=True)
class Agreement:
    """What was counted on a sample of images."""

    images: int
    """Images that were labeled."""

    agreed: int
    """Those whose largest logit is at their hard label."""

    reordered: int
    """Those that would agree under the best renaming of the labeler's classes; `agreed` where too few images tell."""

    classes: int

    what: str = "real images"
    """What kind of images they were, for people."""

    @property
    def share(self) -> float:
        return self.agreed / self.images

    @property
    def is_near_chance(self) -> bool:
        """Whether the labels say little more than a guess would: less than three times chance, or half of all."""
        return self.share < min(3 / self.classes, 0.5)

    @property
    def is_reordered(self) -> bool:
        """Whether the labeler seems to know the classes in another order."""
        return (self.reordered - self.agreed) / self.images >= CLEAR

    @property
    def warning(self) -> str:
        """One sentence for people; empty if there is nothing to warn of."""
        if self.is_reordered:
            return (
                f"its classes seem to be in another order: {100 * self.reordered / self.images:.0f} % would agree if "
                "they were renamed; give the labeler the order of this set's classes"
            )
        if self.is_near_chance:
            return f"that is near chance ({100 / self.classes:.1f} %): students will learn next to nothing from it"
        return ""

    def __str__(self) -> str:
        return f"agrees with the hard labels of {100 * self.share:.1f} % of {self.images} {self.what}"


def measure_agreement(labeler: Labeler, images: Tensor, labels: Tensor, classes: int, batch: int = 64) -> Agreement:
    """Label images (n, c, h, w) uint8 whose hard labels (n,) are known.

    The labeler's device does the work. Raises UserError if a logit is NaN or infinite, or if their number is not that
    of the classes.
    """
    assert labeler.logits is not None  # hard labels are not asked
    named = []
    for part in images.split(batch):
        logits = labeler.logits(part.float() / 255).float().cpu()
        require_finite_logits(labeler.name, logits)
        if logits.shape[1] != classes:
            raise UserError(f"labeler {labeler.name}: gives {logits.shape[1]} logits for {classes} classes")
        named.append(logits.argmax(1))
    return agreement_of(torch.cat(named), labels.cpu(), classes)


def agreement_of(named: Tensor, labels: Tensor, classes: int, what: str = "real images") -> Agreement:
    """The agreement of what a labeler named (n,) with the hard labels (n,), both below `classes`."""
    counts = torch.zeros(classes, classes, dtype=torch.int64)
    counts.index_put_((labels, named), torch.ones(len(labels), dtype=torch.int64), accumulate=True)
    agreed = int(counts.diagonal().sum())
    reordered = agreed
    if len(labels) >= ENOUGH * classes:
        rows, columns = linear_sum_assignment(counts.numpy(), maximize=True)
        reordered = int(counts.numpy()[rows, columns].sum())
    return Agreement(len(labels), agreed, reordered, classes, what)


def require_finite_logits(name: str, logits: Tensor) -> None:
    """Raise UserError for a labeler whose outputs are no numbers: everything that learns from them would be ruined."""
    if not bool(torch.isfinite(logits).all()):
        raise UserError(
            f"labeler {name}: gives NaN or infinite outputs; its weights are damaged, or it needs another size, mean "
            "or std (teacher:NAME@FILE,mean=…,std=…,size=…)"
        )
