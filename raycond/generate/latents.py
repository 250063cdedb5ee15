"""Latents of a whole source, cached as one .npy file per class, and read again for training."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from raycond import files

IN_MEMORY = 4 << 30  # bytes of latents kept on the training's device; more stay in files that are mapped


def to_bytes(latents: Tensor) -> bytes:
    """(n, C, h, w) as .npy in half precision: its rounding is far below the least noise of training."""
    buffer = io.BytesIO()
    np.save(buffer, latents.to(torch.float16).cpu().numpy(), allow_pickle=False)
    return buffer.getvalue()


@dataclass(frozen=True)
class LatentFiles:
    """Where the latents of each label lie, how many each file holds, and their shape (C, h, w)."""

    uris: tuple[str, ...]
    counts: tuple[int, ...]
    shape: tuple[int, int, int]

    @property
    def bytes(self) -> int:
        return 2 * sum(self.counts) * int(np.prod(self.shape))


class Latents:
    """All latents with their labels, in the order of the labels. Small sets live on `device` as a whole.

    Larger ones are mapped from local files, so that workers of one machine share its page cache; remote files are
    read into memory.
    """

    def __init__(self, parts: Sequence[np.ndarray], device: str | torch.device, in_memory: int = IN_MEMORY) -> None:
        self.device = torch.device(device)
        self.shape: tuple[int, int, int] = tuple(parts[0].shape[1:])
        counts = [len(part) for part in parts]
        self._starts = torch.tensor([0, *counts]).cumsum(0)
        self._parts, self._whole = list(parts), None
        if sum(part.nbytes for part in parts) <= in_memory:
            self._whole = torch.cat([torch.from_numpy(np.array(part)) for part in parts]).to(self.device)
            self._parts = []

    @classmethod
    def open(cls, found: LatentFiles, device: str | torch.device, in_memory: int = IN_MEMORY) -> Latents:
        mapped = found.bytes > in_memory
        return cls([_read(uri, mapped) for uri in found.uris], device, in_memory)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Latents (n, C, h, w) float32 and labels (n,) int64 of some rows, on the device."""
        labels = torch.searchsorted(self._starts, rows, right=True) - 1
        if self._whole is not None:
            latents = self._whole[rows.to(self.device)]
        else:
            within = (rows - self._starts[labels]).tolist()
            picked = [self._parts[label][row] for label, row in zip(labels.tolist(), within, strict=True)]
            latents = torch.from_numpy(np.stack(picked)).to(self.device)
        return latents.float(), labels.to(self.device)


def _read(uri: str, mapped: bool) -> np.ndarray:
    if mapped and files.is_local(uri):
        return np.load(files.absolute(uri), mmap_mode="r", allow_pickle=False)
    return np.load(io.BytesIO(files.read_bytes(uri)), allow_pickle=False)
