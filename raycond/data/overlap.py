"""Images that two sources share, such as validation images that are also trained on: the same files by the digest of
their bytes, and copies in another format, size or quality by what they look like."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from raycond.core.errors import UserError
from raycond.core.records import IO_THREADS
from raycond.data.images import content_digest, load_many
from raycond.data.refs import ImageRef
from raycond.data.rows import Row, RowSource

SAMPLE = 2000
ALLOWED = 0.01

# Copies are looked for in a few classes, among their own images, as thumbnails: a few seconds for any source.
_CLASSES, _OURS, _THEIRS = 3, 50, 2000
_SIDE = 16  # of a thumbnail
_NEAR = 2.0  # mean difference of two thumbnails of one picture, in levels of 255; of two photographs it is about 50
_PLAIN = 8.0  # deviation below which a picture shows next to nothing: all of them look alike
_NOTABLE = 0.05  # photographs of one scene look alike too


@dataclass(frozen=True)
class Overlap:
    """How many of the images looked at are in another source too, byte for byte."""

    checked: int
    """Images of the one source that were looked at."""

    shared: int
    """Those among them that the other has."""

    examples: tuple[tuple[str, str], ...] = ()
    """Up to five pairs of ids, of the one source and of the other."""

    compared: int = 0
    """Images of the one source whose likes were looked for among those of the same class in the other."""

    alike: int = 0
    """Those among them that look the same as one there."""

    @property
    def copies(self) -> bool:
        """Whether so many look the same that the one source seems to be made of copies of the other."""
        return self.alike > _NOTABLE * self.compared

    @property
    def of_copies(self) -> str:
        """A sentence on the copies, for people."""
        return (
            f"{self.alike} of {self.compared} validation images look the same as a training image of their class, as "
            "copies in another format or size do: their accuracies may be those of images that were trained on"
        )

    @property
    def notable(self) -> bool:
        """Whether there is something to tell people."""
        return bool(self.shared) or self.copies

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


def looks_alike(val: RowSource, train: RowSource, *, seed: int = 0) -> tuple[int, int]:
    """(images of `val` looked at, those among them that look the same as an image of their class in `train`).

    Looks at a few images of a few classes, drawn by `seed`. Finds copies that were saved in another format, size or
    quality, but no crops of them. Images that cannot be read are passed over.
    """

    def order(row: Row) -> bytes:
        return hashlib.sha256(f"{seed}\0{row.ref.id}".encode()).digest()

    labels = sorted(
        range(len(val.classes)), key=lambda k: hashlib.sha256(f"{seed} {val.classes.ids[k]}".encode()).digest()
    )
    compared = alike = 0
    for label in labels[:_CLASSES]:
        ours, theirs = (
            _thumbnails([row.ref for row in heapq.nsmallest(most, source.chosen(label), key=order)])
            for source, most in ((val, _OURS), (train, _THEIRS))
        )
        ours = ours[ours.std(axis=1) > _PLAIN]
        compared += len(ours)
        alike += sum(bool((np.abs(theirs - one).mean(axis=1) < _NEAR).any()) for one in ours)
    return compared, alike


def _thumbnails(refs: list[ImageRef]) -> np.ndarray:
    """(n, pixels) float32 greys of those that can be read."""
    images = load_many(refs, size=_SIDE, resize="squash", channels=1)
    found = [image.reshape(-1) for _, image, _ in images if isinstance(image, np.ndarray)]
    return np.array(found, np.float32).reshape(len(found), _SIDE**2)
