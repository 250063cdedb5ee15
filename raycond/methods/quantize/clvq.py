"""CLVQ: competitive learning vector quantization, for classes whose latents do not fit in memory.

One pass of MacQueen's rule, v_k ← v_k + 1, z_k ← (1 − 1/v_k) z_k + x / v_k, for the nearest centroid k of each latent
x (DDOQ, Algorithm 1; MacQueen 1967). Memory is the centroids plus one block of latents, whatever the class size.

The rule is sequential, but only its winners are: inside a block every inner product that it needs is a combination
of two matrix products (block × centroids, block × block), so a step costs a vector of block length instead of K·d.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from raycond.methods.quantize.base import SingleQuantizer
from raycond.methods.quantize.kmeans_plus_plus import _plus_plus, _Space

BLOCK = 256  # latents per block: large enough for matrix products, small enough for memory


class Clvq:
    """K centroids learnt from a stream: `add` latents in any chunks, then read `centroids()`.

    The chunking does not change the result. seed picks the k-means++ starting points among the first
    `warm_up(K)` latents; each starting point counts as one image.
    """

    def __init__(self, count: int, seed: int) -> None:
        self.count = count
        self.seed = seed
        self._centroids: Tensor | None = None
        self._mass = np.ones(count)
        self._waiting: list[Tensor] = []
        self._waiting_rows = 0

    @staticmethod
    def warm_up(count: int) -> int:
        return max(BLOCK, 3 * count)

    def add(self, latents: Tensor) -> None:
        """latents: (m, d) float32."""
        self._waiting.append(latents)
        self._waiting_rows += len(latents)
        need = BLOCK if self._centroids is not None else self.warm_up(self.count)
        if self._waiting_rows >= need:
            rows = torch.cat(self._waiting)
            keep = 0
            if self._centroids is None:
                rows, keep = self._start(rows, need)
            whole = keep + (len(rows) - keep) // BLOCK * BLOCK
            for block in (rows[:keep], *rows[keep:whole].split(BLOCK)):
                self._learn(block)
            self._waiting, self._waiting_rows = [rows[whole:]], len(rows) - whole

    def centroids(self) -> Tensor:
        """(K, d) float32. Raises ValueError if fewer than K latents were added."""
        if self._waiting_rows:
            rows = torch.cat(self._waiting)
            if self._centroids is None:
                if len(rows) < self.count:
                    raise ValueError(f"{self.count} centroids asked of {len(rows)} points")
                rows, _ = self._start(rows, len(rows))
            for block in rows.split(BLOCK):
                self._learn(block)
            self._waiting, self._waiting_rows = [], 0
        if self._centroids is None:
            raise ValueError(f"{self.count} centroids asked of 0 points")
        return self._centroids

    def _start(self, rows: Tensor, warm: int) -> tuple[Tensor, int]:
        """Choose starting points among the first `warm` rows; the rows left to learn, and how many were warm."""
        chosen = _plus_plus(_Space(rows[None, :warm]), self.count, 1, [self.seed])[0, 0]
        chosen = _distinct(chosen, warm)
        self._centroids = rows[chosen].clone()
        rest = torch.ones(len(rows), dtype=torch.bool, device=rows.device)
        rest[chosen] = False
        return rows[rest], warm - self.count

    def _learn(self, block: Tensor) -> None:
        if len(block) == 0:
            return
        z = self._centroids
        assert z is not None
        shift = z.mean(0)
        x, c = (block - shift), (z - shift)
        inner = (c @ x.T).double().cpu().numpy()  # (K, m): z_k·x_j, kept current as z_k moves
        gram = (x @ x.T).double().cpu().numpy()  # (m, m)
        square = c.square().sum(1).double().cpu().numpy()
        # z_k after the block = keep_k · z_k before it + Σ_j share_kj x_j
        keep, share = np.ones(self.count), np.zeros(inner.shape)
        for j in range(len(block)):
            k = int(np.argmin(square - 2 * inner[:, j]))
            self._mass[k] += 1
            a = 1 / self._mass[k]
            square[k] = (1 - a) ** 2 * square[k] + 2 * a * (1 - a) * inner[k, j] + a * a * gram[j, j]
            inner[k] += a * (gram[j] - inner[k])
            share[k] *= 1 - a
            share[k, j] = a
            keep[k] *= 1 - a
        weight = torch.from_numpy(np.concatenate([keep[:, None], share], 1)).to(z)
        self._centroids = weight[:, :1] * c + weight[:, 1:] @ x + shift


class OnePass(SingleQuantizer):
    """CLVQ: each point once, in the order in which points come."""

    stream = Clvq

    def centroids(self, points: Tensor, count: int, seed: int) -> Tensor:
        model = Clvq(count, seed)
        model.add(points)
        return model.centroids()


def _distinct(chosen: Tensor, total: int) -> Tensor:
    """The same positions, repeats (which only duplicates cause) replaced by unused ones."""
    seen: set[int] = set()
    unused = iter(sorted(set(range(total)) - set(chosen.tolist())))
    result = []
    for i in chosen.tolist():
        pick = next(unused) if i in seen else i
        seen.add(pick)
        result.append(pick)
    return torch.tensor(result, device=chosen.device)
