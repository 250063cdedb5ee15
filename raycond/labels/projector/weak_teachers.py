"""Weak teachers: checkpoints of one classifier's training on a source, and several of them answering together.

HeLlO (arXiv 2408.08201) takes nine checkpoints of one ResNet-18 run. Which, and how they are combined, is not
published; here the mean of norm-rescaled logits, as G-VBSM (arXiv 2311.17950) does it, or one drawn for each part of a
batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from safetensors import torch as safetensors
from torch import Tensor

from raycond.core import files
from raycond.core.errors import UserError
from raycond.core.seeds import seed_of, seeded
from raycond.data.class_arrays import Pixels
from raycond.data.classes import Classes
from raycond.labels.projector.options import TeacherConfig
from raycond.labels.teacher import Teacher, describe, open_teacher
from raycond.models import students
from raycond.training.augment.augmentation import Augmentation
from raycond.training.resumable import Resumable, steps_of

Combine = Literal["mean", "sample"]
Targets = Literal["centred", "logits", "probabilities"]


class TeacherTraining(Resumable):
    """Cross-entropy on augmented images. `folder`: where the first worker writes `checkpoint` after each epoch of
    `config.keep`.

    rows: the images to learn from. Raises UserError for a network that cannot take the images.
    """

    what = "teacher"

    def __init__(
        self,
        config: TeacherConfig,
        pixels: Pixels,
        rows: Tensor,
        *,
        folder: str,
        seed: int,
        device: str | torch.device,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.config, self.pixels, self.rows, self.folder = config, pixels, rows, folder
        channels, size = pixels.shape[:2]
        with seeded(seed_of(seed, "teacher")):
            net = students.build(config.network, classes=pixels.classes, size=size, channels=channels).train()
        self.kept = kept_steps(config, len(rows))
        super().__init__(config, net, total=max(self.kept), seed=seed, device=device, rank=rank, world=world)
        self.mean, self.std = pixels.statistics(rows)
        self._mean, self._std = (
            torch.tensor(value, device=self.device).view(1, -1, 1, 1) for value in (self.mean, self.std)
        )
        self.augmentation = Augmentation(config.scale, config.shift, config.flip)

    @property
    def count(self) -> int:
        return len(self.rows)

    def loss_of(self, rows: Tensor) -> Tensor:
        images, labels = self.pixels.take(self.rows[rows])
        views = torch.cat([self.augmentation(part, random) for part, random in self.parts(images)])
        views = (views - self._mean) / self._std
        with self.precision():
            logits = self.wrapped(views)
        return F.cross_entropy(logits.float(), labels, label_smoothing=self.config.smoothing)

    def due(self) -> bool:
        return self.step in self.kept

    def reached(self) -> None:
        if self.step in self.kept and self.rank == 0:
            state = {name: t.detach().cpu().contiguous() for name, t in self.net.state_dict().items()}
            files.write_bytes(checkpoint(self.folder, self.kept[self.step]), safetensors.save(state))


def kept_steps(config: TeacherConfig, count: int) -> dict[int, float]:
    """Step → the epoch of `keep` that ends with it, for `count` images. Raises UserError for two of the same step."""
    kept: dict[int, float] = {}
    for epoch in config.keep:
        step = steps_of(epoch, count, config.batch)
        if step in kept:
            raise UserError(
                f"--keep {kept[step]:g} {epoch:g}: both are step {step} of the teacher's training on {count} images in "
                f"batches of {config.batch}: keep fewer, or lower --teacher-batch"
            )
        kept[step] = epoch
    return kept


def checkpoint(folder: str, epoch: float) -> str:
    """The file of the weights after an epoch."""
    return files.join(folder, f"epoch-{epoch:06.2f}.safetensors")


def spec_of(network: str, file: str, size: int, mean: Sequence[float], std: Sequence[float]) -> str:
    """What `labels.open_teacher` takes for a checkpoint."""
    numbers = ("+".join(f"{v:g}" for v in values) for values in (mean, std))
    return f"{network}@{file},size={size},mean={next(numbers)},std={next(numbers)}"


class Teachers:
    """Images (n, c, h, w) in [0, 1] → logits (n, classes) of several teachers, without gradients.

    targets: what the mean is of: logits, centred or not, brought to one norm, or probabilities, whose logarithm it then
    is. Raises UserError, from `open_teacher`, for a teacher that does not fit the classes.
    """

    def __init__(
        self,
        specs: Sequence[str],
        *,
        classes: Classes,
        device: str | torch.device,
        combine: Combine = "mean",
        targets: Targets = "centred",
    ) -> None:
        self.members: list[Teacher] = [open_teacher(spec, classes=classes, device=device) for spec in specs]
        self.combine, self.mean = combine, _MEANS[targets]

    def __call__(self, parts: Sequence[tuple[Tensor, torch.Generator]]) -> Tensor:
        """Of parts of a batch, each with the generator of its draws: of all teachers together, or of one that is drawn
        for each part."""
        if self.combine == "sample":
            return torch.cat([self._drawn(random)(images) for images, random in parts])
        whole = torch.cat([images for images, _ in parts])
        each = [member(whole).split([len(images) for images, _ in parts]) for member in self.members]
        return torch.cat([self.mean(logits) for logits in zip(*each, strict=True)])

    def _drawn(self, random: torch.Generator) -> Teacher:
        host = torch.Generator().manual_seed(seed_of(random.initial_seed(), "teacher"))
        return self.members[int(torch.randint(len(self.members), (), generator=host))]

    def together(self, images: Tensor) -> Tensor:
        """Of all teachers for one batch."""
        return self.mean([member(images) for member in self.members])


def rescaled_mean(logits: Sequence[Tensor]) -> Tensor:
    """Mean of logits (n, C) after each is brought to the mean Frobenius norm of all of them, so that no teacher
    counts more because it is surer (G-VBSM's code); a single teacher's are returned as they are."""
    if len(logits) == 1:
        return logits[0]
    stacked = torch.stack(list(logits))
    norms = stacked.flatten(1).norm(dim=1)
    scales = norms.mean() / norms.clamp(min=1e-12)
    return (stacked * scales[:, None, None]).mean(0)


def centred(logits: Tensor) -> Tensor:
    """Logits (n, C) less each row's mean: the same probabilities."""
    return logits - logits.mean(1, keepdim=True)


def centred_mean(logits: Sequence[Tensor]) -> Tensor:
    """`rescaled_mean` of centred logits: what has no part in the targets has none in the norms."""
    return rescaled_mean([centred(one) for one in logits])


def mean_probability(logits: Sequence[Tensor]) -> Tensor:
    """Logarithm of the mean of the softmax of logits (n, C)."""
    return torch.stack(list(logits)).log_softmax(2).logsumexp(0) - math.log(len(logits))


_MEANS = {"centred": centred_mean, "logits": rescaled_mean, "probabilities": mean_probability}


def identities(specs: Sequence[str], classes: Classes) -> list[dict[str, Any]]:
    """Name and digest of each teacher, without a device. Raises UserError as `open_teacher` does."""
    found = [describe(spec, classes) for spec in specs]
    digests = [one.digest for one in found]
    if len(set(digests)) < len(digests):
        raise UserError("--teachers: one of them is given twice")
    return [{"name": one.name, "sha256": one.digest} for one in found]
