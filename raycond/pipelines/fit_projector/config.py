"""The configuration of a projector's fit: filled from a preset, a YAML file and the command line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic.dataclasses import dataclass

from raycond.core.options import STRICT, Configuration, option, section
from raycond.labels.projector.options import TRAIN, ClipTrainingConfig, FitConfig, TeacherConfig
from raycond.pipelines.loading import layers, merge, presets, settle, validated
from raycond.pipelines.options import ImageOptions, MessageOptions, RunOptions, SourceOptions, WorkerOptions
from raycond.pipelines.places import clip_place, labeler_place, place
from raycond.runtime.resources import Resources


def _base_place(spec: str) -> str:
    return spec if spec == TRAIN else clip_place(spec)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ProjectorImages(ImageOptions):
    """The form in which images are decoded."""

    GROUP = "image"

    size: int = option(224, ge=1)
    """Pixels on each side of the square that images are decoded to, once, into --out; views are made from it. It should
    be that of the students' images."""

    channels: Literal[1, 3] = option(3)
    """Channels of the images: 1 for gray ones, 3 for color."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ProjectorShape(Configuration):
    """The projector: a frozen CLIP and a small delta that is learned."""

    GROUP = "projector"

    clip: str = option("RN50:openai", metavar="MODEL:TAG|DIR", place=_base_place)
    """The CLIP beneath: a model of open_clip by name and tag, a local folder of one, or train for a small one that is
    trained on the images first, as the `clip_training` section of a preset or a --config file describes it."""

    conv_rank: int = option(8, ge=0)
    """Rank of the deltas on the image tower's convolutions; 0 for none. 8 is the paper's."""

    head_rank: int | None = option(None, ge=0, unset="64 up to 100 classes, else 128")
    """Rank of the delta on the classifier of class texts; 0 for none."""

    layout: Literal["3x3", "peft"] = option("3x3")
    """Which convolutions have a delta: those of 3 × 3, or all but those of downsampling, as the library peft
    chooses."""

    head: Literal["text", "full", "scratch"] = option("text")
    """The classifier: embeddings of the class texts with a delta, one that starts at these embeddings and is learned
    whole, or one that starts at zero, for which class names say nothing."""

    templates: tuple[str, ...] = option(("photo",), metavar="TEXT")
    """Texts that class names are put into: photo, simple (OpenAI's seven), imagenet (OpenAI's eighty, with their names
    of ImageNet's classes by WordNet id), or your own with {} for the class's name or {curated} for that name."""

    dtype: Literal["float32", "float16", "int8"] = option("float16")
    """Number format of the delta that is written; int8 halves its bytes once more, and the report says what it
    costs."""

    ipc: int = option(50, ge=1)
    """Images per class for which the printed table compares the bytes of labels. It changes nothing else."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TeacherOptions(Configuration):
    """What the projector is fitted to."""

    GROUP = "teachers"

    teachers: tuple[str, ...] = option((TRAIN,), metavar="SPEC", place=labeler_place)
    """The teachers: NAME[@FILE][,OPTION=VALUE…] for each trained classifier, train for checkpoints of one that is
    trained here, or none to fit to the labels alone."""

    holdout: int = option(10, ge=1)
    """Images of each class, at most a fifth of them, that nothing learns from and on which the fit is checked."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ProjectorConfig(
    RunOptions, SourceOptions, ProjectorImages, ProjectorShape, TeacherOptions, WorkerOptions, MessageOptions
):
    """Everything that `raycond fit-projector` can be given."""

    out: str = option("", metavar="DIR", unset="runs/NAME-projector", place=place)
    """Folder of the projector: local, s3:// or gs://. On a cluster every machine must be able to write there. Give the
    folder of an earlier run to go on with it."""

    fit: FitConfig = section(FitConfig(), names={"ce": "lambda", "clip": "clip_norm"})

    teacher: TeacherConfig = section(
        TeacherConfig(),
        options=("network", "keep", "batch", "lr"),
        names={"network": "teacher_network", "batch": "teacher_batch", "lr": "teacher_lr"},
    )

    clip_training: ClipTrainingConfig | None = section(None, options=())

    def __post_init__(self) -> None:
        if not self.data:
            raise ValueError("--data: give a URI, or a --preset that has one")
        if self.clip == TRAIN and self.clip_training is None:
            raise ValueError("--clip train: needs a `clip_training` section (see the digits preset)")
        if self.head == "text" and self.conv_rank == self.head_rank == 0:
            raise ValueError("--conv-rank 0 --head-rank 0: leave nothing to fit; give a rank, or --head full")
        if not self.teachers:
            raise ValueError("--teachers: give at least one, or none")
        if len(self.teachers) > 1 and {TRAIN, "none"} & set(self.teachers):
            raise ValueError("--teachers: train and none stand alone")
        self.require_workers()
        for what, batch in self.batches.items():
            if batch % self.workers:
                raise ValueError(f"{what} {batch}: expected a multiple of --workers {self.workers}")

    @property
    def batches(self) -> dict[str, int]:
        """Of the trainings that will be, by the name of the setting."""
        found = {"--batch": self.fit.batch}
        if self.teachers == (TRAIN,):
            found["teacher.batch"] = self.teacher.batch
        if self.clip == TRAIN and self.clip_training is not None:
            found["clip_training.batch"] = self.clip_training.batch
        return found

    @property
    def resources(self) -> Resources:
        """What one worker of a training asks for."""
        return Resources(self.cpus_per_worker, self.gpus_per_worker, "worker")


def load_projector_config(
    options: Mapping[str, Any], *, preset: str | None = None, config: str | None = None
) -> ProjectorConfig:
    """The configuration of a preset, a YAML file and options, the strongest last.

    options: name of an option → its value; those of the fit too (`ce` as `lambda`, `clip` as `clip_norm`) and some of
    the teacher's training. Raises OptionError that names a wrong one.
    """
    merged = merge(ProjectorConfig, layers(options, presets("projectors"), preset, config))
    settle(ProjectorConfig, merged, "-projector")
    return validated(ProjectorConfig, merged)
