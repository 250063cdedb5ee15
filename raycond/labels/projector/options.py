"""Options of the three trainings of a label projector: a small CLIP, weak teachers, and the fit."""

from __future__ import annotations

from typing import Literal

import pydantic
from pydantic.dataclasses import dataclass

TRAIN = "train"


_FORBID = pydantic.ConfigDict(extra="forbid")


Precision = Literal["auto", "float32", "bfloat16"]


Schedule = Literal["cosine", "constant"]


Scale = tuple[float, float] | None


def _check_scale(scale: Scale, option: str) -> None:
    if scale is not None and not 0 < scale[0] <= scale[1] <= 1:
        raise ValueError(f"{option}: expected two shares, 0 < least ≤ most ≤ 1, not {scale[0]:g} {scale[1]:g}")


@dataclass(frozen=True, config=_FORBID)
class ClipTrainingConfig:
    """A small CLIP of open_clip's classes, trained from scratch on class names, for images that no public CLIP knows or
    where none can be had. No paper sets these values.

    tower: ModifiedResNet (`resnet`, as RN50) or VisionTransformer. image_size: that images are resized to. width,
    layers: of the image tower; a resnet has four stages of `layers`. patch, head_width: of a vit. embed: of both
    towers' output. text_*: of the text tower; context: tokens. epochs, batch and the rest: as in `FitConfig`.
    """

    tower: Literal["resnet", "vit"] = "resnet"
    image_size: int = pydantic.Field(default=64, ge=8)
    width: int = pydantic.Field(default=32, ge=4)
    layers: int = pydantic.Field(default=1, ge=1)
    patch: int = pydantic.Field(default=8, ge=1)
    head_width: int = pydantic.Field(default=32, ge=4)
    embed: int = pydantic.Field(default=128, ge=4)
    text_width: int = pydantic.Field(default=64, ge=4)
    text_layers: int = pydantic.Field(default=2, ge=1)
    text_heads: int = pydantic.Field(default=2, ge=1)
    context: int = pydantic.Field(default=24, ge=6)
    epochs: float = pydantic.Field(default=10, gt=0)
    batch: int = pydantic.Field(default=128, ge=1)
    lr: float = pydantic.Field(default=1e-3, gt=0)
    optimizer: Literal["adamw", "sgd"] = "adamw"
    weight_decay: float = pydantic.Field(default=0.05, ge=0)
    schedule: Schedule = "cosine"
    warmup: int = pydantic.Field(default=0, ge=0)
    clip: float = pydantic.Field(default=1.0, ge=0)
    precision: Precision = "auto"
    log_every: int = pydantic.Field(default=50, ge=1)
    scale: Scale = (0.5, 1.0)
    shift: float = pydantic.Field(default=0.0, ge=0, lt=1)
    flip: bool = False

    def __post_init__(self) -> None:
        _check_scale(self.scale, "clip_training, scale")
        if self.tower == "resnet" and self.image_size % 32:
            raise ValueError(f"clip_training, image_size: a resnet needs a multiple of 32, not {self.image_size}")
        if self.tower == "vit" and self.image_size % self.patch:
            raise ValueError(f"clip_training, image_size: expected a multiple of patch {self.patch}")
        if self.tower == "vit" and self.width % self.head_width:
            raise ValueError(f"clip_training, width: expected a multiple of head_width {self.head_width}")
        if self.text_width % self.text_heads:
            raise ValueError(f"clip_training, text_width: expected a multiple of text_heads {self.text_heads}")


@dataclass(frozen=True, config=_FORBID)
class TeacherConfig:
    """A classifier's training whose checkpoints after the epochs `keep` are the weak teachers.

    network: as a student's name. The defaults are a grid to start from, not the paper's: it took nine checkpoints of a
    ResNet-18 at stages that it does not name.
    """

    network: str = "resnet18"
    keep: tuple[float, ...] = (2, 4, 6, 8, 11, 15, 20, 25, 30)
    batch: int = pydantic.Field(default=256, ge=1)
    lr: float = pydantic.Field(default=0.1, gt=0)
    optimizer: Literal["adamw", "sgd"] = "sgd"
    weight_decay: float = pydantic.Field(default=1e-4, ge=0)
    schedule: Schedule = "cosine"
    warmup: int = pydantic.Field(default=0, ge=0)
    smoothing: float = pydantic.Field(default=0.0, ge=0, lt=1)
    clip: float = pydantic.Field(default=0.0, ge=0)
    precision: Precision = "auto"
    log_every: int = pydantic.Field(default=50, ge=1)
    scale: Scale = (0.25, 1.0)
    shift: float = pydantic.Field(default=0.0, ge=0, lt=1)
    flip: bool = False

    def __post_init__(self) -> None:
        _check_scale(self.scale, "teacher, scale")
        if not self.keep or len(set(self.keep)) < len(self.keep) or min(self.keep) <= 0:
            raise ValueError("--keep: expected different epochs above 0")
        if any(round(epoch, 2) != epoch for epoch in self.keep):
            raise ValueError("--keep: expected epochs of at most two decimal places, which name the files")


@dataclass(frozen=True, config=_FORBID)
class FitConfig:
    """The fit of a projector: MSE to the teachers + ce · cross-entropy to the labels (HeLlO, arXiv 2408.08201).

    ce: the paper's λ (`--lambda`). combine: `mean` of the norm-rescaled logits of all teachers, or one of them drawn
    for each part of a batch (`sample`). targets: what the MSE is of: logits, logits less their mean over the classes
    (`centred`), or probabilities, of which the teachers' mean is a plain one. What all logits of an image have in
    common is nothing to softmax, but CLIP's cosines have much of it, and unlearning it costs much of what CLIP knows.
    epochs: over the source, at most. batch: images per step, over all workers. lr: AdamW's, on the delta alone, reached
    after `warmup` steps. scale, shift, flip: the views, drawn for teachers and projector alike; mix: views mixed as a
    student's may be. checks: how often in the whole fit the held-out images are looked at; the fit ends after
    `patience` checks without a better one than any since its start (0: never), and the best delta is kept, be it the
    start's. clip: of the gradient's norm (`--clip-norm`); 0 for none. precision: auto is bfloat16 on GPUs. The paper
    gives none of these values.
    """

    epochs: float = pydantic.Field(default=10, gt=0)
    batch: int = pydantic.Field(default=256, ge=1)
    lr: float = pydantic.Field(default=5e-4, gt=0)
    ce: float = pydantic.Field(default=0.1, ge=0)
    combine: Literal["mean", "sample"] = "mean"
    targets: Literal["centred", "logits", "probabilities"] = "centred"
    optimizer: Literal["adamw", "sgd"] = "adamw"
    weight_decay: float = pydantic.Field(default=0.0, ge=0)
    schedule: Schedule = "cosine"
    warmup: int = pydantic.Field(default=0, ge=0)
    clip: float = pydantic.Field(default=1.0, ge=0)
    precision: Precision = "auto"
    log_every: int = pydantic.Field(default=50, ge=1)
    checks: int = pydantic.Field(default=20, ge=1)
    patience: int = pydantic.Field(default=5, ge=0)
    scale: Scale = (0.5, 1.0)
    shift: float = pydantic.Field(default=0.0, ge=0, lt=1)
    flip: bool = False
    mix: Literal["none", "cutmix", "mixup"] = "none"
    mix_beta: float = pydantic.Field(default=1.0, gt=0)

    def __post_init__(self) -> None:
        _check_scale(self.scale, "--scale")
