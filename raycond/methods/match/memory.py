"""How much memory a matching phase takes, from its settings alone, before it runs."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from raycond.methods.match.config import MatchConfig
from raycond.methods.match.formation import Formation
from raycond.methods.match.network import FEATURES_TOGETHER, MatchedNetwork, batch_norms, passes
from raycond.methods.match.objective import ClassBatch
from raycond.methods.match.registry import objective

META = torch.device("meta")  # tensors of it have shapes, but no numbers


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes that a phase needs on its device: what is kept all the time, and the peak of each part of a step.

    The parts follow each other, so only the largest of them counts. All numbers are for float32; bfloat16 needs less.
    What libraries allocate inside an operation, and the reserve of an allocator, come on top: the resident memory of
    a process on a CPU grew by up to twice the matching part.
    """

    pixels: int
    """The real images of all classes, one byte a number."""

    images: int
    """The stored images of the phase, their gradient and their momentum."""

    network: int
    """Weights and momenta of the network."""

    matching: int
    """The passes of real and synthetic images of the classes that are matched together, and their derivatives."""

    training: int
    """The pass of a batch that the network learns; 0 if it learns nothing."""

    clustering: int
    """Features of the largest class, and distances to cluster centers; 0 where nothing is clustered."""

    @property
    def total(self) -> int:
        return self.pixels + self.images + self.network + max(self.matching, self.training, self.clustering)

    def lines(self) -> list[str]:
        """Every part and the total in MiB, one a line."""
        parts = [(field.name, getattr(self, field.name)) for field in fields(self)]
        return [f"{name}: {size / 2**20:,.1f} MiB" for name, size in [*parts, ("total", self.total)]]


def plan(
    config: MatchConfig, *, shape: tuple[int, int, int], counts: Sequence[int], classes: int, device: str = "cpu"
) -> MemoryPlan:
    """The memory of a phase that makes the images of `classes` classes.

    shape: channels, height and width of an image. counts: real images of every class of the source. device: where the
    phase would run; nothing is allocated or computed there. Raises UserError for an unknown network or method.
    """
    pixels = shape[0] * shape[1] * shape[2]
    training = replace(config.training, cutmix=0.0)  # a coin and a box need numbers
    settings = replace(config, training=training, precision="float32", compile="none")
    network = MatchedNetwork(settings, shape=shape, classes=len(counts), seed=0, device=META)
    network.passes = replace(passes(settings, torch.device(device), network.largest), device=META)
    weights = 4 * sum(tensor.numel() for tensor in network.net.state_dict().values())
    return MemoryPlan(
        pixels=sum(counts) * pixels,
        images=3 * 4 * config.ipc * classes * pixels,
        network=(1 + bool(training.momentum)) * weights,
        matching=_matching(settings, network, shape, max(counts), classes),
        training=_training(settings, network, shape, classes),
        clustering=_clustering(settings, network, shape, max(counts)),
    )


def _images(count: int, shape: tuple[int, int, int]) -> Tensor:
    return torch.empty(count, *shape, device=META)


def _matching(
    config: MatchConfig, network: MatchedNetwork, shape: tuple[int, int, int], largest_class: int, classes: int
) -> int:
    count = min(Formation(config.factor, config.decoder, config.max_synthetic).count(config.ipc), config.max_synthetic)
    matched = objective(config)
    together = min(classes, matched.together(network, count))
    real, rest = _chunked(min(config.real_batch, largest_class), network)
    with _Peak() as peak:
        images = [_images(count, shape).requires_grad_() for _ in range(together)]
        batches = [ClassBatch(0, _images(real, shape), synthetic) for synthetic in images]
        matched.losses(network, batches).sum().backward(inputs=images)
    return peak.bytes + together * rest * _images(1, shape).nbytes


def _training(config: MatchConfig, network: MatchedNetwork, shape: tuple[int, int, int], classes: int) -> int:
    c = config.training
    if c.data == "none" and not c.pretrain:
        return 0
    batch = c.batch
    if c.data == "synthetic":
        batch = min(batch, classes * Formation(config.factor, config.decoder, config.max_synthetic).count(config.ipc))
    batch, rest = _chunked(batch, network)
    with _Peak() as peak:
        network.learn(_images(batch, shape), torch.zeros(batch, dtype=torch.int64, device=META), torch.Generator())
    return peak.bytes + rest * _images(1, shape).nbytes


def _chunked(count: int, network: MatchedNetwork) -> tuple[int, int]:
    """How many of so many images must be passed to see the peak, two chunks, and how many are left."""
    few = count if batch_norms(network.net) or not network.passes.chunk else min(count, 2 * network.passes.chunk)
    return few, count - few


def _clustering(config: MatchConfig, network: MatchedNetwork, shape: tuple[int, int, int], largest_class: int) -> int:
    s = config.sampling
    if s.kind != "dream" and config.init != "kmeans":
        return 0
    count = min(largest_class, s.candidates or largest_class) if config.init != "kmeans" else largest_class
    with _Peak() as peak:
        width = network.features(_images(min(count, network.passes.chunk or FEATURES_TOGETHER), shape)).shape[1]
    clusters = max(s.clusters if s.kind == "dream" else 0, config.ipc * config.factor**2 * (config.init == "kmeans"))
    features = 2 * count * width  # and a copy around their mean
    products = count * count if count < width else 0
    distances = 3 * min(clusters, count) * count
    return peak.bytes + 4 * (features + products + distances)


class _Peak(TorchDispatchMode):
    """The most bytes that tensors made inside it held at one time, in `bytes`."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = self._held = 0
        self._seen: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._count(leaf.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage not in self._seen:
            self._seen.add(storage)
            self._held += storage.nbytes()
            self.bytes = max(self.bytes, self._held)
            weakref.finalize(storage, self._release, storage.nbytes())

    def _release(self, size: int) -> None:
        self._held -= size
