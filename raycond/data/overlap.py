"""Images that two sources share, such as validation images that are also trained on, by the digest of their content."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from raycond.core.errors import UserError
from raycond.core.records import IO_THREADS
from raycond.data.images import content_digest
from raycond.data.rows import Row, RowSource

SAMPLE = 2000
ALLOWED = 0.01


@dataclass(frozen=True)
class Overlap:
    """How many of the images looked at are in another source too, byte for byte."""

    checked: int
    """Images of the one source that were looked at."""

    shared: int
    """Those among them that the other has."""

    examples: tuple[tuple[str, str], ...] = ()
    """Up to five pairs of ids, of the one source and of the other."""

    @property
    def share(self) -> float:
        return self.shared / self.checked if self.checked else 0.0

    def require_at_most(self, allowed: float, what: str, option: str) -> None:
        """Raise UserError if more than the share `allowed` of the images is shared. option: what to give to go on."""
        if self.share > allowed:
            shown = ", ".join(f"{one} = {other}" for one, other in self.examples)
            raise UserError(
                f"{self.shared} of {self.checked} {what}, as {shown}: accuracies would be those of images that were "
                f"trained on. Give other validation images, or {option} to go on all the same"
            )


def shared_digests(ours: Iterable[tuple[str, str]], theirs: Mapping[str, str]) -> Overlap:
    """The overlap of (id, digest) pairs with a mapping digest → id. Both digests must be of the same kind."""
    pairs = list(ours)
    shared = [(one, theirs[digest]) for one, digest in pairs if digest in theirs]
    return Overlap(len(pairs), len(shared), tuple(shared[:5]))


def overlap(val: RowSource, train: RowSource, *, seed: int = 0, sample: int = SAMPLE) -> Overlap:
    """How many of `val`'s images `train` has too.

    sample: images of `val` that are looked at, drawn by `seed`; of `train` only those are read that have the size of
    one of them, so that a few thousand reads are enough for most data sets. Images that cannot be read are passed over.
    Raises UserError if a class cannot be listed.
    """

    def order(row: Row) -> bytes:
        return hashlib.sha256(f"{seed}\0{row.ref.id}".encode()).digest()

    chosen = _from_each(val, lambda rows: heapq.nsmallest(sample, rows, key=order))
    chosen = heapq.nsmallest(sample, chosen, key=order)
    sizes = {row.size for row in chosen}
    candidates = _from_each(train, lambda rows: [row for row in rows if row.size in sizes])
    theirs = {digest: row_id for row_id, digest in _digests(candidates)}
    return shared_digests(_digests(chosen), theirs)


def _from_each(source: RowSource, pick: Callable[[list[Row]], list[Row]]) -> list[Row]:
    """What `pick` takes of the rows of each class; several classes are listed at once."""
    with ThreadPoolExecutor(IO_THREADS) as pool:
        parts = pool.map(lambda label: pick(source.chosen(label)), range(len(source.classes)))
        return [row for rows in parts for row in rows]


def _digests(rows: list[Row]) -> list[tuple[str, str]]:
    """(id, digest) of those that can be read."""
    with ThreadPoolExecutor(IO_THREADS) as pool:
        digests = pool.map(lambda row: content_digest(row.ref), rows)
        return [(row.ref.id, digest) for row, digest in zip(rows, digests, strict=True) if digest is not None]
