"""Arrays of a source, one .npy file per class, read again by trainings."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from raycond import files


@dataclass(frozen=True)
class ArrayFiles:
    """Where the items of each label lie as .npy (n, C, h, w), how many each file holds, and (C, h, w)."""

    uris: tuple[str, ...]
    counts: tuple[int, ...]
    shape: tuple[int, int, int]

    def bytes(self, itemsize: int) -> int:
        return itemsize * sum(self.counts) * int(np.prod(self.shape))


class ClassArrays:
    """All items with their labels, in the order of the labels. Small sets live on `device` as a whole.

    Larger ones are mapped from local files, so that workers of one machine share its page cache; remote files are
    read into memory.
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
    def open(cls, found: ArrayFiles, device: str | torch.device, in_memory: int | None = None) -> Self:
        """Raises OSError."""
        mapped = found.bytes(cls.ITEMSIZE) > (cls.IN_MEMORY if in_memory is None else in_memory)
        return cls([_read(uri, mapped) for uri in found.uris], device, in_memory)

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
