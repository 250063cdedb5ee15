"""Which real images of each class a matching step sees: random ones, or DREAM's representative ones."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from raycond.core.seeds import seed_of
from raycond.methods.match.config import MatchConfig
from raycond.methods.match.real import endless
from raycond.methods.quantize.kmeans_plus_plus import _Space
from raycond.methods.quantize.lloyd import _iterate
from raycond.training.resumable import entries_of

Features = Callable[[int, Tensor], Tensor]  # label, positions within the class → (n, d) of the current network


class Position(NamedTuple):
    """Where a phase is. step: matching steps before this one, over all networks; of_network: with this network."""

    step: int
    of_network: int


class Sampling(ABC):
    """Positions of real images within their class, for every class of a phase and every step.

    labels: the classes of the phase. counts: images of each of them. Draws depend on the seed, the step and the
    label, so they are the same however the classes are divided among phases.
    """

    def __init__(self, config: MatchConfig, labels: Sequence[int], counts: Sequence[int], seed: int) -> None:
        self.config, self.labels, self.counts, self.seed = config, tuple(labels), tuple(counts), seed

    @abstractmethod
    def rows(self, at: Position, features: Features) -> list[Tensor]:
        """Positions (n,) int64 on the CPU for each class of the phase. Call it once for every step, in order."""

    def state(self) -> dict[str, Tensor]:
        """What a saved state must keep so that later steps see the same images."""
        return {}

    def load(self, state: dict[str, Tensor]) -> None:  # noqa: B027, random sampling keeps nothing
        """Go on from what `state` gave."""


class RandomSampling(Sampling):
    """`config.batch` images of each class, or all of a smaller one."""

    def rows(self, at: Position, features: Features) -> list[Tensor]:
        draw = self._epochs if self.config.sampling.order == "epochs" else self._draw
        return [draw(at.step, label, count) for label, count in zip(self.labels, self.counts, strict=True)]

    def _draw(self, step: int, label: int, count: int) -> Tensor:
        return permutation(count, self.seed, "real", step, label)[: self.config.batch]

    def _epochs(self, step: int, label: int, count: int) -> Tensor:
        """IDC's sampler: what is left of a shuffle after its last full batch is dropped."""
        batch = min(self.config.batch, count)
        epoch, k = divmod(step, count // batch)
        return endless(count, epoch * count + k * batch, batch, self.seed, "real", label)


class DreamSampling(Sampling):
    """DREAM (ICCV 2023, arXiv 2302.14416): the images nearest to the centers of clusters of a class's features.

    k-means runs on the features of the current network, of images that are not augmented, and runs again after
    `sampling.recluster` steps; the steps between see the same images.
    """

    def __init__(self, config: MatchConfig, labels: Sequence[int], counts: Sequence[int], seed: int) -> None:
        super().__init__(config, labels, counts, seed)
        self._rows: list[Tensor] = []

    def rows(self, at: Position, features: Features) -> list[Tensor]:
        every = self.config.sampling.recluster
        count = at.of_network if self.config.steps >= every else at.step
        if count % every == 0 or not self._rows:
            self._rows = [
                self._representative(at.step, label, count, features)
                for label, count in zip(self.labels, self.counts, strict=True)
            ]
        return self._rows

    def _representative(self, step: int, label: int, count: int, features: Features) -> Tensor:
        c = self.config.sampling
        candidates = torch.arange(count)
        if c.candidates and c.candidates < count:
            candidates = permutation(count, self.seed, "candidates", step, label)[: c.candidates].sort().values
        chosen = representatives(
            features(label, candidates),
            c.clusters,
            per_cluster=c.per_cluster,
            select=c.select,
            iterations=c.lloyd_iterations,
            seed=seed_of(self.seed, "clusters", step, label),
        )
        return candidates[chosen.cpu()]

    def state(self) -> dict[str, Tensor]:
        return {f"rows.{label}": rows for label, rows in zip(self.labels, self._rows, strict=False)}

    def load(self, state: dict[str, Tensor]) -> None:
        rows = entries_of(state, "rows")
        self._rows = [rows[str(label)] for label in self.labels if str(label) in rows]


SAMPLINGS: dict[str, type[Sampling]] = {"random": RandomSampling, "dream": DreamSampling}


def sampling(config: MatchConfig, labels: Sequence[int], counts: Sequence[int], seed: int) -> Sampling:
    """The sampling of a configuration."""
    return SAMPLINGS[config.sampling.kind](config, labels, counts, seed)


def representatives(
    features: Tensor, clusters: int, *, per_cluster: int = 1, select: str = "nearest", iterations: int = 10, seed: int
) -> Tensor:
    """Positions of the samples that stand for clusters of `features` (n, d) float32; `clusters` is cut to n.

    k-means starts from random samples. select `nearest`: the `per_cluster` samples nearest to each center, center by
    center, (clusters · per_cluster,); a sample may stand for several. `closest`: the samples that lie closest to their
    own center, (clusters,).
    """
    clusters = min(clusters, len(features))
    space = _Space(features[None])
    start = permutation(len(features), seed)[:clusters].view(1, 1, -1).to(features.device)
    labels, _ = _iterate(space, start, iterations)
    distance = space.to_means(*space.cell_sums(labels, clusters), labels)[0]  # (clusters, n)
    if select == "closest":
        return distance.min(0).values.argsort(stable=True)[:clusters]
    if per_cluster == 1:
        return distance.argmin(1)
    return distance.topk(min(per_cluster, len(features)), largest=False).indices.flatten()


def permutation(count: int, seed: int, *stream: str | int) -> Tensor:
    """A shuffle of 0 … count − 1 that depends on nothing but its arguments, on the CPU."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed_of(seed, *stream)))
