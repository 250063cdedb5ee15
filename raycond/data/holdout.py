"""Images held out for validation: a part of every class of a source, or rows of what was decoded."""

from __future__ import annotations

import dataclasses
import hashlib
import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from raycond.core.errors import UserError
from raycond.core.seeds import seed_of
from raycond.data.quarantine import BadRecord
from raycond.data.rows import Row, RowSource

Part = Literal["train", "val"]


def hold_out(source: RowSource, share: float, seed: int) -> tuple[RowSource, RowSource]:
    """The source in two parts that share no image: (to condense and train on, to validate on).

    share: of each class, between 0 and 1, the part for validation, rounded, and at least one image where a class has
    two. Which images they are depends on `seed` and their ids alone, not on the machine, the order of listing or
    `limit`, which each part obeys by itself. Records of bad images belong to the first part.

    Raises UserError if the share is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise UserError(f"share of the images held out for validation: must be between 0 and 1, not {share:g}")
    train = HeldOut(
        source.uri,
        source.classes,
        source.limit,
        source.split,
        f"{source.description}; without {share:.4g} of each class, held out for validation",
        inner=dataclasses.replace(source, limit=None),
        share=share,
        seed=seed,
    )
    about = f"{share:.4g} of each class held out of: {source.description}"
    return train, dataclasses.replace(train, part="val", description=about)


@dataclass(frozen=True)
class HeldOut(RowSource):
    """One part of another source; made by `hold_out`."""

    inner: RowSource | None = None
    """The source that is parted, without a limit."""

    share: float = 0.0
    """Of each class, the part for validation."""

    seed: int = 0
    """Decides which images are held out."""

    part: Part = "train"
    """Which of the two parts this is."""

    def rows(self, label: int) -> list[Row]:
        assert self.inner is not None  # hold_out gives it; the default only follows the fields of the base
        rows = list(self.inner.rows(label))
        if len(rows) < 2:
            return rows if self.part == "train" else []
        count = min(max(1, round(self.share * len(rows))), len(rows) - 1)
        held = heapq.nsmallest(count, rows, key=self._order)
        if self.part == "val":
            return held
        ids = {row.ref.id for row in held}
        return [row for row in rows if row.ref.id not in ids]

    def stamp(self, row: Row) -> str:
        assert self.inner is not None
        return self.inner.stamp(row)

    def _order(self, row: Row) -> bytes:
        return hashlib.sha256(f"{self.seed}\0{row.ref.id}".encode()).digest()

    @property
    def bad(self) -> list[BadRecord]:
        assert self.inner is not None
        return self.inner.bad if self.part == "train" else []


def split(counts: Sequence[int], held_out: int, seed: int) -> tuple[Tensor, Tensor]:
    """Rows to learn from and rows held out: of each class `held_out`, at most a fifth of it, drawn by `seed`.

    Raises UserError if nothing would be held out.
    """
    learn, held, start = [], [], 0
    for label, count in enumerate(counts):
        random = torch.Generator().manual_seed(seed_of(seed, "held out", label))
        order = start + torch.randperm(count, generator=random)
        most = min(held_out, count // 5)
        held.append(order[:most].sort().values)
        learn.append(order[most:].sort().values)
        start += count
    if not sum(len(part) for part in held):
        raise UserError(
            f"--holdout {held_out}: no class has the five images it takes to hold one out, or the number is 0"
        )
    return torch.cat(learn), torch.cat(held)
