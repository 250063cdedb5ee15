"""The configuration of a quantization: a frozen dataclass, filled from a preset, a YAML file and the command line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import pydantic
from pydantic.dataclasses import dataclass

from raycond.core import files
from raycond.methods.quantize.registry import QUANTIZERS
from raycond.models.codecs.autoencoder import AutoencoderConfig
from raycond.models.generators.options import GeneratorOptions, changed
from raycond.models.generators.registry import GENERATORS
from raycond.pipelines.options import field_names, layers, merge_layers, presets, settle, shown, spec_place, validated
from raycond.runtime.resources import Resources

METHODS: tuple[Any, ...] = ("random", "medoid", "d4m", "ddoq", "full")
CODEC = "kl:stabilityai/sd-vae-ft-mse"


@dataclass(frozen=True, config=pydantic.ConfigDict(extra="forbid"))
class QuantizeConfig:
    """Everything that `pipelines/imagenet_quantize.py` can be told; the field names are its options.

    data, val: sources (`raycond.data.sources`). out: run folder, local or object storage; on a cluster every node must
    reach it. work: what resuming needs, by default in `out`; runs that differ in what follows the codebooks may share
    it, one after the other, and then quantize once. codec: `KIND[:WHERE]`, by default that of a diffusion generator.
    posterior: the VAE's mean, or one seeded sample per image. dtype: of the codec and of a diffusion generator.
    size: pixels per side. ipc: images per class. limit: images per class taken from the source. classes: how many of
    the first classes. generator: vae, medoid, `sd:WHERE` or `dit:WHERE`; diffusion: options of the
    last two, each an option of its own. output_size: side of the condensed images, and of all that students see, if
    not `size`. actors: 0 for as many as the resources hold. cpus_per_actor also sets the torch threads, which
    float32 sums depend on: keep it to keep the bytes. gpus_per_actor: -1 for one where there are GPUs.
    decode_threads: 0 for cpus_per_actor + 1. max_bad: bad images allowed, a number or a share ("1%"). w2_classes: how
    many classes the W2 table measures. students, seeds, protocol, methods: the evaluation.
    """

    name: str
    data: str = ""
    val: str | None = None
    out: str = ""
    work: str | None = None
    codec: str = CODEC
    posterior: Literal["mean", "sample"] = "mean"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    size: int = pydantic.Field(default=256, ge=1)
    output_size: int | None = pydantic.Field(default=None, ge=1)
    resize: Literal["crop", "squash"] = "crop"
    ipc: tuple[int, ...] = (10, 50)
    quantizer: Annotated[str, pydantic.AfterValidator(QUANTIZERS.check)] = "lloyd"
    restarts: int = pydantic.Field(default=5, ge=1)
    weights: Literal["uniform", "density", "sqrt"] = "sqrt"
    generator: str = "vae"
    diffusion: GeneratorOptions = pydantic.Field(default_factory=GeneratorOptions)
    image_format: Literal["png", "jpeg", "webp"] = "png"
    limit: int | None = pydantic.Field(default=None, ge=1)
    classes: int | None = pydantic.Field(default=None, ge=1)
    image_column: str | None = None
    label_column: str | None = None
    seed: int = pydantic.Field(default=0, ge=0)
    max_bad: str = "1%"
    max_pixels: int = pydantic.Field(default=178_956_970, ge=1)
    batch: int = pydantic.Field(default=32, ge=1)
    actors: int = pydantic.Field(default=0, ge=0)
    gpus_per_actor: float = -1
    cpus_per_actor: int = pydantic.Field(default=1, ge=1)
    decode_threads: int = pydantic.Field(default=0, ge=0)
    classes_at_once: int = pydantic.Field(default=1, ge=1)
    runner: Literal["ray", "local"] = "ray"
    dashboard: bool = True
    verbose: bool = False
    """Show on stderr everything that is written to the run's log file, raycond.log."""
    w2_classes: int = pydantic.Field(default=5, ge=0)
    evaluate: bool = True
    protocol: str = "quick"
    students: tuple[str, ...] = ("convnet3-w32",)
    seeds: tuple[int, ...] = (0, 1, 2)
    methods: tuple[Literal["random", "medoid", "d4m", "ddoq", "full"], ...] = METHODS
    autoencoder: AutoencoderConfig | None = None

    def __post_init__(self) -> None:
        if not self.data:
            raise ValueError("--data: give a URI, or a --preset that has one")
        for field in ("ipc", "seeds", "students", "methods"):
            values = getattr(self, field)
            if not values or len(set(values)) != len(values):
                raise ValueError(f"--{field}: expected at least one, and none twice, not {shown(values)}")
        if min(self.ipc) < 1:
            raise ValueError(f"--ipc: expected numbers from 1 up, not {shown(self.ipc)}")
        if min(self.seeds) < 0:
            raise ValueError(f"--seeds: expected numbers from 0 up, not {shown(self.seeds)}")
        gpus = self.gpus_per_actor
        if gpus != -1 and not (0 <= gpus <= 1 or (gpus > 1 and gpus == int(gpus))):
            raise ValueError(f"--gpus-per-actor: expected a fraction from 0 to 1 or a whole number, not {gpus:g}")
        if self.codec == "train" and self.autoencoder is None:
            raise ValueError("--codec train: needs an `autoencoder` section (see the digits preset)")
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

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-able values, as saved beside every output."""
        plain: dict[str, Any] = pydantic.TypeAdapter(QuantizeConfig).dump_python(self, mode="json")
        return plain


def load_config(options: Mapping[str, Any], *, preset: str | None = None, config: str | None = None) -> QuantizeConfig:
    """Merge preset < YAML file < options (field name → value; those of `GeneratorOptions` too, `batch` as
    `generator_batch`). Raises UserError naming a wrong field."""
    section = {name: "generator_batch" if name == "batch" else name for name in field_names(GeneratorOptions)}
    merged = merge_layers(layers(options, presets(), preset, config), "diffusion", section)
    settle(merged, QuantizeConfig, ("data", "val", "out", "work"))
    if merged.get("generator"):
        merged["generator"] = spec_place(str(merged["generator"]))
    if str(merged["diffusion"].get("class_map") or "").endswith(".json"):
        merged["diffusion"]["class_map"] = files.absolute(merged["diffusion"]["class_map"])
    merged["codec"] = _codec(merged.get("codec"), str(merged.get("generator", "")))
    return validated(QuantizeConfig, merged, "diffusion", section)


def _codec(codec: str | None, generator: str) -> str:
    """With its place; a diffusion generator's own, unless another is named: its latents are what the model knows."""
    kind, _, where = generator.partition(":")
    if kind in GENERATORS and GENERATORS[kind].own_codec and where and codec in (None, "train"):
        return f"kl:{where}" if files.exists(where) else f"kl:{where}//vae"
    return spec_place(codec or CODEC)
