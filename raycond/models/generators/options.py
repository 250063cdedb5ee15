"""Options of the diffusion generators, and of the training of a small DiT."""

from __future__ import annotations

from dataclasses import fields
from typing import Literal

from pydantic.dataclasses import dataclass

from raycond.core.options import STRICT, Configuration, option


@dataclass(frozen=True, kw_only=True, config=STRICT)
class GeneratorOptions(Configuration):
    """How a diffusion generator makes an image from a centroid.

    D4M's 0.7 of Stable Diffusion's schedule and 0.5 of DiT's leave the centroid about equally visible (√ᾱ of 0.29 and
    0.28). `batch` moves no image by more than rounding, so it is no part of what an image is.
    """

    GROUP = "generator"

    strength: float = option(0.7, gt=0, le=1)
    """With sd: share of the schedule's steps that image-to-image runs, starting from the centroid with as much noise.
    The larger it is, the further the image may leave the centroid. 0.7 is D4M's."""

    recipe: Literal["pipeline", "published"] = option("pipeline")
    """With dit: `published` samples as the code of DiT does, and with it Minimax Diffusion, IGD and MGD3: DDPM (or
    DDIM, by --scheduler ddim) on times from 0 to 999, with the variance that the model learned, and guidance of three
    channels; `pipeline` samples as diffusers' DiTPipeline does, with its own sampler or --scheduler."""

    guidance: float | None = option(None, ge=0, unset="8 with sd, 4 with dit")
    """With sd or dit: scale of classifier-free guidance towards the class; up to 1 there is none. The defaults are
    D4M's and Peebles and Xie's."""

    guidance_channels: int | None = option(None, ge=1, unset="all, or 3 with --recipe published")
    """With dit: number of the latent's channels, the first ones, that classifier-free guidance acts on. The code of DiT
    guides three of four, and the published samples are made so."""

    steps: int = option(50, ge=1)
    """With sd or dit: steps of the whole schedule, of which --strength or --noise says how many are run."""

    scheduler: Literal["ddim", "ddpm", "dpm", "pndm", "euler"] | None = option(None, unset="the pipeline's own")
    """With sd or dit: sampler that runs the steps, on the noise schedule of the pipeline."""

    prompt: str = option("{name}")
    """With sd: the text that an image is made for. {name} and {id} stand for those of its class, and {synset} for all
    words of a class that has a WordNet id ("tench, Tinca tinca"), which is D4M's prompt."""

    negative_prompt: str = option("cartoon, anime, painting")
    """With sd: the text that images are led away from. The default is D4M's."""

    noise: float = option(0.5, gt=0, le=1)
    """With dit: share of the noise schedule at which the reverse process starts from the noised centroid; 1 starts from
    noise alone, as MGD3 does."""

    mode_guidance: float = option(0.0, ge=0)
    """With sd or dit: strength λ with which each step is pulled towards the centroid; 0 for none. With dit and --recipe
    published this is MGD3, which takes 0.1."""

    mode_stop: float = option(0.5, ge=0, lt=1)
    """With sd or dit: share of the noise schedule below which --mode-guidance no longer acts."""

    class_map: str | None = option(None, metavar="MAP", unset="by WordNet id")
    """With dit: the model's class for each class of the source, in class order: 0+217+482, or a .json file with a list
    or with an object from class id to class. Needed where neither side has WordNet ids and the model is not one that
    raycond trained."""

    batch: int = option(16, ge=1)
    """Images that a generator makes at once. Lower it where a GPU's memory is too small."""


def changed(options: GeneratorOptions) -> list[str]:
    """Names of the options that are not at their defaults."""
    defaults = GeneratorOptions()
    names = (field.name for field in fields(GeneratorOptions))
    return [name for name in names if getattr(options, name) != getattr(defaults, name)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DitConfig(Configuration):
    """A latent diffusion transformer (DiT, arXiv 2212.09748) and its training. The defaults are DiT-S's."""

    GROUP = "transformer"

    width: int = option(384, ge=8)
    """Channels of the transformer, a multiple of --heads. Smaller ones train faster and see less."""

    layers: int = option(12, ge=1)
    """Blocks of the transformer."""

    heads: int = option(6, ge=1)
    """Heads of each attention."""

    patch: int = option(0, ge=0, unset="1 up to 4 cells a side, else 2")
    """Cells of the latent on each side of a token."""

    steps: int = option(100_000, ge=1)
    """Steps of the optimizer, each on --batch latents."""

    batch: int = option(256, ge=1)
    """Latents in each step, over all workers together."""

    lr: float = option(1e-4, gt=0)
    """Learning rate of AdamW, reached after --warmup steps."""

    schedule: Literal["cosine", "constant"] = option("constant")
    """What the learning rate does after the warm-up: stay, or fall to 0 along a cosine."""

    warmup: int = option(0, ge=0, metavar="STEPS")
    """Steps in which the learning rate rises from 0."""

    weight_decay: float = option(0.0, ge=0)
    """Weight decay of AdamW."""

    class_dropout: float = option(0.1, ge=0, lt=1)
    """Share of the latents that are trained without their class, which classifier-free guidance needs."""

    ema: float = option(0.9999, ge=0, lt=1)
    """Decay of the moving average of the weights, which is what is kept. Lower it for trainings of few steps."""

    clip: float = option(1.0, ge=0)
    """Largest norm of a gradient; longer ones are scaled down to it. 0 for no limit."""

    precision: Literal["auto", "float32", "bfloat16"] = option("auto")
    """Number format of the matrix products; `auto` is bfloat16 on GPUs and float32 on CPUs."""

    log_every: int = option(50, ge=1, metavar="STEPS")
    """Steps between the entries of the loss curve."""

    @property
    def optimizer(self) -> str:
        return "adamw"

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"--width {self.width}: expected a multiple of --heads {self.heads}")
        if self.warmup >= self.steps:
            raise ValueError(f"--warmup {self.warmup}: expected fewer than --steps {self.steps}")
