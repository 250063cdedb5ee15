"""Options of the diffusion generators, and of the training of a small DiT."""

from __future__ import annotations

from typing import Literal

import pydantic
from pydantic.dataclasses import dataclass

from raycond.pipelines.options import field_names


@dataclass(frozen=True, config=pydantic.ConfigDict(extra="forbid"))
class GeneratorOptions:
    """How a diffusion generator makes an image from a centroid.

    strength (sd): share of the steps that image-to-image runs. noise (dit): share of the schedule from which the
    reverse process starts; 1 is plain sampling from noise. D4M's 0.7 of Stable Diffusion's schedule and 0.5 of DiT's
    leave the centroid about equally visible (√ᾱ of 0.29 and 0.28). guidance: classifier-free scale, by default 8 (D4M)
    for sd and 4 (Peebles & Xie) for dit; up to 1 there is none. scheduler: by default the pipeline's own. prompt: with
    {name} and {id} of the class; negative_prompt: D4M's. mode_guidance: λ of MGD3 (0.1 there), applied while the time
    is above the share mode_stop of the schedule. class_map (dit): the model's class of each class in order,
    `0+217+482`, or a JSON file with a list or an object id → class. batch: images at once; it moves no image by more
    than rounding, so it is no part of what an image is.
    """

    strength: float = pydantic.Field(default=0.7, gt=0, le=1)
    guidance: float | None = pydantic.Field(default=None, ge=0)
    steps: int = pydantic.Field(default=50, ge=1)
    scheduler: Literal["ddim", "ddpm", "dpm", "pndm", "euler"] | None = None
    prompt: str = "{name}"
    negative_prompt: str = "cartoon, anime, painting"
    noise: float = pydantic.Field(default=0.5, gt=0, le=1)
    mode_guidance: float = pydantic.Field(default=0.0, ge=0)
    mode_stop: float = pydantic.Field(default=0.5, ge=0, lt=1)
    class_map: str | None = None
    batch: int = pydantic.Field(default=16, ge=1)


def changed(options: GeneratorOptions) -> list[str]:
    """Names of the options that are not at their defaults."""
    defaults = GeneratorOptions()
    return [name for name in field_names(GeneratorOptions) if getattr(options, name) != getattr(defaults, name)]


@dataclass(frozen=True, config=pydantic.ConfigDict(extra="forbid"))
class DitConfig:
    """A latent diffusion transformer (DiT, arXiv 2212.09748) and its training. The defaults are DiT-S's.

    width, layers, heads: of the transformer. patch: latent cells per token and side; 0 for 1 where latents have at
    most 4 cells a side, else 2. steps: optimizer steps, each on `batch` latents over all workers. lr: AdamW's, reached
    after `warmup` steps. class_dropout: share of latents trained without their class, for classifier-free guidance.
    ema: decay of the averaged weights, which are what is kept. clip: of the gradient's norm; 0 for none.
    precision: of the matrix products; auto is bfloat16 on GPUs. log_every: steps between entries of the loss curve.
    """

    width: int = pydantic.Field(default=384, ge=8)
    layers: int = pydantic.Field(default=12, ge=1)
    heads: int = pydantic.Field(default=6, ge=1)
    patch: int = pydantic.Field(default=0, ge=0)
    steps: int = pydantic.Field(default=100_000, ge=1)
    batch: int = pydantic.Field(default=256, ge=1)
    lr: float = pydantic.Field(default=1e-4, gt=0)
    schedule: Literal["cosine", "constant"] = "constant"
    warmup: int = pydantic.Field(default=0, ge=0)
    weight_decay: float = pydantic.Field(default=0.0, ge=0)
    class_dropout: float = pydantic.Field(default=0.1, ge=0, lt=1)
    ema: float = pydantic.Field(default=0.9999, ge=0, lt=1)
    clip: float = pydantic.Field(default=1.0, ge=0)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    log_every: int = pydantic.Field(default=50, ge=1)

    @property
    def optimizer(self) -> str:
        return "adamw"

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"--width {self.width}: expected a multiple of --heads {self.heads}")
        if self.warmup >= self.steps:
            raise ValueError(f"--warmup {self.warmup}: expected fewer than --steps {self.steps}")
