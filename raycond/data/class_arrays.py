"""Arrays of a source, one .npy file per class, read again by trainings."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from raycond.core import files


@dataclass(frozen=True)
class ArrayFiles:
    """One .npy file for each label."""

    uris: tuple[str, ...]
    """Where they are, in the order of the labels."""

    counts: tuple[int, ...]
    """How many items each holds."""

    shape: tuple[int, int, int]
    """(C, h, w) of an item; a file is (n, C, h, w)."""

    def bytes(self, itemsize: int) -> int:
        """Of all items, with `itemsize` bytes a number."""
        return itemsize * sum(self.counts) * int(np.prod(self.shape))


class ClassArrays:
    """All items with their labels, in the order of the labels.

    A small set is copied to `device`. A larger one is mapped from its local files, so that workers on one machine share
    the system's page cache; remote files are read into memory.
    """

    IN_MEMORY: ClassVar[int]  # bytes kept on the device
    ITEMSIZE: ClassVar[int]  # bytes of a number

    def __init__(self, parts: Sequence[np.ndarray], device: str | torch.device, in_memory: int | None = None) -> None:
        self.device = torch.device(device)
        self.shape: tuple[int, int, int] = tuple(parts[0].shape[1:])
        self.starts = torch.tensor([0, *(len(part) for part in parts)]).cumsum(0)
        self._parts, self._whole = list(parts), None
        if sum(part.nbytes for part in parts) <= (self.IN_MEMORY if in_memory is None else in_memory):
            self._whole = torch.cat([torch.from_numpy(np.array(part)) for part in parts]).to(self.device)
            self._parts = []

    @classmethod
    def open(cls, arrays: ArrayFiles, device: str | torch.device, in_memory: int | None = None) -> Self:
        """Raises OSError."""
        mapped = arrays.bytes(cls.ITEMSIZE) > (cls.IN_MEMORY if in_memory is None else in_memory)
        return cls([_read(uri, mapped) for uri in arrays.uris], device, in_memory)

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def classes(self) -> int:
        return len(self.starts) - 1

    def raw(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Items (n, C, h, w) as they are stored and labels (n,) int64 of some rows, on the device."""
        labels = torch.searchsorted(self.starts, rows.contiguous(), right=True) - 1
        if self._whole is not None:
            return self._whole[rows.to(self.device)], labels.to(self.device)
        within = (rows - self.starts[labels]).tolist()
        picked = [self._parts[label][row] for label, row in zip(labels.tolist(), within, strict=True)]
        return torch.from_numpy(np.stack(picked)).to(self.device), labels.to(self.device)


def npy(array: np.ndarray) -> bytes:
    """The bytes of a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _read(uri: str, mapped: bool) -> np.ndarray:
    if mapped and files.is_local(uri):
        return np.load(files.absolute(uri), mmap_mode="r", allow_pickle=False)
    return np.load(io.BytesIO(files.read_bytes(uri)), allow_pickle=False)


class Pixels(ClassArrays):
    """All images with their labels, uint8."""

    IN_MEMORY, ITEMSIZE = 8 << 30, 1

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Images (n, C, h, w) in [0, 1] and labels (n,) int64 of some rows, on the device."""
        images, labels = self.raw(rows)
        return images.float() / 255, labels

    def statistics(self, rows: Tensor, most: int = 50_000) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and deviation per channel, in [0, 1], over at most `most` evenly spaced rows; integer sums, so neither
        chunks nor device change a digit."""
        chosen = rows[:: -(-len(rows) // most)]
        total = torch.zeros(self.shape[0], dtype=torch.int64)
        square = torch.zeros_like(total)
        for part in chosen.split(1024):
            values = self.raw(part)[0].to(torch.int64)
            total += values.sum((0, 2, 3)).cpu()
            square += values.square().sum((0, 2, 3)).cpu()
        count = len(chosen) * self.shape[1] * self.shape[2]
        mean = total.double() / count
        deviation = (square.double() / count - mean.square()).clamp(min=1).sqrt()
        return tuple(round(m, 6) for m in (mean / 255).tolist()), tuple(round(d, 6) for d in (deviation / 255).tolist())


def to_bytes(latents: Tensor) -> bytes:
    """(n, C, h, w) as .npy in half precision: its rounding is far below the least noise of training."""
    return npy(latents.to(torch.float16).cpu().numpy())


class Latents(ClassArrays):
    """All latents with their labels, kept as float16."""

    IN_MEMORY, ITEMSIZE = 4 << 30, 2

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Latents (n, C, h, w) float32 and labels (n,) int64 of some rows, on the device."""
        latents, labels = self.raw(rows)
        return latents.float(), labels
