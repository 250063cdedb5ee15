"""The decoded images of a source, one file of each class, as trainings of teachers and projectors take them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from raycond import augment, files
from raycond.errors import UserError
from raycond.resumable import seed_of

IN_MEMORY = 8 << 30  # bytes of images kept in memory; more stay in files that are mapped


@dataclass(frozen=True)
class PixelFiles:
    """Where the images of each label lie as .npy (n, C, h, w) uint8, how many each file holds, and (C, h, w)."""

    uris: tuple[str, ...]
    counts: tuple[int, ...]
    shape: tuple[int, int, int]

    @property
    def bytes(self) -> int:
        return sum(self.counts) * int(np.prod(self.shape))


class Pixels:
    """All images with their labels, in the order of the labels: whole on `device` or, if they are many, mapped from
    local files, so that workers of one machine share its page cache."""

    def __init__(self, parts: Sequence[np.ndarray], device: str | torch.device, in_memory: int = IN_MEMORY) -> None:
        self.device = torch.device(device)
        self.shape: tuple[int, int, int] = tuple(parts[0].shape[1:])
        self.classes = len(parts)
        self.starts = torch.tensor([0, *(len(part) for part in parts)]).cumsum(0)
        self._parts, self._whole = list(parts), None
        if sum(part.nbytes for part in parts) <= in_memory:
            self._whole = torch.cat([torch.from_numpy(np.array(part)) for part in parts]).to(self.device)
            self._parts = []

    @classmethod
    def open(cls, found: PixelFiles, device: str | torch.device, in_memory: int = IN_MEMORY) -> Pixels:
        """Raises OSError."""
        mapped = found.bytes > in_memory
        return cls([_read(uri, mapped) for uri in found.uris], device, in_memory)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Images (n, C, h, w) in [0, 1] and labels (n,) int64 of some rows, on the device."""
        images, labels = self.raw(rows)
        return images.float() / 255, labels

    def raw(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """As `take`, but uint8."""
        labels = torch.searchsorted(self.starts, rows.contiguous(), right=True) - 1
        if self._whole is not None:
            return self._whole[rows.to(self.device)], labels.to(self.device)
        within = (rows - self.starts[labels]).tolist()
        picked = [self._parts[label][row] for label, row in zip(labels.tolist(), within, strict=True)]
        return torch.from_numpy(np.stack(picked)).to(self.device), labels.to(self.device)

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


def _read(uri: str, mapped: bool) -> np.ndarray:
    if mapped and files.is_local(uri):
        return np.load(files.absolute(uri), mmap_mode="r", allow_pickle=False)
    return np.load(io.BytesIO(files.read_bytes(uri)), allow_pickle=False)


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


@dataclass(frozen=True)
class Augmentation:
    """Each image on its own: crops whose area is a share in `scale`, moves of up to `shift` of a side, mirroring."""

    scale: tuple[float, float] | None = None
    shift: float = 0.0
    flip: bool = False

    def __call__(self, images: Tensor, random: torch.Generator) -> Tensor:
        """(n, C, h, w) in [0, 1]; the generator lives on their device."""
        if self.scale is not None:
            images = augment.random_crop_scale(images, self.scale, random)
        if self.shift:
            images = augment.shift(images, self.shift, random)
        if self.flip:
            images = augment.flip(images, random)
        return images
