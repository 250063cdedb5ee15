"""The configuration of a generator's training: filled from a preset, a YAML file and the command line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic.dataclasses import dataclass

from raycond.core.options import STRICT, Configuration, option, section
from raycond.models.codecs.options import AutoencoderConfig
from raycond.models.generators.options import DitConfig
from raycond.pipelines.loading import layers, merge, presets, settle, validated
from raycond.pipelines.options import (
    CODEC,
    CodecOptions,
    ImageOptions,
    MessageOptions,
    RunOptions,
    SourceOptions,
    WorkerOptions,
    fill_in_autoencoder,
)
from raycond.pipelines.places import place, spec_place
from raycond.runtime.resources import Resources


@dataclass(frozen=True, kw_only=True, config=STRICT)
class EncodingOptions(Configuration):
    """How images are brought to latents, once, before the training."""

    GROUP = "image"

    flip: bool = option(False)
    """Train on mirrored images too. Leave it off where left and right differ, as in digits."""

    batch_encode: int = option(32, ge=1)
    """Images encoded at once. A larger batch is faster on a GPU with room for it; it may change the last bits of a
    latent."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class GeneratorTrainingConfig(
    RunOptions, SourceOptions, ImageOptions, EncodingOptions, CodecOptions, WorkerOptions, MessageOptions
):
    """Everything that `raycond train-generator` can be given."""

    out: str = option("", metavar="DIR", unset="runs/NAME-dit", place=place)
    """Folder that becomes a DiTPipeline of diffusers: local, s3:// or gs://. On a cluster every machine must be able to
    write there. Give the folder of an earlier run to go on with it."""

    codec: str = option(CODEC, metavar="KIND[:WHERE]", place=spec_place)
    """The codec: kl:WHERE for an AutoencoderKL of diffusers from a hub name or a folder, or train for a small one that
    is trained on the images first, as the `autoencoder` section of a preset or a --config file describes it. A
    DiTPipeline holds no other kind."""

    dit: DitConfig = section(DitConfig())

    autoencoder: AutoencoderConfig | None = section(None, options=())

    def __post_init__(self) -> None:
        if not self.data:
            raise ValueError("--data: give a URI, or a --preset that has one")
        if self.codec.partition(":")[0] not in ("kl", "train"):
            raise ValueError(f"--codec {self.codec}: a DiTPipeline holds an AutoencoderKL: give kl:WHERE, or train")
        if self.codec == "train" and self.autoencoder is None:
            raise ValueError("--codec train: needs an `autoencoder` section (see the digits preset)")
        if self.dit.batch % self.workers:
            raise ValueError(f"--batch {self.dit.batch}: expected a multiple of --workers {self.workers}")
        self.require_workers()

    @property
    def resources(self) -> Resources:
        """What one worker of a training asks for."""
        return Resources(self.cpus_per_worker, self.gpus_per_worker, "worker")


def load_generator_config(
    options: Mapping[str, Any], *, preset: str | None = None, config: str | None = None
) -> GeneratorTrainingConfig:
    """The configuration of a preset, a YAML file and options, the strongest last.

    options: name of an option → its value; those of `DitConfig` too. Raises OptionError that names a wrong one.
    """
    merged = merge(GeneratorTrainingConfig, layers(options, presets("generators"), preset, config))
    settle(GeneratorTrainingConfig, merged, "-dit")
    fill_in_autoencoder(merged.values, int(merged.values.get("size") or GeneratorTrainingConfig.size))
    return validated(GeneratorTrainingConfig, merged)
