"""Train one student from scratch on a labelled set and test it on another."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from raycond.core.errors import RaycondError, UserError
from raycond.data.labelled import LabelledImages, class_mean_one, in_unit
from raycond.evaluate.evaluation_images import EvaluationImages
from raycond.evaluate.losses import Targets, weighted_loss
from raycond.evaluate.optimizer import ScheduledOptimizer
from raycond.evaluate.protocol import EvaluationProtocol
from raycond.evaluate.stored_views import StoredViews
from raycond.evaluate.table import Check
from raycond.evaluate.tangent import INPUTS, largest_stable_rate
from raycond.evaluate.views import Normalizer, augmented, mixed, prepared
from raycond.labels.stored.labels import StoredLabels
from raycond.methods.kernels.whitening import Preprocessing
from raycond.models import students
from raycond.training import augment
from raycond.training.augment.diffaug import diffaug

if TYPE_CHECKING:
    from raycond.labels.registry import Labeler

# upper bound on the numbers in one test batch's widest feature map, taken to be 128 channels at full size
TEST_VALUES = {"cpu": 2**26, "cuda": 2**28}
LABEL_BATCH = 64
STREAMED = 16 * 2**30  # bytes of training images above which they are not moved to a GPU


@dataclass(frozen=True)
class Outcome:
    """What one training gave."""

    top1: float
    """Accuracy in percent after the last step: the headline."""

    best: float
    """The best accuracy of all checks, in percent."""

    steps: int
    """Optimization steps."""

    seconds: float
    """Of training and testing."""

    curve: tuple[Check, ...]
    """Every check, the last of them after the last step."""


def train_and_test(
    train: LabelledImages,
    test: LabelledImages | EvaluationImages,
    *,
    student: str,
    protocol: EvaluationProtocol,
    seed: int,
    device: str | torch.device,
    threads: int | None = None,
    labeler: Labeler | None = None,
    report: Callable[[Check], None] | None = None,
    real: Preprocessing | None = None,
) -> Outcome:
    """Train `student` on `train` under `protocol`; top-1 accuracy on `test`. `report` is called with every check.

    The training set is moved to `device` once unless it is very large (`streams`); test images stay where they are and
    go there batch by batch, so they may be a memory map. labeler: what the student learns (default: the hard labels).
    real: the normalization by the constants of the real images, for protocols with normalize: real. The same arguments
    on the same machine give the same bits: torch's global generators are seeded for the call and put back, as is the
    thread count. Raises UserError for what does not fit together and RaycondError where the loss stops being finite.
    """
    tests = EvaluationImages.of(test) if isinstance(test, LabelledImages) else test
    device = torch.device(device)
    with _reproducible(seed, device, threads):
        start = time.perf_counter()
        _require_fit(train, tests, protocol)
        tests = tests.at_most(protocol.max_size)
        like = tests.spread(INPUTS) if protocol.lr_from == "ntk" else None
        training = _Training(prepared(train, protocol), student, protocol, seed, device, labeler, real, like)
        curve: list[Check] = []
        for step, loss in training.run():
            top1 = training.accuracy(tests)
            curve.append(Check(step, step / training.per_epoch, top1, loss))
            if report is not None:
                report(curve[-1])
        seconds = time.perf_counter() - start
    return Outcome(curve[-1].top1, max(c.top1 for c in curve), curve[-1].step, seconds, tuple(curve))


def trained(
    train: LabelledImages,
    *,
    student: str,
    protocol: EvaluationProtocol,
    seed: int,
    device: str | torch.device,
    threads: int | None = None,
    labeler: Labeler | None = None,
) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    """The trained student, in eval mode, and what turns uint8 images (n, c, h, w) into its input."""
    device = torch.device(device)
    with _reproducible(seed, device, threads):
        training = _Training(prepared(train, protocol), student, protocol, seed, device, labeler)
        for _ in training.run():
            pass
    return training.net.eval(), training.normalizer.of_pixels


class _Training:
    """A student, its optimizer, and the training set on the device with its labels and weights."""

    def __init__(
        self,
        train: LabelledImages,
        student: str,
        protocol: EvaluationProtocol,
        seed: int,
        device: torch.device,
        labeler: Labeler | None,
        real: Preprocessing | None = None,
        like: Tensor | None = None,
    ) -> None:
        self.protocol, self.device, self.what = protocol, device, f"student {student}, seed {seed}"
        self.labeler = None if labeler is None or labeler.mode == "hard" else labeler
        if protocol.needs_labeler and self.labeler is None:
            raise UserError(
                f"protocol {protocol.name}: loss {protocol.loss} learns soft labels: give --labeler "
                "(such as teacher:resnet18), or --set loss=cross-entropy for hard ones"
            )
        if protocol.loss == "mse" and self.labeler is not None:
            raise UserError(
                f"protocol {protocol.name}: loss mse learns the labels of the set itself: leave --labeler out"
            )
        self.count = len(train)
        self.steps, self.per_epoch = protocol.total_steps(self.count), self._per_epoch()
        channels, size = train.images.shape[1:3]
        net = students.build(student, classes=train.classes, size=protocol.view_side(size), channels=channels)
        layout = _layout(net, device)
        self.net: nn.Module = net.to(device, memory_format=layout)  # type: ignore[call-overload]
        self.student = torch.compile(self.net) if protocol.compile else self.net
        self.normalizer = Normalizer(train.images, protocol, device, layout, real)
        self.normalized = train.normalized
        if self.normalized:
            _require_normalized(protocol)
        held = train.images if streams(train.images.nbytes, device) else train.images.to(device)
        self.images, self.labels = held, train.labels.to(device)
        self.weights = _weights(train, protocol).to(device)
        self.values = None if train.values is None else train.values.to(device)
        self.optimizer = self._optimizer(like)
        self.fixed = self._fixed_labels() if self.labeler and self.labeler.mode == "fixed" else None
        self.stored = self._stored_views(train.classes)
        self.generator = torch.Generator(device).manual_seed(seed)

    def _optimizer(self, like: Tensor | None) -> ScheduledOptimizer:
        """like: real images, uint8, that a rate from the tangent kernel is of; by default the training images."""
        protocol = self.protocol
        if protocol.lr_from == "ntk":
            if like is not None:
                inputs = self.normalizer.of_pixels(like.to(self.device))
            else:
                inputs = in_unit(self.images[:INPUTS])
                inputs = inputs if self.normalized else self.normalizer(inputs)
            rate = largest_stable_rate(self.net, inputs)
            protocol = replace(protocol, lr=protocol.lr * rate, lr_from="given")
        return ScheduledOptimizer(self.net, protocol, self.steps, self.per_epoch)

    def _per_epoch(self) -> float:
        if self.protocol.steps is None:
            return self.protocol.steps_per_epoch(self.count)
        return self.count / min(self.protocol.batch, self.count)

    def run(self) -> Iterator[tuple[int, float]]:
        """Train; yields (step, mean loss since the check before) where the student is to be tested."""
        checks = _checks(self.steps, self.protocol)
        total, since = torch.zeros((), device=self.device), 0
        self.net.train()
        for step, index in enumerate(_batches(self.count, self.protocol, self.steps, self.generator), start=1):
            views, targets = self._batch(index)
            with _precision(self.protocol, self.device):
                logits = self.student(views)
            loss = weighted_loss(logits, targets, self.protocol)
            loss.backward()
            self.optimizer.step()
            total, since = total + loss.detach(), since + 1
            if step in checks:
                mean = float(total) / since
                if not math.isfinite(mean):
                    raise RaycondError(
                        f"{self.what}: the loss is {mean} after {step} of {self.steps} steps of protocol "
                        f"{self.protocol.name}; a smaller lr than {self.protocol.lr} may help"
                    )
                yield step, mean
                total, since = torch.zeros_like(total), 0

    def _batch(self, index: Tensor) -> tuple[Tensor, Targets]:
        if self.stored is not None:
            views, targets = self.stored.batch(index)
            return self.normalizer(views), targets
        p, generator = self.protocol, self.generator
        images = self.images[index.to(self.images.device)].to(self.device)
        views = augmented(in_unit(images), p, generator)
        pair = None
        if not p.diffaug:
            pair = mixed(views, p, generator)
            views = views if pair is None else pair.images
        seen = views if self.normalized else self.normalizer(views)
        if p.dsa:
            seen = augment.dsa(seen, p.dsa, generator, rotate=p.dsa_rotate)
        elif p.diffaug:
            seen = diffaug(seen, p.diffaug, generator)
            pair = mixed(seen, p, generator)
            seen = seen if pair is None else pair.images
        soft = None
        if self.fixed is not None:
            soft = self.fixed[index]
        elif self.labeler is not None:
            assert self.labeler.logits is not None
            soft = self.labeler.logits(self.normalizer.undo(seen).clamp(0, 1) if p.dsa or p.diffaug else views)
        return seen, Targets(
            self.labels[index],
            self.weights[index],
            soft,
            soft_of_mixed_view=self.fixed is None,
            permutation=None if pair is None else pair.partner,
            lam=1.0 if pair is None else pair.own,
            values=None if self.values is None else self.values[index],
        )

    def _stored_views(self, classes: int) -> StoredViews | None:
        stored = None if self.labeler is None else self.labeler.logits
        if not isinstance(stored, StoredLabels):
            return None
        return StoredViews(self.images, self.labels, self.weights, classes, self.protocol, stored)

    def _fixed_labels(self) -> Tensor:
        assert self.labeler is not None
        assert self.labeler.logits is not None
        return torch.cat([self.labeler.logits(in_unit(part)) for part in self.images.split(LABEL_BATCH)])

    @torch.no_grad()
    def accuracy(self, tests: EvaluationImages) -> float:
        """Top-1 in percent."""
        self.net.eval()
        correct = torch.zeros((), dtype=torch.int64, device=self.device)
        for images, labels in tests.batches(images_per_test_batch(tests.shape[-1], self.device)):
            pixels = self.normalizer.of_pixels(images.to(self.device))
            with _precision(self.protocol, self.device):
                correct += (self.net(pixels).argmax(1) == labels.to(self.device)).sum()
        self.net.train()
        return 100 * int(correct) / len(tests)


def streams(images_bytes: int, device: str | torch.device) -> bool:
    """Whether training images stay on the host and go to the device batch by batch."""
    return torch.device(device).type != "cpu" and images_bytes > STREAMED


def images_per_test_batch(side: int, device: str | torch.device) -> int:
    """Images of `side` pixels that are tested together."""
    values = TEST_VALUES.get(torch.device(device).type, TEST_VALUES["cpu"])
    return min(512, max(1, values // (128 * side**2)))


def _require_normalized(protocol: EvaluationProtocol) -> None:
    """Raise UserError for settings that need pixels, which images in the space of a normalization are not."""
    if protocol.normalize != "real":
        raise UserError(
            f"protocol {protocol.name}: the images are normalized by the constants of the real ones: use "
            "normalize=real, or train on the 8-bit images"
        )
    if protocol.jitter is not None or protocol.lighting:
        raise UserError(f"protocol {protocol.name}: jitter and lighting need pixels, and the images are normalized")


def _layout(net: nn.Module, device: torch.device) -> torch.memory_format:
    """Channels last, except on a CPU for GroupNorm, whose backward pass is up to three times slower in it."""
    grouped = device.type == "cpu" and any(isinstance(module, nn.GroupNorm) for module in net.modules())
    return torch.contiguous_format if grouped else torch.channels_last


def _weights(train: LabelledImages, protocol: EvaluationProtocol) -> Tensor:
    if train.weights is None or protocol.weights == "none":
        return torch.ones(len(train))
    weights = train.weights.float().cpu()
    return class_mean_one(weights, train.labels.cpu()) if protocol.weights == "class-mean-one" else weights


def _checks(steps: int, protocol: EvaluationProtocol) -> set[int]:
    first = protocol.checks_from * steps
    spread = (first + (steps - first) * (k + 1) / protocol.checks for k in range(protocol.checks))
    return {round(step) for step in spread} - {0}


def _batches(n: int, protocol: EvaluationProtocol, steps: int, generator: torch.Generator) -> Iterator[Tensor]:
    """The rows of each step's images, in a new order for every pass over the set.

    A protocol that counts epochs ends each pass with a smaller batch; a single image that is left joins the batch
    before it. One that counts steps fills every batch, from the next pass if need be, so that a number of steps is the
    same number of images for every set.
    """
    size = min(protocol.batch, n)
    carry = torch.empty(0, dtype=torch.int64, device=generator.device)
    while steps > 0:
        carry = torch.cat([carry, torch.randperm(n, generator=generator, device=generator.device)])
        while len(carry) >= size or (protocol.epochs and len(carry)):
            if steps == 0:
                return
            take = size + 1 if protocol.epochs and size > 1 and len(carry) == size + 1 else size
            yield carry[:take]
            carry = carry[take:]
            steps -= 1


def _require_fit(train: LabelledImages, tests: EvaluationImages, protocol: EvaluationProtocol) -> None:
    if train.classes != tests.classes:
        raise UserError(f"the training set has {train.classes} classes and the test set {tests.classes}")
    channels, size = train.images.shape[1:3]
    view = protocol.view_size or size
    if (channels, view, view) != tests.shape:
        a, b = ("x".join(map(str, shape)) for shape in ((channels, view, view), tests.shape))
        raise UserError(f"students see images of {a} (channels, height, width), and test images are {b}")


def _precision(protocol: EvaluationProtocol, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    if protocol.precision == "bf16":
        return torch.autocast(device.type, torch.bfloat16)
    return contextlib.nullcontext()


@contextlib.contextmanager
def _reproducible(seed: int, device: torch.device, threads: int | None) -> Iterator[None]:
    """Torch's generators seeded (initial weights, dropout), its thread count set, cuDNN held to one algorithm."""
    count = torch.get_num_threads()
    cudnn = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        try:
            torch.set_num_threads(threads or count)
            torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
            torch.manual_seed(seed)
            yield
        finally:
            torch.set_num_threads(count)
            torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn
