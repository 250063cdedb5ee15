"""Latents of one class to codebooks at every IPC, by the quantizer of the configuration."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from raycond.core.errors import RaycondError, UserError
from raycond.methods.quantize.clvq import BLOCK, Clvq
from raycond.methods.quantize.codebook import Codebook, codebook
from raycond.methods.quantize.faiss_kmeans import faiss_kmeans
from raycond.methods.quantize.gaussian_mixture import gmm_means
from raycond.methods.quantize.lloyd import lloyd

QUANTIZERS = ("lloyd", "clvq", "faiss", "gmm")


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


def quantize(points: Tensor, counts: Sequence[int], *, kind: str, seed: int, restarts: int) -> list[Codebook]:
    """One codebook per IPC in `counts` from one class's latents (n, *latent) float32 held in memory."""
    return quantize_classes(points[None], counts, kind=kind, seeds=[seed], restarts=restarts)[0]


def quantize_classes(
    points: Tensor, counts: Sequence[int], *, kind: str, seeds: Sequence[int], restarts: int
) -> list[list[Codebook]]:
    """Classes of equal size at once: points (B, n, *latent) → codebooks [class][IPC].

    Raises ValueError if an IPC exceeds n. The result of a class does not depend on the others.
    """
    latent = tuple(points.shape[2:])
    flat = points.flatten(2)
    if kind == "lloyd":
        found = lloyd(flat, counts, seeds=seeds, restarts=restarts)
        return [[codebook([flat[b]], found[k][b], latent) for k in counts] for b in range(len(flat))]
    return [
        [codebook([flat[b]], _centroids(flat[b], k, kind, seed), latent) for k in counts]
        for b, seed in enumerate(seeds)
    ]


def _centroids(points: Tensor, count: int, kind: str, seed: int) -> Tensor:
    if kind == "faiss":
        return faiss_kmeans(points, count, seed=seed)
    if kind == "gmm":
        return gmm_means(points, count, seed=seed)
    if kind == "clvq":
        model = Clvq(count, seed)
        model.add(points)
        return model.centroids()
    raise UserError(f"quantizer: {kind!r} is not one of {', '.join(QUANTIZERS)}")


class StreamQuantizer:
    """CLVQ over a class that is too large to hold: latents go to a file as they come, and are read back once.

    `add` every batch of latents (m, *latent), then `codebooks()`. Memory: one block and the centroids of every IPC.
    """

    def __init__(self, counts: Sequence[int], seed: int, spill: str) -> None:
        self.counts = counts
        self.models = [Clvq(count, seed) for count in counts]
        self.spill = spill
        self.rows = 0
        self.latent: tuple[int, ...] = ()
        self._file = open(spill, "wb")  # noqa: SIM115 - closed in `codebooks`

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
            while data := file.read(4 * width * BLOCK):
                yield torch.frombuffer(bytearray(data), dtype=torch.float32).view(-1, width)

    def codebooks(self) -> list[Codebook]:
        self._file.close()
        return [codebook(self, m.centroids().cpu(), self.latent) for m in self.models]
