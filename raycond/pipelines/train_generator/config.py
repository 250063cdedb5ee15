"""The configuration of a generator's training: filled from a preset, a YAML file and the command line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import pydantic
from pydantic.dataclasses import dataclass

from raycond.models.codecs.autoencoder import AutoencoderConfig
from raycond.models.generators.options import DitConfig
from raycond.pipelines.options import field_names, layers, merge_layers, presets, settle, spec_place, validated
from raycond.runtime.resources import Resources


@dataclass(frozen=True, config=pydantic.ConfigDict(extra="forbid"))
class GeneratorTrainingConfig:
    """Everything that `pipelines/train_generator.py` can be told; the field names are its options.

    data, out, codec, posterior, dtype, size, resize, limit, classes, max_bad and the like: as in `QuantizeConfig`.
    codec: `kl:WHERE`, or `train`; a DiTPipeline holds no other kind. flip: train on mirrored images too. dit: the
    network and its training; each of its fields is an option of its own. batch_encode: images encoded at once.
    checkpoint_every: steps. workers: of the training, each with gpus_per_worker (-1 for one where there are GPUs) and
    cpus_per_worker, which also sets the torch threads. Neither changes which latents, noise and times a step sees; they
    change the order of sums, and so the last bits.
    """

    name: str
    data: str = ""
    out: str = ""
    codec: str = "kl:stabilityai/sd-vae-ft-mse"
    posterior: Literal["mean", "sample"] = "mean"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    size: int = pydantic.Field(default=256, ge=1)
    resize: Literal["crop", "squash"] = "crop"
    flip: bool = False
    limit: int | None = pydantic.Field(default=None, ge=1)
    classes: int | None = pydantic.Field(default=None, ge=1)
    image_column: str | None = None
    label_column: str | None = None
    seed: int = pydantic.Field(default=0, ge=0)
    max_bad: str = "1%"
    max_pixels: int = pydantic.Field(default=178_956_970, ge=1)
    batch_encode: int = pydantic.Field(default=32, ge=1)
    decode_threads: int = pydantic.Field(default=0, ge=0)
    checkpoint_every: int = pydantic.Field(default=1000, ge=1)
    workers: int = pydantic.Field(default=1, ge=1)
    gpus_per_worker: float = -1
    cpus_per_worker: int = pydantic.Field(default=1, ge=1)
    runner: Literal["ray", "local"] = "ray"
    dashboard: bool = True
    verbose: bool = False
    """Show on stderr everything that is written to the run's log file, raycond.log."""
    dit: DitConfig = pydantic.Field(default_factory=DitConfig)
    autoencoder: AutoencoderConfig | None = None

    def __post_init__(self) -> None:
        if not self.data:
            raise ValueError("--data: give a URI, or a --preset that has one")
        if self.codec.partition(":")[0] not in ("kl", "train"):
            raise ValueError(f"--codec {self.codec}: a DiTPipeline holds an AutoencoderKL: give kl:WHERE, or train")
        if self.codec == "train" and self.autoencoder is None:
            raise ValueError("--codec train: needs an `autoencoder` section (see the digits preset)")
        if self.dit.batch % self.workers:
            raise ValueError(f"--batch {self.dit.batch}: expected a multiple of --workers {self.workers}")
        if self.gpus_per_worker not in (-1, 0, 1):
            raise ValueError(f"--gpus-per-worker {self.gpus_per_worker:g}: expected 0 or 1")

    @property
    def resources(self) -> Resources:
        """What one worker of a training asks for."""
        return Resources(self.cpus_per_worker, self.gpus_per_worker, "worker")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-able values."""
        plain: dict[str, Any] = pydantic.TypeAdapter(GeneratorTrainingConfig).dump_python(self, mode="json")
        return plain


def load_generator_config(
    options: Mapping[str, Any], *, preset: str | None = None, config: str | None = None
) -> GeneratorTrainingConfig:
    """Merge preset < YAML file < options (field name → value; those of `DitConfig` too). Raises UserError naming a
    wrong field."""
    section = {name: name for name in field_names(DitConfig)}
    merged = merge_layers(layers(options, presets("generators"), preset, config), "dit", section)
    settle(merged, GeneratorTrainingConfig, ("data", "out"), "-dit")
    if merged.get("codec"):
        merged["codec"] = spec_place(str(merged["codec"]))
    return validated(GeneratorTrainingConfig, merged, "dit", section)
