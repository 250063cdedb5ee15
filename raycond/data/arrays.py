"""Sources that are one array: scikit-learn's digits, and idx files (MNIST, Fashion-MNIST and their kin)."""

from __future__ import annotations

import gzip
import io
import math
import re
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from raycond.core import files
from raycond.core.errors import NoSplit, UserError, parsing
from raycond.core.text import visible
from raycond.data.class_list import ClassList, classes_of
from raycond.data.classes import Classes
from raycond.data.refs import ImageRef
from raycond.data.rows import Listing, Row, RowSource

DIGITS = "digits:"

_IDX = re.compile(
    r"(?P<set>(?:.*[-_.])?(?:train|t10k|test|val|valid|validation|dev))-(?P<what>images|labels)[-.]idx\d-ubyte(\.gz)?$"
)
_SETS = {"train": ("train",), "val": ("val", "valid", "validation", "dev", "t10k", "test")}

_FASHION = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip

_MOST_BYTES = 4 << 30  # of one array, which is held in memory

# Decode threads ask for the same array at once; without the lock each would read and unpack the whole file.
_LOCK = threading.Lock()


def is_array(uri: str) -> bool:
    """Whether references to this uri mean rows of an array (offset is the row)."""
    return uri == DIGITS or _IDX.match(uri.rsplit("/", 1)[-1]) is not None


def row(uri: str, index: int) -> np.ndarray:
    """One image as uint8 of shape (height, width). The array stays cached in this process.

    Raises OSError if the file cannot be read, UserError if it is not a sound idx file.
    """
    with _LOCK:
        images = _digits()[0] if uri == DIGITS else _idx(uri, _stamp(uri), 3)
    image: np.ndarray = images[index]
    return image


@dataclass(frozen=True)
class ArraySource(RowSource):
    """Rows of one array. `split` chooses among the digits; of idx files it names the pair."""

    images: str = DIGITS
    """The idx file of the images, or `digits:`."""

    labels: str = DIGITS
    """The idx file of the labels, or `digits:`."""

    values: tuple[int, ...] = ()
    """The number in the file that stands for each class."""

    def rows(self, label: int) -> Iterable[Row]:
        labels, stamp = self._labels()
        chosen = np.flatnonzero(labels == self.values[label])
        if self.images == DIGITS:
            fifth = np.arange(len(chosen)) % 5 == 4
            chosen = chosen[fifth if self.split == "val" else ~fifth]
            prefix = "digits"
        else:
            match = _IDX.match(self.images.rsplit("/", 1)[-1])
            assert match is not None  # open_arrays was given the file for this pattern
            prefix = visible(match["set"])
        for k in chosen.tolist():
            yield Row(ImageRef(f"{prefix}/{k:05d}", label, self.images, k, 0), 0, stamp)

    def stamp(self, row: Row) -> str:
        if not self.by_content or self.images == DIGITS:
            return row.stamp
        with _LOCK:
            pixels = _idx(self.images, _stamp(self.images), 3)
        return files.sha256(pixels[row.ref.offset].tobytes())

    def listing(self, label: int) -> Listing:
        listed, first = super().listing(label), next(iter(self.rows(label)), None)
        each = 0 if first is None else row(first.ref.uri, first.ref.offset).nbytes
        return listed._replace(bytes=listed.images * each)

    def _labels(self) -> tuple[np.ndarray, str]:
        if self.images == DIGITS:
            import sklearn

            with _LOCK:
                return _digits()[1], f"scikit-learn {sklearn.__version__}"
        pair = [files.entry(self.images), files.entry(self.labels)]
        with _LOCK:
            labels = _idx(self.labels, _stamp(self.labels), 1)
        return labels, files.digest([[entry.size, entry.stamp] for entry in pair])


def open_digits(split: str, wanted: ClassList | None = None) -> ArraySource:
    """8x8 grey digits of scikit-learn, 0..16 brought to 0..255; every fifth image of a class is for validation."""
    classes, values = _classes(range(10), None, wanted, DIGITS)
    return ArraySource(DIGITS, classes, split=split, values=values)


def _classes(
    numbers: Iterable[int], names: Sequence[str] | None, wanted: ClassList | None, where: str
) -> tuple[Classes, tuple[int, ...]]:
    """Classes of the numbers in a file, and the number of each class."""
    numbers = list(numbers)
    if wanted is None:
        return Classes.of([str(k) for k in numbers], names), tuple(numbers)
    classes, index = classes_of([f"i{k}" for k in numbers], None, wanted, where)
    by_position = {position: int(label[1:]) for label, position in index.items()}
    return classes, tuple(by_position.get(k, -1) for k in range(len(classes)))


def find_idx(entries: Iterable[files.Entry], split: str) -> tuple[str, str, str] | None:
    """The images and labels files of a split in a folder listing and its word there; None where there are no idx files.

    Raises UserError if it holds idx files but not this split's pair.
    """
    pairs = {
        (match["set"], match["what"]): entry.uri
        for entry in entries
        if not entry.is_dir and (match := _IDX.match(entry.name))
    }
    if not pairs:
        return None
    for word in _SETS[split]:
        for (name, what), uri in sorted(pairs.items()):
            if what == "images" and re.split(r"[-_.]", name)[-1] == word and (name, "labels") in pairs:
                return uri, pairs[name, "labels"], word
    have = ", ".join(sorted(f"{name}-{what}" for name, what in pairs))
    raise NoSplit(
        f"{split} split: expected {' or '.join(_SETS[split])}-images-idx3-ubyte[.gz] with its labels file "
        f"beside it, found only {have}"
    )


def open_arrays(uri: str, images: str, labels: str, wanted: ClassList | None = None) -> ArraySource:
    """A pair of idx files. wanted: the user's class list, in whose order the classes are.

    Raises UserError if a file is damaged, their counts differ, or the list lacks a class.
    """
    with _LOCK:
        pixels = _idx(images, _stamp(images), 3)
        values = _idx(labels, _stamp(labels), 1)
    if len(pixels) != len(values):
        raise UserError(f"{images} has {len(pixels)} images but {labels} has {len(values)} labels")
    numbers = np.unique(values).tolist()
    # The folder may be called fashion-mnist, FashionMNIST/raw or fashion_mnist; a "fashion" higher up says nothing.
    near = "/".join(images.lower().split("/")[-3:-1])
    fashion = re.search(r"fashion[-_]?mnist", near) is not None and numbers == list(range(10))
    classes, numbers = _classes(numbers, _FASHION if fashion else None, wanted, uri)
    return ArraySource(uri, classes, images=images, labels=labels, values=numbers)


def _stamp(uri: str) -> str:
    return files.entry(uri).stamp if files.is_local(uri) else ""  # remote: one request for every image is too many


@lru_cache(maxsize=1)
def _digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    data = load_digits()
    return np.rint(data.images * (255 / 16)).astype(np.uint8), data.target


@lru_cache(maxsize=8)
def _idx(uri: str, stamp: str, dimensions: int) -> np.ndarray:  # noqa: ARG001 - a changed file is read again
    with parsing(uri, "an idx file", "it is damaged; copy it again"):
        data = files.read_bytes(uri, 0, -1, _MOST_BYTES)
    packed = data[:2] == b"\x1f\x8b"
    stream = gzip.GzipFile(fileobj=io.BytesIO(data)) if packed else io.BytesIO(data)
    with parsing(uri, "an idx file", "it is damaged; copy it again"):
        head = stream.read(4 + 4 * dimensions)
        if len(head) < 4 + 4 * dimensions or head[:4] != bytes([0, 0, 8, dimensions]):
            raise UserError(
                f"{uri}: not an idx file of bytes with {dimensions} dimensions: "
                f"it starts with {head[:4].hex() or 'nothing'}, expected 000008{dimensions:02d}"
            )
        shape = np.frombuffer(head, ">u4", offset=4).tolist()
        expected = math.prod(shape)
        # a byte of gzip gives at most 1032
        if expected > _MOST_BYTES or expected > len(data) * (1032 if packed else 1):
            raise UserError(f"{uri}: damaged: its header announces {expected} bytes {tuple(shape)}, the file has fewer")
        body = stream.read(expected + 1)
    if len(body) != expected:
        have = f"more than {expected}" if len(body) > expected else str(len(body))
        raise UserError(f"{uri}: its header announces {expected} bytes {tuple(shape)}, the file has {have}")
    with parsing(uri, "an idx file", "it is damaged; copy it again"):  # no bytes have no shape of thousands of millions
        array = np.frombuffer(body, np.uint8).reshape(shape)
    if dimensions == 3 and 0 in shape[1:]:
        raise UserError(f"{uri}: images of {shape[1]} x {shape[2]} pixels")
    return array
