"""The configuration of a matching run: filled from a preset, a YAML file and the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from functools import cached_property
from typing import Any, Literal

import pydantic
from pydantic.dataclasses import dataclass

from raycond.core.errors import OptionError
from raycond.core.options import STRICT, Configuration, option
from raycond.core.registry import did_you_mean
from raycond.methods.match import published, registry
from raycond.methods.match.config import MatchConfig, NetworkTraining, SamplingConfig
from raycond.pipelines.loading import layers, merge, presets, require_lists, settle, validated
from raycond.pipelines.options import (
    DecodingOptions,
    ImageOptions,
    MachineOptions,
    MessageOptions,
    RunOptions,
    SourceOptions,
    ValidationSource,
)
from raycond.pipelines.places import yaml_place
from raycond.runtime.resources import Resources

MOST_ENTRIES = 5000  # of a loss curve, where no other number is asked for
_SECTIONS: dict[str, Any] = {"sampling": SamplingConfig, "training": NetworkTraining}
_OWN = {name: name for name in ("method", "ipc", "network", "iterations", "factor", "init")} | {
    "sampling.kind": "sampling",
    "sampling.clusters": "clusters",
    "sampling.recluster": "recluster",
}  # settings that have options of their own


def datasets() -> tuple[str, ...]:
    """The data sets whose published values are known."""
    return tuple(published.DATASETS)


def settings() -> tuple[str, ...]:
    """The names that --set takes."""
    plain = [one.name for one in fields(MatchConfig) if one.name not in _SECTIONS]
    inside = [f"{name}.{one.name}" for name, kind in _SECTIONS.items() for one in fields(kind)]
    return tuple(name for name in (*plain, *inside) if name not in _OWN)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MatchedImages(ImageOptions):
    """The form in which images are decoded."""

    GROUP = "image"

    size: int = option(0, ge=0, unset="that of --published")
    """Pixels on each side of the square that images are brought to when they are read."""

    channels: Literal[0, 1, 3] = option(0, unset="that of --published")
    """Channels of the images: 1 for gray, 3 for color."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MatchingOptions(Configuration):
    """How images are optimized. What is not given has the value of the method's paper on the data set --published."""

    GROUP = "matching"

    method: Literal["dc", "dsa", "dm", "idc"] = option("dc")
    """What is matched: dc the gradients of a network that learns the images, dsa the same under augmentation, dm the
    mean features of random networks, idc the gradients of a network that learns real images, with several images in
    one."""

    sampling: Literal["random", "dream"] = option("random")
    """Which real images a step sees: random ones of each class, or with dream those nearest to the centers of clusters
    of the class, which needs far fewer iterations."""

    published: str = option("cifar10", choices=datasets)
    """Data set whose published settings fill in what is not given; presets name their own. For images of your own give
    the one that is most like them."""

    ipc: tuple[int, ...] = option((10,))
    """Images per class to condense to; a set holds one version for each number, and each is an optimization of its
    own."""

    network: str | None = option(None, metavar="NAME", unset="the paper's")
    """Network whose gradients or features are matched: convnet3 to convnet6 and mlp (with options, such as
    convnet3-w32), or resnetap10. A narrow one costs up to 15 times less."""

    iterations: int | None = option(None, ge=1, unset="the paper's")
    """Networks that are drawn one after the other; each serves as many steps as the method takes with one. The time
    grows with it."""

    factor: int = option(1, ge=1)
    """Tiles on each side of a stored image, each of them a training image of its own (IDC): 2 for images of up to 64
    pixels, 3 for 224."""

    init: Literal["noise", "random", "first", "kmeans"] | None = option(None, unset="the paper's")
    """Where images start: noise, real images drawn by --seed, the first ones of each class (as the released IDC and
    DREAM do), or those nearest to the centers of clusters."""

    clusters: int | None = option(None, ge=1, unset="the paper's")
    """With --sampling dream: clusters of each class, and so real images of it in a step."""

    recluster: int | None = option(None, ge=1, unset="the paper's")
    """With --sampling dream: steps between two clusterings. More save time; the forward pass of a class's images is
    what a clustering costs."""

    changes: dict[str, Any] = option({}, name="set", metavar="FIELD=VALUE", unset="the paper's values")
    """Further settings of the matching, such as lr=0.05, feature_weight=1 or training.cutmix=0; a name that is unknown
    lists them all."""

    normalization: Literal["measured", "published"] = option("measured")
    """Mean and deviation by which images are normalized: of the training images, or those of the code of the method on
    the data set --published. They travel with the set, and the evaluation takes them."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ResultOptions(Configuration):
    """What a run leaves behind, and how it is evaluated at its end."""

    GROUP = "evaluation"

    snapshots: int = option(10, ge=0)
    """How often, evenly spread, the images so far are kept and shown as a grid. The first snapshot, of the images
    before the first step, is on top."""

    curve: bool = option(False)
    """Train a student on every snapshot too, with the first of --seeds, for the curve of accuracy against iterations
    and seconds. It costs a training for each."""

    evaluate: bool = option(True)
    """Train students on the set and on baselines of real images at the end. Leave it out to compare later, and with
    more choices, by `raycond evaluate`."""

    protocol: str | None = option(None, metavar="NAME", unset="the paper's", place=yaml_place)
    """Recipe under which students are trained and tested; see `raycond evaluate`. Numbers of different protocols do not
    compare."""

    students: tuple[str, ...] = option((), metavar="NAME", unset="the network that is matched")
    """Networks that are trained from scratch."""

    seeds: tuple[int, ...] = option((0, 1, 2))
    """Seeds of the trainings; every student is trained once with each."""

    baselines: tuple[Literal["random", "medoid", "full", "none"], ...] = option(("random", "medoid", "full"))
    """Rows of real images beside the set: random ones, those nearest to the centers of clusters of the pixels of each
    class, all training images. Under most protocols of these methods full takes far longer than all else; none leaves
    them all out."""

    image_format: Literal["png", "webp"] = option("png")
    """File format of the 8-bit images of the set; both lose nothing more than the rounding."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PhaseOptions(MachineOptions, DecodingOptions):
    """The processes that optimize. Every IPC is a phase of its own, and so is every part of the classes."""

    GROUP = "machine"

    parts: int = option(1, ge=1)
    """Groups of classes that are optimized apart, each with networks of its own; dc and dsa, whose networks learn the
    images of all classes, have one. More spread over more workers, and change the images of idc, where the steps of one
    class move the others (IDC itself has five on ImageNet-100)."""

    workers: int = option(0, ge=0, unset="as many as fit")
    """Phases that are worked on at the same time. It changes no image."""

    gpus_per_worker: float = option(-1, unset="1 where there are GPUs")
    """GPUs of each phase: 1, a fraction for several on one GPU, or 0 for none."""

    cpus_per_worker: int = option(1, ge=1)
    """CPUs of each phase, and its torch threads. float32 sums depend on it: keep it to get the same bytes again."""

    checkpoint_every: int = option(50, ge=1, metavar="STEPS")
    """Matching steps between checkpoints, from which a phase goes on after it was stopped."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MatchingConfig(
    RunOptions,
    SourceOptions,
    ValidationSource,
    MatchedImages,
    MatchingOptions,
    ResultOptions,
    PhaseOptions,
    MessageOptions,
):
    """Everything that `raycond match` can be given."""

    def __post_init__(self) -> None:
        if not self.data:
            raise ValueError("--data: give a URI")
        require_lists(self, "ipc", "seeds", "baselines")
        if "none" in self.baselines and len(self.baselines) > 1:
            raise ValueError("--baselines: none goes with no other")
        if self.published not in published.DATASETS:
            hint = did_you_mean(self.published, published.DATASETS)
            raise ValueError(
                f"--published: expected one of {', '.join(published.DATASETS)}{hint}, not {self.published!r}"
            )
        if self.sampling != "dream" and (self.clusters or self.recluster):
            name = "clusters" if self.clusters else "recluster"
            raise ValueError(f"--{name}: goes with --sampling dream")
        if not (self.gpus_per_worker == -1 or 0 <= self.gpus_per_worker <= 1):
            raise ValueError(f"--gpus-per-worker {self.gpus_per_worker:g}: expected a fraction from 0 to 1")
        if self.parts > 1 and self.matching(self.ipc[0]).training.data == "synthetic":
            raise ValueError(
                f"--parts {self.parts}: the networks of {self.method} learn the images of all classes, so it has one"
            )
        for ipc in self.ipc:
            self.matching(ipc)

    @property
    def row(self) -> str:
        """The method's name in results."""
        return self.method + ("+dream" if self.sampling == "dream" else "")

    @property
    def side(self) -> int:
        return self.size or published.DATASETS[self.published].size

    @property
    def depth(self) -> Literal[1, 3]:
        """Channels of an image."""
        return 3 if (self.channels or published.DATASETS[self.published].channels) == 3 else 1

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        return self.depth, self.side, self.side

    @property
    def constants(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """The published mean and deviation of each channel, if they are asked for."""
        if self.normalization == "measured":
            return None
        return published.normalization(self.method, self.published)

    @property
    def protocol_name(self) -> str:
        return self.protocol or published.protocol(self.method, self.published, factor=self.factor)

    @cached_property
    def student_names(self) -> tuple[str, ...]:
        return self.students or (self.matching(self.ipc[0]).network,)

    @property
    def resources(self) -> Resources:
        """What one phase asks for."""
        return Resources(self.cpus_per_worker, self.gpus_per_worker, "worker")

    def matching(self, ipc: int) -> MatchConfig:
        """The settings of the optimization at one IPC. Raises ValueError that names what is wrong in --set."""
        found = published.published(
            self.method, self.published, ipc, factor=self.factor, sampling=self.sampling, size=self.side
        )
        given = {"network": self.network, "iterations": self.iterations, "init": self.init}
        given |= {"sampling.clusters": self.clusters, "sampling.recluster": self.recluster}
        values = {name: value for name, value in given.items() if value is not None} | self._changes()
        plain = {name: value for name, value in values.items() if "." not in name}
        try:
            for section in _SECTIONS:
                inside = {n.partition(".")[2]: v for n, v in values.items() if n.startswith(f"{section}.")}
                if inside:
                    plain[section] = replace(getattr(found, section), **inside)
            found = replace(found, **plain)
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "matching"
            raise ValueError(f"--set {where}: {first['msg'].removeprefix('Value error, ')}") from error
        if "log_every" not in values:
            found = replace(found, log_every=max(1, found.total // MOST_ENTRIES))
        return found

    def _changes(self) -> dict[str, Any]:
        known = settings()
        for name in self.changes:
            if name not in known:
                hint = f": give --{_OWN[name]}" if name in _OWN else did_you_mean(name, known)
                raise ValueError(f"--set {name}: is not a setting{hint}. Settings: {', '.join(known)}")
        return self.changes


def load_matching_config(
    options: Mapping[str, Any], *, preset: str | None = None, config: str | None = None
) -> MatchingConfig:
    """The configuration of a preset, a YAML file and options, the strongest last.

    options: name of an option → its value. Raises OptionError that names a wrong one.
    """
    merged = merge(MatchingConfig, layers(options, presets("match"), preset, config))
    settle(MatchingConfig, merged, f"-{merged.values.get('method', 'dc')}")
    if merged.values.get("method", "dc") not in registry.names():
        raise OptionError(f"--method {merged.values['method']}: expected one of {', '.join(registry.names())}")
    return validated(MatchingConfig, merged)
