"""The configuration of an evaluation grid, filled from the command line."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from pydantic.dataclasses import dataclass

from raycond.core import files
from raycond.core.errors import OptionError, UserError
from raycond.core.options import STRICT, Configuration, option
from raycond.pipelines.loading import Layer, make_absolute, merge, require_lists, shown, validated
from raycond.pipelines.options import MAX_PIXELS, MachineOptions, MessageOptions
from raycond.pipelines.places import labeler_place, place, yaml_place
from raycond.sets.place import set_or_path


def labeler_kinds() -> tuple[str, ...]:
    from raycond.labels.registry import LABELERS  # imports torch, which a command line can do without

    return LABELERS.names()


def baseline_kinds() -> tuple[str, ...]:
    from raycond.evaluate.coresets import CORESETS  # imports torch

    return ("random", *CORESETS.names(), "full", "none")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class GridSource(Configuration):
    """Which sets are compared, and with which real images."""

    GROUP = "source"

    sets: tuple[str, ...] = option(metavar="DIR", place=set_or_path)
    """Folders of condensed sets, or of the runs that made them, that have the same classes and image size."""

    val: str | None = option(None, metavar="URI", unset="of the run that the first set lies in", place=place)
    """Address of the images to test on, in any of the forms that `raycond quantize --data` takes."""

    data: str | None = option(None, metavar="URI", unset="of the run that the first set lies in", place=place)
    """Address of the images that the sets were made from, which the baselines are taken from."""

    class_list: str | None = option(None, metavar="FILE", unset="that of the run, if it had one", place=place)
    """File with all classes in the order of their labels, as `raycond quantize` takes it."""

    image_root: str | None = option(None, metavar="DIR", unset="that of the run, if it had one", place=place)
    """Folder that the paths of images in a Parquet source may lead to, as `raycond quantize` takes it."""

    val_share: float | None = option(None, gt=0, lt=1, unset="that of the run, if it had one")
    """Share of each class of --data that is tested on and left out of the baselines. The sets must have been made with
    the same share and seed, or they would be tested on what they were made from."""

    allow_overlap: bool = option(False)
    """Go on where more than 1 % of the validation images are training images too, byte for byte, or where a set was
    made from the images that --val-share holds out."""

    max_bad: str = option("1%", metavar="N|P%")
    """How many validation images may turn out unreadable before the grid stops, as a number or a share of all. Those
    that are left out are listed in quarantine.parquet with the reason."""

    max_pixels: int = option(MAX_PIXELS, ge=1)
    """Number of pixels above which an image is left out as a decompression bomb. Lower it where images come from people
    you do not trust; raise it where they are larger."""

    out: str = option(metavar="DIR", unset="grid, beside the first set", place=place)
    """Folder of the results: local, s3:// or gs://. Give the folder of an earlier grid to go on with it."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TrainingOptions(Configuration):
    """What is trained, and how."""

    GROUP = "training"

    students: tuple[str, ...] = option(("convnet3-w32", "mlp"), metavar="NAME")
    """Networks that are trained from scratch: convnet3 to convnet6 and mlp (with options, such as convnet4-w64-bn),
    resnetap10, any classifier of torchvision, or timm/NAME."""

    ipc: tuple[int, ...] = option((), unset="all of the first set")
    """Images per class, of those that every set has."""

    protocol: str = option("quick", metavar="NAME", place=yaml_place)
    """Recipe under which students are trained and tested: a preset such as rded, dc-bench or quick, or a .yaml file of
    your own. Numbers of different protocols do not compare."""

    changes: dict[str, Any] = option({}, name="set", metavar="FIELD=VALUE", unset="the protocol as it is")
    """Settings of the protocol to change for every training, such as steps=500 or scale=[0.25,1]. What is changed no
    longer compares with published numbers."""

    seeds: tuple[int, ...] = option((0, 1, 2))
    """Seeds of the trainings; every student is trained once with each. At least two are needed to see how much chance
    does."""

    labeler: str = option(
        "hard", metavar="KIND[:WHERE]", choices=labeler_kinds, place=labeler_place, unset="the protocol's, or hard"
    )
    """What a student learns that an image is: hard for the stored label, teacher:NAME[@FILE] for a soft label of every
    augmented view (teacher:NAME:IMAGENET1K_V1 for one of the weights that torchvision has), once:NAME[@FILE] for one
    soft label of each image, projector:DIR for views labeled by CLIP and a fitted delta, stored:DIR for views whose
    labels were stored before."""

    weights: tuple[Literal["uniform", "density", "sqrt"], ...] = option((), unset="uniform and the set's own")
    """Training weights with which each set is tried."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ComparisonOptions(Configuration):
    """What the sets are compared with."""

    GROUP = "comparison"

    baselines: tuple[str, ...] | None = option(
        None,
        metavar="NAME",
        unset="random and medoid; full too where the protocol fixes the steps",
        choices=baseline_kinds,
    )
    """Rows of real images beside the sets. random and medoid are always there; herding, k-center and el2n choose by the
    features of a network that is trained first, full is all images; none leaves them all out."""

    scores: bool = option(False)
    """Compute DD-Ranking's scores, which need more trainings: with hard labels (without mixing), without augmentation,
    and on all images."""

    score_lrs: tuple[float, ...] = option((), metavar="LR", unset="the protocol's alone")
    """With --scores: learning rates that the trainings with hard labels and those on random images are tried with, of
    which the best counts. DD-Ranking tries 0.001 0.005 0.01 0.05 0.1, and chooses on the test images as this does."""

    full_accuracy: float | None = option(None, ge=0, le=100, metavar="PERCENT", unset="all images are trained on")
    """With --scores: accuracy of all images with hard labels, where it is known, in place of a training on them."""

    proxy_student: str = option("convnet3-w32", metavar="NAME")
    """With herding, k-center or el2n: the network whose features and scores choose the images."""

    proxy_nets: int = option(3, ge=1)
    """With herding, k-center or el2n: number of such networks that are trained; their scores are averaged."""

    proxy_steps: int = option(200, ge=1)
    """With herding, k-center or el2n: steps of the training of each."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TrialOptions(Configuration):
    """How trainings share the machine."""

    GROUP = "machine"

    trials_at_once: int = option(0, ge=0, unset="as many as memory and processors hold")
    """Trainings that run beside each other."""

    gpus_per_trial: float = option(-1, unset="a share by measured memory")
    """GPUs of each training: a fraction up to 1 for several on one GPU, or 0 to train on CPUs."""

    cpus_per_trial: int = option(1, ge=1)
    """CPUs that Ray sets aside for each training."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class GridConfig(GridSource, TrainingOptions, ComparisonOptions, TrialOptions, MachineOptions, MessageOptions):
    """Everything that `raycond evaluate` can be given."""

    def __post_init__(self) -> None:
        require_lists(self, "sets", "students", "seeds")
        if self.baselines and "none" in self.baselines and len(self.baselines) > 1:
            raise ValueError("--baselines: none goes with no other")
        for field, given in (("score-lrs", self.score_lrs), ("full-accuracy", self.full_accuracy is not None)):
            if given and not self.scores:
                raise ValueError(f"--{field}: does nothing without --scores")
        if any(not 0 < lr < math.inf for lr in self.score_lrs) or len(set(self.score_lrs)) != len(self.score_lrs):
            raise ValueError(f"--score-lrs: expected numbers above 0, none twice, not {shown(self.score_lrs)}")
        if self.gpus_per_trial != -1 and not 0 <= self.gpus_per_trial <= 1:
            raise ValueError(f"--gpus-per-trial: expected a fraction from 0 to 1, not {self.gpus_per_trial:g}")


def _labeler_of_protocol(values: Mapping[str, Any]) -> str | None:
    """The source's own labels, unless the loss was changed to that of hard ones."""
    from raycond.evaluate.protocol import recipe  # imports torch

    try:
        fields = recipe(str(values.get("protocol", GridConfig.protocol))).fields
    except UserError:
        return None  # whoever opens the protocol says what is wrong
    changes = values.get("changes") or {}
    loss = changes.get("loss", fields.get("loss")) if isinstance(changes, Mapping) else None
    return fields.get("labeler") if loss != "cross-entropy" else None


def load_grid_config(options: Mapping[str, Any]) -> GridConfig:
    """The configuration of options: name or field → value. Raises OptionError that names a wrong one."""
    if not options.get("sets"):
        raise OptionError("--sets: give at least one folder of a condensed set")
    merged = merge(GridConfig, [Layer(options)])
    make_absolute(GridConfig, merged)
    if "labeler" not in merged.values and (own := _labeler_of_protocol(merged.values)) is not None:
        merged.values["labeler"] = own
    merged.values.setdefault("out", files.join(merged.values["sets"][0].rpartition("/")[0], "grid"))
    return validated(GridConfig, merged)
