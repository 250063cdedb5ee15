"""The configuration of a quantization: a frozen dataclass, filled from a preset, a YAML file and the command line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic.dataclasses import dataclass

from raycond.core import files
from raycond.core.options import STRICT, Configuration, option, section
from raycond.data.decode import Interpolation
from raycond.methods.quantize.registry import QUANTIZERS
from raycond.models.codecs.options import AutoencoderConfig
from raycond.models.generators.options import GeneratorOptions, changed
from raycond.models.generators.registry import GENERATORS
from raycond.pipelines.loading import Merged, layers, merge, presets, require_lists, settle, validated
from raycond.pipelines.options import (
    CODEC,
    CodecOptions,
    DecodingOptions,
    ImageOptions,
    MachineOptions,
    MessageOptions,
    RunOptions,
    SourceOptions,
    ValidationSource,
    fill_in_autoencoder,
)
from raycond.pipelines.places import place, spec_place
from raycond.runtime.resources import Resources

METHODS: tuple[Any, ...] = ("random", "medoid", "uniform", "weighted", "full")
FORMER_METHODS = {"d4m": "uniform", "ddoq": "weighted"}  # which earlier versions took for them


@dataclass(frozen=True, kw_only=True, config=STRICT)
class EncodedImages(ImageOptions):
    """The form in which images are decoded."""

    GROUP = "image"

    interpolation: Interpolation = option("bicubic")
    """How pixels are interpolated where a training image is resized: bicubic, or bilinear as D4M does. Test images are
    always resized bilinearly, as in the protocols' sources."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SharedWork(Configuration):
    """Where runs keep what they share."""

    GROUP = "run"

    work: str | None = option(None, metavar="DIR", unset="inside --out", place=place)
    """Folder for what resuming needs: codebooks and images. Runs that differ in what follows the codebooks, such as the
    generator or the weights, may share it, one after the other, and then quantize once."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class QuantizationOptions(Configuration):
    """From the latents of a class to its weighted centroids."""

    GROUP = "quantization"

    ipc: tuple[int, ...] = option((10, 50))
    """Images per class to condense to; a set holds one version for each number, all from the same latents."""

    quantizer: str = option("lloyd", choices=QUANTIZERS.names)
    """How the centroids of a class are computed: lloyd is k-means with restarts on all latents of the class; clvq takes
    one pass in bounded memory, for classes that are too large to hold; minibatch is D4M's pass over small batches;
    faiss is its k-means; gmm takes the modes of a Gaussian mixture, which MGD3 tried beside k-means."""

    restarts: int = option(5, ge=1)
    """Starts of lloyd, of which the best is kept. More give slightly better centroids for as much more time."""

    km_expand: int = option(1, ge=1)
    """Latents in a batch of minibatch for each centroid. 1 is that of D4M's script for ImageNet, 10 the default of its
    code; more make cells more equal."""

    weights: Literal["uniform", "density", "sqrt"] = option("sqrt")
    """Training weight of each condensed image: uniform (as D4M's), density (proportional to the number of images in its
    cell), or sqrt (proportional to the square root of that number, as DDOQ's). Each has mean 1 in a class."""

    w2_classes: int = option(5, ge=0)
    """Number of classes, the first ones, for which the report has the Wasserstein distance between the class and its
    condensed images. It costs much for large classes; 0 leaves it out."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class GenerationOptions(Configuration):
    """From a centroid to an image."""

    GROUP = "generator"

    generator: str = option("vae", metavar="KIND[:WHERE]", choices=GENERATORS.names, place=spec_place)
    """What makes an image from a centroid: vae decodes it, medoid takes the real image nearest to it, sd:WHERE starts
    Stable Diffusion's image-to-image from it (D4M, DDOQ), dit:WHERE a class-conditional DiT. WHERE is a hub name or a
    folder of diffusers; its own autoencoder is then the codec unless --codec names another."""

    diffusion: GeneratorOptions = section(GeneratorOptions(), names={"batch": "generator_batch"})

    output_size: int | None = option(None, ge=1, unset="as --size")
    """Pixels on each side of the condensed images, and of everything that students see."""

    image_format: Literal["png", "jpeg", "webp"] = option("png")
    """File format of the condensed images. png loses nothing; the others are smaller."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class EvaluationOptions(Configuration):
    """The trainings at the end of the run that compare the set with its baselines."""

    GROUP = "evaluation"

    evaluate: bool = option(True)
    """Train students on the set and on its baselines when it is written. Leave it out to compare later, and with more
    choices, by `raycond evaluate`."""

    protocol: str = option("quick", metavar="NAME")
    """Recipe under which students are trained and tested, one that learns hard labels. Numbers of different protocols
    do not compare; `quick` compares with nothing published."""

    students: tuple[str, ...] = option(("convnet3-w32",), metavar="NAME")
    """Networks that are trained from scratch: convnet3 to convnet6 and mlp (with options, such as convnet4-w64-bn),
    resnetap10, any classifier of torchvision, or timm/NAME."""

    seeds: tuple[int, ...] = option((0, 1, 2))
    """Seeds of the trainings; every student is trained once with each. At least two are needed to see how much chance
    does."""

    methods: tuple[Literal["random", "medoid", "uniform", "weighted", "full"], ...] = option(METHODS)
    """Rows of the comparison: random real images, the real images nearest to the centroids, the set with uniform
    weights, the set with its own, and all training images."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ActorOptions(Configuration):
    """The processes that encode, quantize and generate."""

    GROUP = "machine"

    batch: int = option(32, ge=1)
    """Images encoded or decoded at once. A larger batch is faster on a GPU with room for it; it may change the last
    bits of a latent."""

    actors: int = option(0, ge=0, unset="as many as fit")
    """Processes that work on classes, each with its own copy of the codec. Give a number where a cluster is to grow to
    it."""

    gpus_per_actor: float = option(-1, unset="1 where there are GPUs")
    """GPUs of each actor: a whole number, a fraction for several actors on one GPU, or 0 for none."""

    cpus_per_actor: int = option(1, ge=1)
    """CPUs of each actor, and its torch threads. float32 sums depend on it: keep it to get the same bytes again."""

    classes_at_once: int = option(1, ge=1)
    """Classes that an actor quantizes together. More than one helps a GPU where classes are small, and takes their
    memory together."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class QuantizeConfig(
    RunOptions,
    SharedWork,
    SourceOptions,
    ValidationSource,
    EncodedImages,
    CodecOptions,
    QuantizationOptions,
    GenerationOptions,
    EvaluationOptions,
    ActorOptions,
    DecodingOptions,
    MachineOptions,
    MessageOptions,
):
    """Everything that `raycond quantize` can be given."""

    autoencoder: AutoencoderConfig | None = section(None, options=())

    def __post_init__(self) -> None:
        if not self.data:
            raise ValueError("--data: give a URI, or a --preset that has one")
        require_lists(self, "ipc", "seeds", "students", "methods")
        gpus = self.gpus_per_actor
        if gpus != -1 and not (0 <= gpus <= 1 or (gpus > 1 and gpus == int(gpus))):
            raise ValueError(f"--gpus-per-actor: expected a fraction from 0 to 1 or a whole number, not {gpus:g}")
        if self.codec == "train" and self.autoencoder is None:
            raise ValueError("--codec train: needs an `autoencoder` section (see the digits preset)")
        if self.km_expand != 1 and self.quantizer != "minibatch":
            raise ValueError(f"--km-expand: does nothing with --quantizer {self.quantizer}")
        kind, _ = GENERATORS.parse(self.generator)
        if unused := [name for name in changed(self.diffusion) if name not in kind.options]:
            raise ValueError(f"--{unused[0].replace('_', '-')}: does nothing with --generator {kind.name}")

    @property
    def resources(self) -> Resources:
        """What one class actor asks for."""
        return Resources(self.cpus_per_actor, self.gpus_per_actor, "actor")

    @property
    def image_size(self) -> int:
        """Pixels per side of the condensed images."""
        return self.output_size or self.size


def load_config(options: Mapping[str, Any], *, preset: str | None = None, config: str | None = None) -> QuantizeConfig:
    """The configuration of a preset, a YAML file and options, the strongest last.

    options: name of an option → its value; those of `GeneratorOptions` too, `batch` as `generator_batch`. Raises
    OptionError that names a wrong one.
    """
    merged = merge(QuantizeConfig, layers(options, presets(), preset, config))
    settle(QuantizeConfig, merged)
    diffusion = merged.values.get("diffusion", {})
    if str(diffusion.get("class_map") or "").endswith(".json"):
        diffusion["class_map"] = files.absolute(diffusion["class_map"])
    _fill_in_size(merged)
    if isinstance(methods := merged.values.get("methods"), list | tuple):
        merged.values["methods"] = tuple(FORMER_METHODS.get(method, method) for method in methods)
    merged.values["codec"] = _codec(merged.values.get("codec"), str(merged.values.get("generator", "")))
    fill_in_autoencoder(merged.values, int(merged.values.get("size") or QuantizeConfig.size))
    return validated(QuantizeConfig, merged)


def _fill_in_size(merged: Merged) -> None:
    """Give a run without a size that of the images which its diffusion model was made for."""
    kind, _, where = str(merged.values.get("generator", "")).partition(":")
    if "size" not in merged.values and kind in GENERATORS and GENERATORS[kind].own_codec and where:
        from raycond.models.generators.own_size import own_size

        if (own := own_size(where)) is not None:
            merged.values["size"] = own


def _codec(codec: str | None, generator: str) -> str:
    """With its place; a diffusion generator's own, unless another is named: its latents are what the model knows."""
    kind, _, where = generator.partition(":")
    if kind in GENERATORS and GENERATORS[kind].own_codec and where and codec in (None, "train"):
        return f"kl:{where}" if files.exists(where) else f"kl:{where}//vae"
    return spec_place(codec or CODEC)
