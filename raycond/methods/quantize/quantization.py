"""Latents of classes to codebooks at every IPC, held in memory or streamed through a file."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Self

import torch
from torch import Tensor

from raycond.core.errors import RaycondError, UserError
from raycond.methods.quantize.base import Stream
from raycond.methods.quantize.codebook import Codebook, codebook
from raycond.methods.quantize.registry import open_quantizer

_BLOCK = 256  # latents that are read back at once


def require_enough(class_id: str, images: int, counts: Sequence[int]) -> None:
    """Raise UserError, naming the class, if it has fewer good images than the largest IPC."""
    if max(counts) > images:
        raise UserError(
            f"class {class_id}: IPC {max(counts)} asks for more centroids than its {images} usable images; "
            "give a smaller --ipc, or more images"
        )


def require_finite(class_id: str, latents: Tensor) -> None:
    """Raise RaycondError, naming the class, if a latent is NaN or infinite (float16 overflows in some VAEs)."""
    if not bool(torch.isfinite(latents).all()):
        raise RaycondError(f"class {class_id}: the codec gave NaN or infinite latents; try --dtype float32")


def quantize(
    points: Tensor, counts: Sequence[int], *, kind: str, seed: int, restarts: int, expand: int = 1
) -> list[Codebook]:
    """One codebook per IPC in `counts` from one class's latents (n, *latent) float32 held in memory."""
    return quantize_classes(points[None], counts, kind=kind, seeds=[seed], restarts=restarts, expand=expand)[0]


def quantize_classes(
    points: Tensor, counts: Sequence[int], *, kind: str, seeds: Sequence[int], restarts: int, expand: int = 1
) -> list[list[Codebook]]:
    """Classes of equal size at once: points (B, n, *latent) → codebooks [class][IPC].

    kind: a name in `QUANTIZERS`. Raises UserError for an unknown one and ValueError if an IPC exceeds n. The result of
    a class does not depend on the others.
    """
    latent, flat = tuple(points.shape[2:]), points.flatten(2)
    centroids = open_quantizer(kind, restarts=restarts, expand=expand).fit(flat, counts, seeds)
    return [[codebook([flat[b]], centroids[k][b], latent) for k in counts] for b in range(len(flat))]


class StreamQuantizer:
    """A class that is too large to hold: latents go to a file as they come, and are read back once.

    A context: inside it, `add` every batch of latents (m, *latent), then `codebooks()`. Memory: one block and the
    centroids of every IPC.
    """

    def __init__(self, start: Callable[[int, int], Stream], counts: Sequence[int], seed: int, spill: str) -> None:
        """start: a quantizer's `stream`. spill: the file, which is overwritten."""
        self.counts = counts
        self.models = [start(count, seed) for count in counts]
        self.spill = spill
        self.rows = 0
        self.latent: tuple[int, ...] = ()
        self._file = open(spill, "wb")  # noqa: SIM115 - closed on leaving the context

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, latents: Tensor) -> None:
        self.latent = tuple(latents.shape[1:])
        flat = latents.flatten(1).float()
        for model in self.models:
            model.add(flat)
        self._file.write(flat.cpu().numpy().tobytes())
        self.rows += len(flat)

    def __iter__(self) -> Iterator[Tensor]:
        """The latents again, in blocks (m, d), from the file."""
        width = math.prod(self.latent)
        with open(self.spill, "rb") as file:
            while data := file.read(4 * width * _BLOCK):
                yield torch.frombuffer(bytearray(data), dtype=torch.float32).view(-1, width)

    def codebooks(self) -> list[Codebook]:
        self._file.flush()
        return [codebook(self, model.centroids().cpu(), self.latent) for model in self.models]
