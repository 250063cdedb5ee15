"""What every matching method answers: how far the synthetic images of a class are from its real ones."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from raycond.methods.match.config import MatchConfig
from raycond.methods.match.network import MatchedNetwork


class ClassBatch(NamedTuple):
    """The images of one class in a matching step, as the network sees them: normalized and augmented.

    label: of the class. real: (n, channels, h, w). synthetic: (m, channels, h, w), part of a graph that leads to the
    stored images.
    """

    label: int
    real: Tensor
    synthetic: Tensor


class Objective(ABC):
    """A matching loss. It sees a network and the images of some classes, and changes neither."""

    def __init__(self, config: MatchConfig) -> None:
        self.config = config

    @abstractmethod
    def together(self, network: MatchedNetwork, synthetic: int) -> int:
        """How many classes of `synthetic` images each one call of `losses` should take, to be fast."""

    @abstractmethod
    def losses(self, network: MatchedNetwork, batches: Sequence[ClassBatch]) -> Tensor:
        """The loss of each class (len(batches),), differentiable with respect to its synthetic images."""
