"""Train one student from scratch on a labelled set and test it on another."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raycond import augment, networks
from raycond.errors import RaycondError, UserError
from raycond.evaluate.labelled import LabelledImages, class_mean_one, pixel_statistics
from raycond.evaluate.protocol import Protocol

TEST_VALUES = {"cpu": 2**26, "cuda": 2**28}  # values of a 128-wide feature map of one test batch: bounds memory


@dataclass(frozen=True)
class Outcome:
    """What one training gave. `top1` (after the last step, the headline) and `best` of all checks in percent."""

    top1: float
    best: float
    steps: int
    seconds: float  # training and testing
    curve: tuple[tuple[int, float], ...]  # (step, top-1) of every check


def train_and_test(
    train: LabelledImages,
    test: LabelledImages,
    *,
    student: str,
    protocol: Protocol,
    seed: int,
    device: str | torch.device,
    threads: int | None = None,
) -> Outcome:
    """Train `student` on `train` under `protocol`; top-1 accuracy on `test`.

    Both sets are moved to `device` once. Pixels are normalised by the mean and standard deviation per channel of
    the training images given, test images by the same. The same arguments on the same machine give the same
    bits: torch's global generators are seeded for the call and put back, as is the thread count. Raises
    UserError for sets that do not fit together and RaycondError where the loss stops being finite.
    """
    _require_fit(train, test)
    train, test = train.at_most(protocol.max_size), test.at_most(protocol.max_size)
    device = torch.device(device)
    gpus = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(gpus), _threads(threads), _deterministic():
        torch.manual_seed(seed)  # initial weights and dropout
        start = time.perf_counter()
        curve = tuple(_run(_Data(train, protocol, device), test, student, protocol, seed))
        seconds = time.perf_counter() - start
    return Outcome(curve[-1][1], max(top1 for _, top1 in curve), curve[-1][0], seconds, curve)


class _Data:
    """The training set on the device, with the pixel statistics and the loss weights of the protocol."""

    def __init__(self, train: LabelledImages, protocol: Protocol, device: torch.device) -> None:
        self.size, self.channels, self.classes = train.images.shape[2], train.images.shape[1], train.classes
        self.device = device
        self.mean, self.std = (s.view(1, -1, 1, 1).to(device) for s in pixel_statistics(train.images))
        weights = train.weights.float() if train.weights is not None else torch.ones(len(train))
        if protocol.weights == "none":
            weights = torch.ones(len(train))
        elif protocol.weights == "class-mean-one":
            weights = class_mean_one(weights.cpu(), train.labels.cpu())
        self.images, self.labels = train.images.to(device), train.labels.to(device)
        self.weights = weights.to(device)

    def normalise(self, images: Tensor) -> Tensor:
        return ((images.float() - self.mean) / self.std).contiguous(memory_format=torch.channels_last)


def _run(data: _Data, test: LabelledImages, student: str, protocol: Protocol, seed: int) -> Iterator[tuple[int, float]]:
    net = networks.build(student, classes=data.classes, size=data.size, channels=data.channels)
    net = net.to(data.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    steps = protocol.total_steps(len(data.images))
    optimizer, schedule = _optimizer(net, protocol, steps)
    generator = torch.Generator(data.device).manual_seed(seed)
    images, labels = test.images.to(data.device), test.labels.to(data.device)
    checks = {round(steps * (k + 1) / protocol.checks) for k in range(protocol.checks)} - {0}
    net.train()
    for step, index in enumerate(_batches(len(data.images), protocol, steps, generator), start=1):
        batch = _augmented(data.normalise(data.images[index]), protocol, generator)
        with _precision(protocol, data.device):
            loss = F.cross_entropy(net(batch), data.labels[index], reduction="none")
        loss = (loss.float() * data.weights[index]).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        if step in checks:
            if not bool(torch.isfinite(loss)):
                raise RaycondError(
                    f"student {student}, seed {seed}: the loss is {loss.item()} after {step} of {steps} steps "
                    f"of protocol {protocol.name}; a smaller lr than {protocol.lr} may help"
                )
            yield step, _accuracy(net, data, images, labels, protocol)


def _batches(n: int, protocol: Protocol, steps: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Indices of each step's images. By epochs the last batch is what is left; by steps it runs on into the
    next shuffle, so that a step count is the same number of images for every set."""
    size = min(protocol.batch, n)
    carry = torch.empty(0, dtype=torch.int64, device=generator.device)
    while steps > 0:
        carry = torch.cat([carry, torch.randperm(n, generator=generator, device=generator.device)])
        while len(carry) >= size or (protocol.epochs and len(carry)):
            if steps == 0:
                return
            yield carry[:size]
            carry = carry[size:]
            steps -= 1


def _augmented(images: Tensor, protocol: Protocol, generator: torch.Generator) -> Tensor:
    if protocol.scale is not None:
        images = augment.random_crop_scale(images, protocol.scale, generator)
    if protocol.shift:
        images = augment.shift(images, protocol.shift, generator)
    if protocol.flip:
        images = augment.flip(images, generator)
    return images


def _optimizer(
    net: nn.Module, protocol: Protocol, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    settings: dict[str, Any] = {"lr": protocol.lr, "weight_decay": protocol.weight_decay, "fused": True}
    optimizer: torch.optim.Optimizer
    if protocol.optimizer == "sgd":
        optimizer = torch.optim.SGD(net.parameters(), momentum=protocol.momentum, **settings)
    else:
        optimizer = torch.optim.AdamW(net.parameters(), **settings)
    if protocol.schedule == "constant":
        return optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    return optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)


@torch.no_grad()
def _accuracy(net: nn.Module, data: _Data, images: Tensor, labels: Tensor, protocol: Protocol) -> float:
    net.eval()
    values = TEST_VALUES.get(images.device.type, 2**26)
    size = min(512, max(1, values // (128 * images[0, 0].numel())))
    right = torch.zeros((), dtype=torch.int64, device=images.device)
    for x, y in zip(images.split(size), labels.split(size), strict=True):
        with _precision(protocol, images.device):
            right += (net(data.normalise(x)).argmax(1) == y).sum()
    net.train()
    return 100 * int(right) / len(labels)


def _require_fit(train: LabelledImages, test: LabelledImages) -> None:
    if train.classes != test.classes:
        raise UserError(f"the training set has {train.classes} classes and the test set {test.classes}")
    if train.images.shape[1:] != test.images.shape[1:]:
        a, b = ("x".join(map(str, s.images.shape[1:])) for s in (train, test))
        raise UserError(f"training images are {a} (channels, height, width) and test images {b}")


def _precision(protocol: Protocol, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    if protocol.precision == "bf16" and device.type == "cuda":
        return torch.autocast("cuda", torch.bfloat16)
    return contextlib.nullcontext()


@contextlib.contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(count or before)
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def _deterministic() -> Iterator[None]:
    """cuDNN may otherwise pick another algorithm from run to run."""
    before = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    try:
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
        yield
    finally:
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = before
