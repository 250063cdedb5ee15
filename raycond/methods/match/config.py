"""The settings of a matching phase: typed, checked, and independent of where the images come from."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Literal

import pydantic
from pydantic.dataclasses import dataclass

from raycond.core.errors import UserError
from raycond.methods.match.formation import Decoder
from raycond.training.augment import dsa_operations
from raycond.training.augment.diffaug import diffaug_operations

Augment = Literal["none", "dsa", "idc"]
_STRICT = pydantic.ConfigDict(extra="forbid")


@dataclass(frozen=True, config=_STRICT)
class SamplingConfig:
    """Which real images a matching step sees."""

    kind: Literal["random", "dream"] = "random"
    """`random` real images of each class, or DREAM's representative ones: those nearest to the centers of clusters of
    the features of the current network."""

    order: Literal["draw", "epochs"] = "draw"
    """Of `random`: an independent draw without replacement for each step (DC, DSA, DM), or batches that go through a
    shuffle of the class before the next shuffle begins (IDC)."""

    clusters: int = pydantic.Field(default=128, ge=1)
    """Of `dream`: clusters of each class, at most the number of its images. DREAM takes 128, and 64 on TinyImageNet."""

    per_cluster: int = pydantic.Field(default=1, ge=1)
    """Of `dream`: real images from each cluster, so that a class's batch is `clusters` times this number. DREAM's value
    is 1; DREAM+ divides a batch of 128 among fewer clusters with more images each."""

    select: Literal["nearest", "closest"] = "nearest"
    """Of `dream`: `nearest` takes the images nearest to every center; `closest` takes the images that lie closest to
    their centers over all clusters, as many as there are clusters, so that clusters may go unused (DREAM+ on
    TinyImageNet)."""

    recluster: int = pydantic.Field(default=10, ge=1)
    """Of `dream`: matching steps between two clusterings. They are counted from the first step of a network where
    networks last at least that long, else over all steps. A larger number saves time: the forward pass of all images
    of a class is what a clustering costs."""

    candidates: int = pydantic.Field(default=0, ge=0)
    """Of `dream`: how many images of each class, drawn anew for each clustering, take part; 0 for all, as in the paper.
    Set it where the forward pass of all images takes too much of the time."""

    pixels: Literal["normalized", "raw"] = "normalized"
    """Of `dream`: the pixels that the network sees when it computes features. The released DREAM clusters raw pixels in
    [0, 1] although it trains the network on normalized ones."""

    lloyd_iterations: int = pydantic.Field(default=10, ge=1)
    """Of `dream`: most iterations of k-means, which starts from random images. The released DREAM allows 100; after 10
    the distortion of a CIFAR-10 class is within a tenth of a percent of its end."""


@dataclass(frozen=True, config=_STRICT)
class NetworkTraining:
    """How the network changes between the matching steps that share it."""

    data: Literal["none", "synthetic", "real"] = "none"
    """Images that the network learns after every matching step but the last: none, the synthetic ones of all classes
    (DC, DSA), or real ones of all classes (IDC)."""

    epochs: int = pydantic.Field(default=1, ge=1)
    """Of `synthetic`: passes over the synthetic images after each matching step (DC's inner loop)."""

    images: int = pydantic.Field(default=2000, ge=1)
    """Of `real`: real images after each matching step, rounded up to full batches (IDC's n_data)."""

    batch: int = pydantic.Field(default=256, ge=1)
    """Images of one optimizer step of the network."""

    lr: float = pydantic.Field(default=0.01, gt=0)
    """Learning rate of the network's SGD."""

    momentum: float = pydantic.Field(default=0.0, ge=0, lt=1)
    """Momentum of the network's SGD."""

    weight_decay: float = pydantic.Field(default=0.0, ge=0)
    """Weight decay of the network's SGD, on all parameters."""

    strategy: str = ""
    """Operations of the augmentation, drawn for each image; the kind is that of the matching (`augment`). Empty for
    none."""

    cutmix: float = pydantic.Field(default=0.0, ge=0, le=1)
    """Probability that a batch of real images is mixed by CutMix with λ ~ Beta(1, 1)."""

    pretrain: int = pydantic.Field(default=0, ge=0)
    """Epochs over all real images that every new network gets before its first matching step, with the settings above
    (IDC on ImageNet-10: 10; DREAM+: 1). Expensive: it is paid for every network."""


@dataclass(frozen=True, config=_STRICT)
class MatchConfig:
    """Everything that decides the result of a matching phase, besides the real images and the seed.

    `published.published` fills it with a paper's values. One iteration draws a new network, and takes `steps` matching
    steps with it.
    """

    method: str = "dc"
    """What is matched, and how: `registry.names()` lists the methods."""

    ipc: int = pydantic.Field(default=1, ge=1)
    """Stored images per class."""

    network: str = "convnet3"
    """The student whose gradients or features are matched, by the name that `raycond.models.students.build` takes. A
    narrower one, such as convnet3-w32, costs up to 15 times less."""

    iterations: int = pydantic.Field(default=1000, ge=1)
    """Networks that are drawn, one after the other (the papers' outer iterations)."""

    steps: int = pydantic.Field(default=1, ge=1)
    """Matching steps with each network."""

    lr: float = pydantic.Field(default=0.1, gt=0)
    """Learning rate of the images, in the pixel space of `pixels`, as the optimizer uses it."""

    momentum: float = pydantic.Field(default=0.5, ge=0, lt=1)
    """Momentum of the images' SGD."""

    image_step: Literal["sum", "class"] = "sum"
    """One optimizer step on the sum of the losses of all classes, or one for each class in turn, with a momentum that
    goes on moving the images of the other classes (IDC)."""

    batch: int = pydantic.Field(default=256, ge=1)
    """Real images of each class in a matching step under random sampling; with DREAM, `sampling.clusters` decides."""

    distance: Literal["cosine", "global-cosine", "mse", "l1", "l1-mean"] = "cosine"
    """Between real and synthetic gradients (`gradient.DISTANCES`); of features, where they are matched, too (not the
    cosines)."""

    weights: Literal["all", "matrices", "convolutions"] = "matrices"
    """Parameters whose gradients are matched: all, those of at least two dimensions (DC, DSA; biases and norms
    contribute nothing to their cosine), or of convolutions only (IDC)."""

    feature_weight: float = pydantic.Field(default=0.0, ge=0)
    """Factor of the distance between mean features, added to the distance of gradients (DREAM+: 1)."""

    pixels: Literal["normalized", "unit"] = "normalized"
    """What the optimizer moves: normalized pixels without limits (DC, DSA, DM), or pixels in [0, 1], clamped whenever a
    new network is drawn (IDC)."""

    init: Literal["noise", "random", "first", "kmeans"] = "random"
    """Where images start: noise; real images drawn by the seed; the first ones of each class, as the released IDC and
    DREAM do; or the real images nearest to the centers of clusters of a random network's features (DREAM)."""

    factor: int = pydantic.Field(default=1, ge=1)
    """Tiles per side of a stored image (IDC's multi-formation factor): 2 for images of up to 64 pixels, 3 for 224."""

    decoder: Decoder = "single"
    """How tiles become training images: see `formation.Formation`."""

    max_synthetic: int = pydantic.Field(default=128, ge=1)
    """Most training images of a class in a matching step; of more, this many are drawn anew for each step. With the
    decoder `bound` also its bound."""

    augment: Augment = "none"
    """Siamese augmentation: the same transform of the real and of the synthetic images of a class, drawn anew for each
    step; `dsa` applies one of the operations, `idc` several."""

    strategy: str = ""
    """The operations of `augment`, joined by `_`, such as color_crop_cutout_flip_scale_rotate."""

    sampling: SamplingConfig = pydantic.Field(default_factory=SamplingConfig)
    """Which real images are matched."""

    training: NetworkTraining = pydantic.Field(default_factory=NetworkTraining)
    """How the network changes between matching steps."""

    precision: Literal["auto", "float32", "mixed", "bfloat16"] = "auto"
    """Of convolutions and products. `mixed`: bfloat16 for everything that is differentiated at most once (gradients of
    real images, features, training of the network), float32 for the synthetic images. `bfloat16`: for those too, which
    turns the gradient of an image by up to 12 degrees. `auto`: `mixed` where the device multiplies bfloat16 in
    hardware, else `float32`."""

    chunk: int = pydantic.Field(default=0, ge=0)
    """Real images that go through the network at once; 0 for what is fastest: as many as fill 4 MiB with their largest
    map on a CPU, and all of a class's batch on a GPU. It moves results by rounding only."""

    compile: Literal["none", "default", "reduce-overhead"] = "none"
    """torch.compile of the passes through the network; `reduce-overhead` replays CUDA graphs on a GPU. Compiling takes
    a minute or two and pays for long runs."""

    log_every: int = pydantic.Field(default=1, ge=1)
    """Matching steps between two entries of the loss curve, at which the state can be saved."""

    def __post_init__(self) -> None:
        if self.augment == "none" and (self.strategy or self.training.strategy):
            raise ValueError("strategy: needs an augmentation: give --augment dsa or idc, or leave the strategy out")
        for strategy in (self.strategy, self.training.strategy):
            _check_strategy(self.augment, strategy)
        if self.feature_weight and self.distance in ("cosine", "global-cosine"):
            raise ValueError(f"feature_weight: mean features are compared by mse, l1 or l1-mean, not {self.distance}")
        if self.sampling.select == "closest" and self.sampling.per_cluster > 1:
            raise ValueError("sampling.per_cluster: expected 1 with select closest, which takes one image a cluster")

    @property
    def total(self) -> int:
        """Matching steps of the phase."""
        return self.iterations * self.steps

    @property
    def real_batch(self) -> int:
        """Real images of each class in a matching step, where the class has as many."""
        s = self.sampling
        return self.batch if s.kind == "random" else s.clusters * s.per_cluster

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-able values."""
        return asdict(self)


def _check_strategy(augment: Augment, strategy: str) -> None:
    if not strategy:
        return
    try:
        (dsa_operations if augment == "dsa" else diffaug_operations)(strategy)
    except UserError as error:
        raise ValueError(str(error)) from error
