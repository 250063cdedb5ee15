"""How long a matching phase takes, measured on a few steps of it with noise in place of the real images."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from raycond.data.class_arrays import Pixels
from raycond.methods.match.config import MatchConfig
from raycond.methods.match.real import RealImages
from raycond.methods.match.sampling import representatives
from raycond.methods.match.training import Matching

CLASSES = 2  # that are timed; time grows with their number, and with nothing else of a class but its size
MOST_IMAGES = 2000  # of a class that are clustered for the measurement


@dataclass(frozen=True)
class Seconds:
    """Of one class and step: `matching`, and `clustering` where representative images are sampled; of a step whatever
    the classes: `training` of the network; of a network: `pretraining`."""

    matching: float
    clustering: float
    training: float
    pretraining: float

    def total(self, config: MatchConfig, classes: int) -> float:
        """Of a phase of so many classes, the evaluation left out."""
        each = classes * (self.matching + self.clustering / config.sampling.recluster)
        trained = config.iterations * (config.steps - 1)
        return config.total * each + trained * self.training + config.iterations * self.pretraining


def measure(
    config: MatchConfig, *, shape: tuple[int, int, int], counts: Sequence[int], classes: int, device: str
) -> Seconds:
    """Time a step of a phase that makes the images of `classes` classes.

    shape: channels, height and width of an image. counts: real images of every class. It takes as long as two steps of
    a few classes. Raises UserError for settings that do not fit.
    """
    few = min(len(counts), CLASSES)
    count = min(max(counts), max(MOST_IMAGES, config.real_batch, config.ipc * config.factor**2))
    noise = np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)
    real = RealImages(Pixels([noise] * few, device), (0.5,) * shape[0], (0.25,) * shape[0])
    sampling = replace(config.sampling, kind="random", order="draw")
    timed = replace(
        config,
        init="noise" if config.init == "noise" else "random",
        sampling=sampling,
        batch=config.real_batch,
        compile="none",
        log_every=1,
    )
    timed = replace(timed, iterations=1, steps=3, training=replace(config.training, data="none", pretrain=0))
    phase = Matching(timed, real, seed=0)
    steps = phase.run()
    next(steps)  # what is set up once
    matching = _seconds(lambda: next(steps), device) / few
    training = _training(config, phase, classes / few, device)
    of_all = sum(counts) * config.training.pretrain / max(1, config.training.batch)
    return Seconds(
        matching,
        _clustering(config, phase, max(counts), device) if config.sampling.kind == "dream" else 0.0,
        training if config.training.data != "none" else 0.0,
        of_all * _of_batch(phase, config.training.batch, device) if config.training.pretrain else 0.0,
    )


def _training(config: MatchConfig, phase: Matching, times: float, device: str) -> float:
    """Of the network between two steps; synthetic images are `times` those of the timed phase."""
    c = config.training
    if c.data == "real":
        return -(-c.images // c.batch) * _of_batch(phase, c.batch, device)
    images = phase.formation.count(config.ipc) * phase.count * times
    size = max(1, min(c.batch, round(images)))
    return c.epochs * images / size * _of_batch(phase, size, device)


def _of_batch(phase: Matching, size: int, device: str) -> float:
    rows = torch.arange(size) % sum(phase.real.counts)
    images, labels = phase.real.of_all(rows)
    random = torch.Generator(phase.device).manual_seed(0)
    return _seconds(lambda: phase.network.learn(images, labels, random), device)


def _clustering(config: MatchConfig, phase: Matching, count: int, device: str) -> float:
    """Of one class: the features of its images, and k-means on them."""
    s = config.sampling
    count = min(count, s.candidates or count)
    timed = min(count, phase.real.counts[0])

    def cluster() -> None:
        features = phase._features(0, torch.arange(timed))
        representatives(features, min(s.clusters, timed), iterations=s.lloyd_iterations, seed=0)

    return _seconds(cluster, device) * count / timed


def _seconds(work: Callable[[], object], device: str) -> float:
    started = time.perf_counter()
    work()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - started
