"""What every quantizer is: points of classes in, centroids out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor


class Stream(Protocol):
    """K centroids that are learned from points as they come."""

    def add(self, points: Tensor) -> None:
        """points: (m, d) float32."""

    def centroids(self) -> Tensor:
        """(K, d) float32, from all points added. Raises ValueError if they are fewer than K."""


class Quantizer(ABC):
    """A way to choose centroids. The assignment of points to them, and so the weights, is the same for all."""

    stream: Callable[[int, int], Stream] | None = None
    """For a quantizer that sees each point once: a stream for K and a seed. Classes are then never held in memory."""

    def __init__(self, *, restarts: int = 1, expand: int = 1) -> None:
        """restarts: how often a quantizer that starts at random starts; the best result is kept. expand: points in a
        batch for each centroid, of a quantizer that takes batches."""
        self.restarts, self.expand = restarts, expand

    @abstractmethod
    def fit(self, points: Tensor, counts: Sequence[int], seeds: Sequence[int]) -> dict[int, Tensor]:
        """Centroids of B classes of equal size at every K in `counts`: {K: (B, K, d) float32}.

        points: (B, n, d) float32 on any device. seeds: one for each class. What a class gets depends neither on the
        other classes nor on the other counts. Raises ValueError if a K exceeds n.
        """


class SingleQuantizer(Quantizer):
    """A quantizer that takes one class and one K at a time."""

    @abstractmethod
    def centroids(self, points: Tensor, count: int, seed: int) -> Tensor:
        """(K, d) float32 of points (n, d) float32. Raises ValueError if K exceeds n."""

    def fit(self, points: Tensor, counts: Sequence[int], seeds: Sequence[int]) -> dict[int, Tensor]:
        return {
            count: torch.stack(
                [self.centroids(of_class, count, seed) for of_class, seed in zip(points, seeds, strict=True)]
            )
            for count in counts
        }
