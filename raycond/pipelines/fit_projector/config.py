"""The configuration of a projector's fit: filled from a preset, a YAML file and the command line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import pydantic
from pydantic.dataclasses import dataclass

from raycond.labels.projector.options import _FORBID, TRAIN, ClipTrainingConfig, FitConfig, TeacherConfig
from raycond.pipelines.options import (
    clip_place,
    field_names,
    labeler_place,
    layers,
    merge_layers,
    presets,
    settle,
    validated,
)
from raycond.runtime.resources import Resources


@dataclass(frozen=True, config=_FORBID)
class ProjectorConfig:
    """Everything that `pipelines/fit_projector.py` can be told; the field names are its options.

    data, out, size, resize, limit, classes, max_bad and the like: as in `QuantizeConfig`; size: pixels at which images
    are decoded (once, into `out`), and views made; channels: 1 for grey images. clip: a model of open_clip
    (`RN50:openai`), a local folder of one, or `train` for a small one of `clip_training`. teachers: what `teacher:`
    labelers take; `train` for the checkpoints of `teacher`'s training, `none` for the labels alone. conv_rank,
    head_rank, layout, head: of the projector (`raycond.labels.projector.network`); templates: a name of
    `labels.prompts.TEMPLATES`, or texts with {} for the class. dtype: of the delta that is written. holdout: images of
    each class, at most a fifth of it, that nothing learns from. ipc: images per class in the table of bytes. fit: its
    fields are options of their own. workers: of every training, each with gpus_per_worker (-1 for one where there are
    GPUs) and cpus_per_worker, which also sets the torch threads.
    """

    name: str
    data: str = ""
    out: str = ""
    clip: str = "RN50:openai"
    teachers: tuple[str, ...] = (TRAIN,)
    conv_rank: int = pydantic.Field(default=8, ge=0)
    head_rank: int | None = pydantic.Field(default=None, ge=0)
    layout: Literal["3x3", "peft"] = "3x3"
    head: Literal["text", "full", "scratch"] = "text"
    templates: tuple[str, ...] = ("photo",)
    dtype: Literal["float32", "float16", "int8"] = "float16"
    size: int = pydantic.Field(default=224, ge=1)
    resize: Literal["crop", "squash"] = "crop"
    channels: Literal[1, 3] = 3
    limit: int | None = pydantic.Field(default=None, ge=1)
    classes: int | None = pydantic.Field(default=None, ge=1)
    holdout: int = pydantic.Field(default=10, ge=1)
    ipc: int = pydantic.Field(default=50, ge=1)
    image_column: str | None = None
    label_column: str | None = None
    seed: int = pydantic.Field(default=0, ge=0)
    max_bad: str = "1%"
    max_pixels: int = pydantic.Field(default=178_956_970, ge=1)
    decode_threads: int = pydantic.Field(default=0, ge=0)
    checkpoint_every: int = pydantic.Field(default=1000, ge=1)
    workers: int = pydantic.Field(default=1, ge=1)
    gpus_per_worker: float = -1
    cpus_per_worker: int = pydantic.Field(default=1, ge=1)
    runner: Literal["ray", "local"] = "ray"
    dashboard: bool = True
    verbose: bool = False
    """Show on stderr everything that is written to the run's log file, raycond.log."""
    fit: FitConfig = pydantic.Field(default_factory=FitConfig)
    teacher: TeacherConfig = pydantic.Field(default_factory=TeacherConfig)
    clip_training: ClipTrainingConfig | None = None

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
        if self.gpus_per_worker not in (-1, 0, 1):
            raise ValueError(f"--gpus-per-worker {self.gpus_per_worker:g}: expected 0 or 1")
        for what, batch in self.batches.items():
            if batch % self.workers:
                raise ValueError(f"{what} {batch}: expected a multiple of --workers {self.workers}")

    @property
    def batches(self) -> dict[str, int]:
        """Of the trainings that will be, by the name of the setting."""
        found = {"--batch": self.fit.batch}
        if self.teachers == (TRAIN,):
            found["teacher, batch"] = self.teacher.batch
        if self.clip == TRAIN and self.clip_training is not None:
            found["clip_training, batch"] = self.clip_training.batch
        return found

    @property
    def resources(self) -> Resources:
        """What one worker of a training asks for."""
        return Resources(self.cpus_per_worker, self.gpus_per_worker, "worker")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-able values."""
        plain: dict[str, Any] = pydantic.TypeAdapter(ProjectorConfig).dump_python(self, mode="json")
        return plain


SECTIONS = ("fit", "teacher", "clip_training")
# field of a section → the option that it is; `--clip` names the model
FIT_OPTIONS = {name: {"ce": "lambda", "clip": "clip_norm"}.get(name, name) for name in field_names(FitConfig)}
TEACHER_OPTIONS = {"network": "teacher_network", "keep": "keep", "batch": "teacher_batch", "lr": "teacher_lr"}


def load_projector_config(
    options: Mapping[str, Any], *, preset: str | None = None, config: str | None = None
) -> ProjectorConfig:
    """Merge preset < YAML file < options (field name → value; those of `FIT_OPTIONS` and `TEACHER_OPTIONS` too). Raises
    UserError naming a wrong field."""
    found = [_teacher_apart(layer) for layer in layers(options, presets("projectors"), preset, config)]
    merged = merge_layers(found, "fit", FIT_OPTIONS)
    for section in SECTIONS[1:]:
        if any(layer.get(section) for layer in found):
            merged[section] = merge_layers(found, section, {})[section]
    settle(merged, ProjectorConfig, ("data", "out"), "-projector")
    if merged.get("clip"):
        merged["clip"] = merged["clip"] if merged["clip"] == TRAIN else clip_place(str(merged["clip"]))
    if merged.get("teachers"):
        merged["teachers"] = [labeler_place(str(spec)) for spec in merged["teachers"]]
    return validated(ProjectorConfig, merged, "fit", FIT_OPTIONS)


def _teacher_apart(layer: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the teacher's training in its section."""
    own = {field: layer[option] for field, option in TEACHER_OPTIONS.items() if option in layer}
    rest = {key: value for key, value in layer.items() if key not in TEACHER_OPTIONS.values()}
    return {**rest, "teacher": {**(layer.get("teacher") or {}), **own}} if own else rest
