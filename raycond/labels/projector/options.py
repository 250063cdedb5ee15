"""Options of the three trainings of a label projector: a small CLIP, weak teachers, and the fit."""

from __future__ import annotations

from typing import Literal

from pydantic.dataclasses import dataclass

from raycond.core.options import STRICT, Configuration, option

TRAIN = "train"
"""In place of a model's name: one that is trained on the source first."""

Precision = Literal["auto", "float32", "bfloat16"]
Schedule = Literal["cosine", "constant"]
Optimizer = Literal["adamw", "sgd"]
Scale = tuple[float, float] | None


@dataclass(frozen=True, kw_only=True, config=STRICT)
class OptimizerOptions(Configuration):
    """How the weights of a training are changed."""

    GROUP = "training"

    batch: int = option(256, ge=1)
    """Images in each step, over all workers together."""

    lr: float = option(1e-3, gt=0)
    """Learning rate, reached after the warm-up."""

    optimizer: Optimizer = option("adamw")
    """Optimizer: AdamW, or SGD with momentum."""

    weight_decay: float = option(0.0, ge=0)
    """Weight decay of the optimizer."""

    schedule: Schedule = option("cosine")
    """What the learning rate does after the warm-up: stay, or fall to 0 along a cosine."""

    warmup: int = option(0, ge=0, metavar="STEPS")
    """Steps in which the learning rate rises from 0."""

    clip: float = option(1.0, ge=0)
    """Largest norm of a gradient; longer ones are scaled down to it. 0 for no limit."""

    precision: Precision = option("auto")
    """Number format of the matrix products; `auto` is bfloat16 on GPUs and float32 on CPUs."""

    log_every: int = option(50, ge=1, metavar="STEPS")
    """Steps between the entries of the loss curve."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ViewOptions(Configuration):
    """The random views of the images that a training sees."""

    GROUP = "views"

    scale: Scale = option(None, metavar="X", unset="no crops")
    """Random crops: the least and the most share of an image's area that one takes."""

    shift: float = option(0.0, ge=0, lt=1)
    """Random shifts: the largest, as a share of a side."""

    flip: bool = option(False)
    """Mirror half of the views."""

    def require_scale(self, name: str) -> None:
        """Raise ValueError, naming the option, for shares of an area that no crop can have."""
        if self.scale is not None and not 0 < self.scale[0] <= self.scale[1] <= 1:
            least, most = self.scale
            raise ValueError(f"{name}: expected two shares, 0 < least ≤ most ≤ 1, not {least:g} {most:g}")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ClipTrainingConfig(OptimizerOptions, ViewOptions):
    """A small CLIP of open_clip's classes, trained from scratch on class names, for images that no public CLIP knows or
    where none can be had. No paper sets these values."""

    GROUP = "small CLIP"

    tower: Literal["resnet", "vit"] = option("resnet")
    """Image tower: a ModifiedResNet, as in RN50, or a VisionTransformer."""

    image_size: int = option(64, ge=8)
    """Pixels on each side that images are resized to: a multiple of 32 with resnet, of `patch` with vit."""

    width: int = option(32, ge=4)
    """Channels of the image tower."""

    layers: int = option(1, ge=1)
    """Blocks of the image tower; with resnet, of each of its four stages."""

    patch: int = option(8, ge=1)
    """With vit: pixels on each side of a token."""

    head_width: int = option(32, ge=4)
    """With vit: channels of each head of an attention; `width` is a multiple of it."""

    embed: int = option(128, ge=4)
    """Length of the embeddings that both towers give."""

    text_width: int = option(64, ge=4)
    """Channels of the text tower."""

    text_layers: int = option(2, ge=1)
    """Blocks of the text tower."""

    text_heads: int = option(2, ge=1)
    """Heads of each attention of the text tower; `text_width` is a multiple of it."""

    context: int = option(24, ge=6)
    """Tokens of the longest text."""

    epochs: float = option(10, gt=0)
    """Passes over the source."""

    batch: int = option(128, ge=1)
    lr: float = option(1e-3, gt=0)
    weight_decay: float = option(0.05, ge=0)
    scale: Scale = option((0.5, 1.0))

    def __post_init__(self) -> None:
        self.require_scale("clip_training.scale")
        if self.tower == "resnet" and self.image_size % 32:
            raise ValueError(f"clip_training.image_size: a resnet needs a multiple of 32, not {self.image_size}")
        if self.tower == "vit" and self.image_size % self.patch:
            raise ValueError(f"clip_training.image_size: expected a multiple of patch {self.patch}")
        if self.tower == "vit" and self.width % self.head_width:
            raise ValueError(f"clip_training.width: expected a multiple of head_width {self.head_width}")
        if self.text_width % self.text_heads:
            raise ValueError(f"clip_training.text_width: expected a multiple of text_heads {self.text_heads}")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TeacherConfig(OptimizerOptions, ViewOptions):
    """The training of a classifier whose checkpoints are the weak teachers.

    The defaults are a grid to start from, not the paper's: it took nine checkpoints of a ResNet-18 at stages that it
    does not name.
    """

    GROUP = "teachers"

    network: str = option("resnet18", metavar="NAME")
    """With --teachers train: the network that is trained, by a student's name."""

    keep: tuple[float, ...] = option((2, 4, 6, 8, 11, 15, 20, 25, 30), metavar="EPOCH")
    """With --teachers train: the epochs after which a checkpoint is kept as a teacher; the last of them ends the
    training. The paper took nine, from weak to strong, and does not say which."""

    batch: int = option(256, ge=1)
    """With --teachers train: images in each step, over all workers together."""

    lr: float = option(0.1, gt=0)
    """With --teachers train: learning rate, reached after the warm-up."""

    optimizer: Optimizer = option("sgd")
    weight_decay: float = option(1e-4, ge=0)

    smoothing: float = option(0.0, ge=0, lt=1)
    """Label smoothing: the share of a label that goes to all classes alike."""

    clip: float = option(0.0, ge=0)
    scale: Scale = option((0.25, 1.0))

    def __post_init__(self) -> None:
        self.require_scale("teacher.scale")
        if not self.keep or len(set(self.keep)) < len(self.keep) or min(self.keep) <= 0:
            raise ValueError("--keep: expected different epochs above 0")
        if any(round(epoch, 2) != epoch for epoch in self.keep):
            raise ValueError("--keep: expected epochs of at most two decimal places, which name the files")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class FitConfig(OptimizerOptions, ViewOptions):
    """The fit of a projector: MSE to the teachers + λ · cross-entropy to the labels (HeLlO, arXiv 2408.08201). The
    paper gives none of these values.

    What all logits of an image have in common is nothing to softmax, but CLIP's cosines have much of it, and unlearning
    it costs much of what CLIP knows: hence the default of `targets`.
    """

    GROUP = "fit"

    epochs: float = option(10, gt=0)
    """Passes of the fit over the source, at most; it ends earlier where --patience says so."""

    lr: float = option(5e-4, gt=0)

    ce: float = option(0.1, ge=0)
    """Weight λ of the cross-entropy to the labels beside the error to the teachers."""

    combine: Literal["mean", "sample"] = option("mean")
    """What several teachers teach: the mean of their logits, brought to equal norms, or one of them drawn for each part
    of a batch."""

    targets: Literal["centred", "logits", "probabilities"] = option("centred")
    """What the squared error is taken of: logits less their mean over the classes, logits as they are, or
    probabilities."""

    checks: int = option(20, ge=1)
    """How many times in the whole fit the held-out images are looked at. The delta that did best is kept, be it the one
    before the first step."""

    patience: int = option(5, ge=0)
    """Number of checks without a better one after which the fit ends; 0 to go on to the last epoch."""

    scale: Scale = option((0.5, 1.0), metavar="X")

    mix: Literal["none", "cutmix", "mixup"] = option("none")
    """How two views are mixed, as those of a student may be, so that the projector has seen such images."""

    mix_beta: float = option(1.0, gt=0)
    """With --mix: both parameters of the Beta distribution that the share of each view is drawn from."""

    def __post_init__(self) -> None:
        self.require_scale("--scale")
