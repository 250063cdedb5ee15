"""A matching phase: the synthetic images of some classes, moved step by step, from any saved state to its end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from raycond.core.errors import UserError
from raycond.core.seeds import seed_of
from raycond.methods.match import registry
from raycond.methods.match.config import MatchConfig
from raycond.methods.match.formation import Formation, compose
from raycond.methods.match.idc import ClassSteps
from raycond.methods.match.network import FEATURES_TOGETHER, MatchedNetwork
from raycond.methods.match.objective import ClassBatch
from raycond.methods.match.real import RealImages, endless
from raycond.methods.match.sampling import Position, permutation, representatives, sampling
from raycond.training.augment import dsa
from raycond.training.augment.diffaug import diffaug
from raycond.training.resumable import Resumable, entries_of

STATISTICS = 16  # real images of each class that set the statistics of BatchNorm, as in VICO's code


@dataclass(frozen=True)
class _Loop:
    """What the loop of `Resumable` asks for. The optimizers of a phase are its own."""

    batch: int
    lr: float
    log_every: int
    optimizer: str = "sgd"
    weight_decay: float = 0.0
    schedule: str = "constant"
    warmup: int = 0
    clip: float = 0.0
    precision: str = "float32"


class Condensed(nn.Module):
    """The stored images (classes · ipc, channels, h, w), those of a class together, as a parameter."""

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.images = nn.Parameter(images)


class Matching(Resumable):
    """One phase of a matching method. `run` yields after steps, where `state` may be saved and later loaded.

    real: of all classes; the phase runs on their device. labels: the classes whose images this phase makes (default:
    all). The same seed gives the same bytes on one machine, whether or not the phase was interrupted. Networks and real
    images are drawn by the seed alone, so phases of different classes see the same ones. Raises UserError for settings
    that fit neither each other nor the images.
    """

    what = "matching"

    def __init__(
        self, config: MatchConfig, real: RealImages, *, seed: int, labels: Sequence[int] | None = None
    ) -> None:
        self.config, self.real = config, real
        self.labels = tuple(range(real.classes)) if labels is None else tuple(labels)
        _require(config, real, self.labels)
        self.objective = registry.objective(config)
        self.network = MatchedNetwork(config, shape=real.shape, classes=real.classes, seed=seed, device=real.device)
        counts = [real.counts[label] for label in self.labels]
        self.sampling = sampling(config, self.labels, counts, seed)
        fill = 0.5 if config.pixels == "unit" else 0.0
        self.formation = Formation(config.factor, config.decoder, config.max_synthetic, fill)
        loop = _Loop(config.batch, config.lr, config.log_every)
        start = Condensed(self._start(seed))
        super().__init__(loop, start, total=config.total, seed=seed, device=real.device)
        self._rows_of: dict[int, Tensor] = {}

    @property
    def count(self) -> int:
        """Classes of the phase."""
        return len(self.labels)

    @property
    def stored(self) -> nn.Parameter:
        """The stored images (classes · ipc, channels, h, w) in the pixel space of the optimizer."""
        return self.parameters[0]

    @property
    def images(self) -> Tensor:
        """The stored images (classes · ipc, channels, h, w) float32 with pixels on the scale of [0, 1], not clamped."""
        images = self.stored.detach()
        return images.clone() if self.config.pixels == "unit" else self.real.denormalize(images)

    # ---- one step

    def _advance(self) -> Tensor:
        c = self.config
        iteration, of_network = divmod(self.step, c.steps)
        if of_network == 0:
            self._new_network(iteration)
        if c.training.data == "synthetic" and self.network.has_batch_norm:
            self.network.freeze_statistics(self._statistics_images())
        rows = self.sampling.rows(Position(self.step, of_network), self._features)
        self._rows_of = dict(zip(self.labels, rows, strict=True))
        total = torch.zeros((), device=self.device)
        size = self.objective.together(self.network, self._synthetic_count())
        for group in torch.arange(self.count).split(size):
            loss = self.loss_of(group)
            loss.backward(inputs=[self.stored])  # else the network's weights would get gradients too
            total += loss.detach()
        self.optimizer.step()
        self.optimizer.zero_grad()
        if of_network < c.steps - 1:
            self._train_network()
        return total / self.count

    def loss_of(self, rows: Tensor) -> Tensor:
        """The sum of the losses of the classes at these positions of `labels`."""
        batches = [self._batch(position) for position in rows.tolist()]
        return self.objective.losses(self.network, batches).sum()

    def _batch(self, position: int) -> ClassBatch:
        label = self.labels[position]
        real = self.real.seen(label, self._rows_of[label])
        stored = self.stored.unflatten(0, (self.count, -1))[position]
        if isinstance(self.optimizer, ClassSteps):
            stored = stored - self.optimizer.seen(position)
        synthetic = self.formation.decode(stored)
        if len(synthetic) > self.config.max_synthetic:
            chosen = permutation(len(synthetic), self.seed, "synthetic", self.step, label)
            synthetic = synthetic[chosen[: self.config.max_synthetic].to(self.device)]
        if self.config.pixels == "unit":
            synthetic = self.real.normalize(synthetic)
        return ClassBatch(label, self._augmented(real, label), self._augmented(synthetic, label))

    def _augmented(self, images: Tensor, label: int) -> Tensor:
        """The transform of a class in this step: the same for its real and its synthetic images."""
        random = self._random("augment", self.step, label)
        return augmented(images, self.config, self.config.strategy, random, shared=True)

    def _synthetic_count(self) -> int:
        return min(self.formation.count(self.config.ipc), self.config.max_synthetic)

    def _random(self, *stream: str | int) -> torch.Generator:
        return torch.Generator(self.device).manual_seed(seed_of(self.seed, *stream))

    # ---- the network

    def _new_network(self, iteration: int) -> None:
        if self.config.pixels == "unit":
            with torch.no_grad():
                self.stored.clamp_(0, 1)
        self.network.draw(iteration)
        count = sum(self.real.counts)
        for k in range(-(-self.config.training.pretrain * count // self.config.training.batch)):
            self._learn_real(("pretrain", iteration), k)

    def _train_network(self) -> None:
        c = self.config.training
        if c.data == "real":
            batches = -(-c.images // c.batch)
            for k in range(batches):
                self._learn_real(("training",), self.step * batches + k)
        elif c.data == "synthetic":
            for epoch in range(c.epochs):
                self._learn_synthetic(epoch)

    def _learn_real(self, stream: tuple[str | int, ...], number: int) -> None:
        """The batch with this number of an endless sequence of shuffles of all real images."""
        batch = self.config.training.batch
        rows = endless(sum(self.real.counts), number * batch, batch, self.seed, *stream)
        images, labels = self.real.of_all(rows)
        self._learn(images, labels, self._random(*stream, "batch", number))

    def _learn_synthetic(self, epoch: int) -> None:
        with torch.no_grad():
            stored = self.stored.unflatten(0, (self.count, -1))
            parts = [self.formation.decode(images) for images in stored]
            images = torch.cat(parts)
            if self.config.pixels == "unit":
                images = self.real.normalize(images)
        labels = torch.tensor(self.labels, device=self.device).repeat_interleave(len(parts[0]))
        order = permutation(len(images), self.seed, "synthetic epoch", self.step, epoch).to(self.device)
        for k, rows in enumerate(order.split(self.config.training.batch)):
            self._learn(images[rows], labels[rows], self._random("synthetic batch", self.step, epoch, k))

    def _learn(self, images: Tensor, labels: Tensor, random: torch.Generator) -> None:
        images = augmented(images, self.config, self.config.training.strategy, random)
        self.network.learn(images, labels, random)

    def _statistics_images(self) -> Tensor:
        parts = []
        for label, count in enumerate(self.real.counts):
            rows = permutation(count, self.seed, "statistics", self.step, label)[:STATISTICS]
            parts.append(self.real.seen(label, rows))
        return torch.cat(parts)

    def _features(self, label: int, rows: Tensor) -> Tensor:
        """Of real images that are not augmented, in parts, so that only bytes and features are held of all."""
        read = self.real.raw if self.config.sampling.pixels == "raw" else self.real.seen
        size = 8 * self.network.passes.chunk or FEATURES_TOGETHER
        return torch.cat([self.network.features(read(label, part)) for part in rows.split(size)])

    # ---- where images start

    def _start(self, seed: int) -> Tensor:
        if self.config.init == "noise":
            return self._noise(seed)
        parts = [compose(self._real_start(label, seed), self.config.factor) for label in self.labels]
        images = torch.cat(parts)
        return images if self.config.pixels == "unit" else self.real.normalize(images)

    def _noise(self, seed: int) -> Tensor:
        shape = (len(self.labels), self.config.ipc, *self.real.shape)
        rows = [
            torch.randn(shape[1:], generator=torch.Generator().manual_seed(seed_of(seed, "noise", label)))
            for label in self.labels
        ]
        noise = torch.cat(rows).to(self.real.device)
        return noise.div_(4).add_(0.5).clamp_(0, 1) if self.config.pixels == "unit" else noise

    def _real_start(self, label: int, seed: int) -> Tensor:
        """ipc · factor² real images of a class."""
        c, count = self.config, self.real.counts[label]
        needed = c.ipc * c.factor**2
        if c.init == "first":
            rows = torch.arange(needed)
        elif c.init == "random":
            rows = permutation(count, seed, "start", label)[:needed]
        else:
            rows = representatives(
                self._features(label, torch.arange(count)),
                needed,
                iterations=c.sampling.lloyd_iterations,
                seed=seed_of(seed, "start", label),
            ).cpu()
        return self.real.raw(label, rows)

    # ---- what is kept

    def _optimizer(self) -> torch.optim.Optimizer:
        c = self.config
        if c.image_step == "class":
            return ClassSteps(self.parameters[0], classes=self.count, lr=c.lr, momentum=c.momentum)
        return torch.optim.SGD(self.parameters, lr=c.lr, momentum=c.momentum)

    def extra(self) -> dict[str, Tensor]:
        state = {f"sampling.{name}": value for name, value in self.sampling.state().items()}
        if self.step % self.config.steps:  # else the next step draws a new network
            state |= {f"network.{name}": value for name, value in self.network.state().items()}
        return state

    def restore(self, extra: dict[str, Tensor]) -> None:
        self.sampling.load(entries_of(extra, "sampling"))
        if network := entries_of(extra, "network"):
            self.network.load(network)


def augmented(
    images: Tensor, config: MatchConfig, strategy: str, random: torch.Generator, *, shared: bool = False
) -> Tensor:
    """Normalized images under the kind of augmentation of a configuration; as they are without a strategy."""
    if not strategy:
        return images
    return (dsa if config.augment == "dsa" else diffaug)(images, strategy, random, shared=shared)


def _require(config: MatchConfig, real: RealImages, labels: Sequence[int]) -> None:
    if len(set(labels)) != len(labels) or not labels or not set(labels) <= set(range(real.classes)):
        raise UserError(f"labels: expected different classes from 0 to {real.classes - 1}, not {list(labels)}")
    if config.training.data == "synthetic" and len(labels) < real.classes:
        raise UserError(
            f"--method {config.method}: the network learns the synthetic images of all classes, so a phase must have "
            f"all {real.classes}, not {len(labels)}"
        )
    needed = config.ipc * config.factor**2
    if config.init == "noise":
        return
    for label in labels:
        if real.counts[label] < needed:
            raise UserError(
                f"class {label}: has {real.counts[label]} images and {needed} are needed to start "
                f"{config.ipc} of factor {config.factor}: give a smaller --ipc or --factor, or --init noise"
            )
