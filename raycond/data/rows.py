"""What every source shares: the images of one class, chosen and fingerprinted the same way."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from raycond.core import files
from raycond.core.errors import UserError
from raycond.core.retry import retrying
from raycond.data.classes import Classes
from raycond.data.quarantine import BadRecord
from raycond.data.refs import ImageRef


class Row(NamedTuple):
    """One image reference with what tells whether its content changed: size in bytes and a stamp."""

    ref: ImageRef
    size: int
    stamp: str


class Listing(NamedTuple):
    """What listing one class gives."""

    images: int
    """How many images it has."""

    fingerprint: str
    """Of the images; see `RowSource.fingerprint`."""

    bytes: int
    """Of the images as they are stored."""


@dataclass(frozen=True)
class RowSource:
    """Base of the sources: subclasses give `rows(label)`; nothing per image is kept between calls."""

    uri: str
    """What the user named."""

    classes: Classes
    """The classes in the order of their labels."""

    limit: int | None = None
    """Keep that many images of each class: those with the smallest SHA-1 of their id, so that the choice depends on
    neither the order of listing nor the machine."""

    split: str | None = None
    """The word under which the data names the part that was opened, such as train, Testing or t10k; None if it names no
    splits, so that all of it was opened."""

    description: str = ""
    """What was opened, in a sentence for people: the kind of source, the place, and what was left alone."""

    by_content: bool = False
    """Fingerprints are over the bytes of the images, and not over the times of their files: an image that was replaced
    by one of the same size and time is noticed, and one that was only copied or touched is the same. Listing reads
    every image then."""

    def rows(self, label: int) -> Iterable[Row]:
        """Every image of the class, in any order."""
        raise NotImplementedError

    @property
    def bad(self) -> list[BadRecord]:
        """Records known to be unusable before any image is read (no label, no image), sorted by id."""
        return []

    def refs(self, label: int) -> list[ImageRef]:
        """References of the class's images, sorted by id; empty if it has none.

        Raises UserError if the label is not one of the classes or the class cannot be listed.
        """
        return [row.ref for row in self.chosen(label)]

    def fingerprint(self, label: int) -> str:
        """SHA-256 over (id, size, stamp) of the images that `refs` gives: changes when one of them does. The stamp is
        that of the file, or with `by_content` a digest of the image."""
        return self.listing(label).fingerprint

    def listing(self, label: int) -> Listing:
        """Number, fingerprint and bytes of the images that `refs` gives, for the price of listing the class once."""
        rows = self.chosen(label)
        fingerprint = files.digest([[row.ref.id, row.size, self.stamp(row)] for row in rows])
        return Listing(len(rows), fingerprint, sum(row.size for row in rows))

    def stamp(self, row: Row) -> str:
        """What tells whether the image has changed. An image that cannot be read has the stamp of its file."""
        if not self.by_content:
            return row.stamp
        try:
            return files.sha256(retrying(partial(files.read_bytes, row.ref.uri, row.ref.offset, row.ref.length)))
        except OSError:
            return row.stamp

    def chosen(self, label: int) -> list[Row]:
        """The rows of the class that `limit` leaves, sorted by id."""
        if not 0 <= label < len(self.classes):
            raise UserError(f"{self.uri}: label {label} is not one of the {len(self.classes)} classes")
        rows = self.rows(label)
        if self.limit is not None:
            rows = heapq.nsmallest(self.limit, rows, key=_order)
        return sorted(rows)


def _order(row: Row) -> bytes:
    return hashlib.sha1(row.ref.id.encode(), usedforsecurity=False).digest()
