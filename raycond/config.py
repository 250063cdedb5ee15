"""The configuration of a run: one frozen dataclass, filled from a preset, a YAML file and the command line."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from importlib import resources
from typing import Any, Literal, TypeVar

import pydantic
import yaml
from pydantic.dataclasses import dataclass

from raycond import files
from raycond.errors import UserError

T = TypeVar("T")
METHODS: tuple[Any, ...] = ("random", "medoid", "d4m", "ddoq", "full")
DIFFUSION = ("sd", "dit")  # generators that lie in a folder or on the hub
USED_BY = {  # of the options of diffusion generators, those that are not of all; of none is the batch
    **dict.fromkeys(("strength", "prompt", "negative_prompt"), ("sd",)),
    **dict.fromkeys(("noise", "class_map"), ("dit",)),
    "batch": ("sd", "dit", "vae", "medoid"),
}
CODEC = "kl:stabilityai/sd-vae-ft-mse"
FORMAT = 2  # of the files a run leaves behind; a change makes older work stale


@dataclass(frozen=True, config=pydantic.ConfigDict(extra="forbid"))
class AutoencoderConfig:
    """An AutoencoderKL and its training: L1 + kl · KL, AdamW with a one-cycle schedule, all images in memory.

    widths: channels of each resolution, so the factor is 2^(len − 1). No paper sets these values; they are chosen for
    images of 8 to 64 pixels.
    """

    channels: Literal[1, 3] = 3
    images: int = pydantic.Field(default=20_000, ge=1)  # at most, spread over the classes
    latent_channels: int = 4
    widths: tuple[int, ...] = (16, 32)
    layers: int = 1
    steps: int = 600
    batch: int = 64
    lr: float = 2e-3
    kl: float = 1e-5
    shift: float = 0.1  # augmentation: translation, share of the side


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


@dataclass(frozen=True, config=pydantic.ConfigDict(extra="forbid"))
class QuantizeConfig:
    """Everything that `pipelines/imagenet_quantize.py` can be told; the field names are its options.

    data, val: sources (`raycond.data.sources`). out: run folder, local or object storage; on a cluster every node must
    reach it. work: what resuming needs, by default in `out`; runs that differ in what follows the codebooks may share
    it, one after the other, and then quantize once. codec: `KIND[:WHERE]`, by default that of a diffusion generator.
    posterior: the VAE's mean, or one seeded sample per image. dtype: of the codec and of a diffusion generator.
    size: pixels per side. ipc: images per class. limit: images per class taken from the source. classes: how many of
    the first classes. generator: vae, medoid, `sd:WHERE` or `dit:WHERE` (`raycond.generate`); diffusion: options of the
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
    quantizer: Literal["lloyd", "clvq", "faiss", "gmm"] = "lloyd"
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
                raise ValueError(f"--{field}: expected at least one, and none twice, not {_shown(values)}")
        if min(self.ipc) < 1:
            raise ValueError(f"--ipc: expected numbers from 1 up, not {_shown(self.ipc)}")
        if min(self.seeds) < 0:
            raise ValueError(f"--seeds: expected numbers from 0 up, not {_shown(self.seeds)}")
        gpus = self.gpus_per_actor
        if gpus != -1 and not (0 <= gpus <= 1 or (gpus > 1 and gpus == int(gpus))):
            raise ValueError(f"--gpus-per-actor: expected a fraction from 0 to 1 or a whole number, not {gpus:g}")
        if self.codec == "train" and self.autoencoder is None:
            raise ValueError("--codec train: needs an `autoencoder` section (see the digits preset)")
        if self.generator not in ("vae", "medoid") and not self.diffuses:
            raise ValueError(f"--generator: expected vae, medoid, sd:WHERE or dit:WHERE, not {self.generator!r}")
        kind = self.generator.partition(":")[0]
        if unused := [name for name in changed(self.diffusion) if kind not in USED_BY.get(name, DIFFUSION)]:
            raise ValueError(f"--{unused[0].replace('_', '-')}: does nothing with --generator {kind}")

    @property
    def diffuses(self) -> bool:
        """Whether images come from a diffusion model."""
        kind, _, where = self.generator.partition(":")
        return kind in DIFFUSION and bool(where)

    @property
    def image_size(self) -> int:
        """Pixels per side of the condensed images."""
        return self.output_size or self.size

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-able values, as saved beside every output."""
        plain: dict[str, Any] = pydantic.TypeAdapter(QuantizeConfig).dump_python(self, mode="json")
        return plain


@dataclass(frozen=True, config=pydantic.ConfigDict(extra="forbid"))
class GridConfig:
    """Everything that `pipelines/evaluate_grid.py` can be told; the field names are its options.

    sets: folders of condensed sets with the same classes and image size. data, val: the source they were made from and
    the images to test on; by default those of the run that the first set lies in. ipc: by default all of the first
    set. protocol: a preset or a YAML file; changes: settings of it that are fixed for every cell (`--set`). weights:
    modes of each set, by default uniform and the one it was written with. baselines: rows of real images beside the
    sets; random and medoid are added unless it is `none`; by default also `full` where the protocol fixes the number
    of steps. labeler: what the students learn (`raycond.labels.labelers`). scores: train what DD-Ranking's scores
    need as well. proxy_student, proxy_nets, proxy_steps: the networks whose features and EL2N scores choose coresets.
    trials_at_once: 0 for as many as fit. gpus_per_trial: -1 for a share by measured memory.
    """

    sets: tuple[str, ...]
    out: str
    data: str | None = None
    val: str | None = None
    students: tuple[str, ...] = ("convnet3-w32", "mlp")
    ipc: tuple[int, ...] = ()
    protocol: str = "quick"
    changes: dict[str, Any] = pydantic.Field(default_factory=dict)
    seeds: tuple[int, ...] = (0, 1, 2)
    labeler: str = "hard"
    weights: tuple[Literal["uniform", "density", "sqrt"], ...] = ()
    baselines: tuple[Literal["random", "medoid", "herding", "k-center", "el2n", "full", "none"], ...] | None = None
    scores: bool = False
    proxy_student: str = "convnet3-w32"
    proxy_nets: int = pydantic.Field(default=3, ge=1)
    proxy_steps: int = pydantic.Field(default=200, ge=1)
    trials_at_once: int = pydantic.Field(default=0, ge=0)
    gpus_per_trial: float = -1
    cpus_per_trial: int = pydantic.Field(default=1, ge=1)
    max_pixels: int = pydantic.Field(default=178_956_970, ge=1)
    runner: Literal["ray", "local"] = "ray"
    dashboard: bool = True

    def __post_init__(self) -> None:
        for field in ("sets", "students", "seeds"):
            values = getattr(self, field)
            if not values or len(set(values)) != len(values):
                raise ValueError(f"--{field}: expected at least one, and none twice, not {_shown(values)}")
        if self.ipc and min(self.ipc) < 1:
            raise ValueError(f"--ipc: expected numbers from 1 up, not {_shown(self.ipc)}")
        if min(self.seeds) < 0:
            raise ValueError(f"--seeds: expected numbers from 0 up, not {_shown(self.seeds)}")
        if self.baselines and "none" in self.baselines and len(self.baselines) > 1:
            raise ValueError("--baselines: none goes with no other")
        if self.gpus_per_trial != -1 and not 0 <= self.gpus_per_trial <= 1:
            raise ValueError(f"--gpus-per-trial: expected a fraction from 0 to 1, not {self.gpus_per_trial:g}")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-able values, as saved beside every output."""
        plain: dict[str, Any] = pydantic.TypeAdapter(GridConfig).dump_python(self, mode="json")
        return plain


def load_grid_config(options: Mapping[str, Any]) -> GridConfig:
    """From options (field name → value). Raises UserError naming a wrong one."""
    merged = dict(options)
    if not merged.get("sets"):
        raise UserError("--sets: give at least one folder of a condensed set")
    if merged.get("labeler"):
        merged["labeler"] = _labeler_place(str(merged["labeler"]))
    if str(merged.get("protocol", "")).endswith((".yaml", ".yml")):
        merged["protocol"] = files.absolute(merged["protocol"])
    merged["sets"] = [files.absolute(path) for path in merged["sets"]]
    merged.setdefault("out", files.join(merged["sets"][0].rpartition("/")[0], "grid"))
    for key in ("data", "val", "out"):
        if merged.get(key):
            merged[key] = place(str(merged[key]))
    try:
        return GridConfig(**merged)
    except pydantic.ValidationError as error:
        raise UserError("; ".join(_problem(e) for e in error.errors())) from error


def presets() -> dict[str, str]:
    """Name → YAML text of every preset."""
    folder = resources.files("raycond") / "presets"
    return {
        entry.name.removesuffix(".yaml"): entry.read_text()
        for entry in sorted(folder.iterdir(), key=lambda e: e.name)
        if entry.name.endswith(".yaml")
    }


def load_config(options: Mapping[str, Any], *, preset: str | None = None, config: str | None = None) -> QuantizeConfig:
    """Merge preset < YAML file < options (field name → value; those of `GeneratorOptions` too, `batch` as
    `generator_batch`). Raises UserError naming a wrong field."""
    section = {name: "generator_batch" if name == "batch" else name for name in field_names(GeneratorOptions)}
    merged = merge_layers(layers(options, presets(), preset, config), "diffusion", section)
    check_fields(merged, QuantizeConfig)
    merged.setdefault("name", run_name(str(merged.get("data", ""))))
    merged.setdefault("out", files.join("runs", str(merged["name"])))
    for key in ("data", "val", "out", "work"):
        if merged.get(key):
            merged[key] = place(str(merged[key]))
    if merged.get("generator"):
        merged["generator"] = spec_place(str(merged["generator"]))
    if str(merged["diffusion"].get("class_map") or "").endswith(".json"):
        merged["diffusion"]["class_map"] = files.absolute(merged["diffusion"]["class_map"])
    merged["codec"] = _codec(merged.get("codec"), str(merged.get("generator", "")))
    return validated(QuantizeConfig, merged, "diffusion", section)


def layers(
    options: Mapping[str, Any], known: Mapping[str, str], preset: str | None, config: str | None
) -> list[dict[str, Any]]:
    """What a preset, a YAML file and options say, the strongest last. Raises UserError where one cannot be read."""
    found = []
    if preset is not None:
        if preset not in known:
            raise UserError(f"--preset {preset}: not one of {', '.join(known)}")
        found.append(_yaml(known[preset], f"preset {preset}"))
    if config is not None:
        try:
            text = files.read_bytes(config).decode()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"--config {config}: cannot be read: {error}") from error
        found.append(_yaml(text, f"--config {config}"))
    return [*found, dict(options)]


def merge_layers(found: Sequence[Mapping[str, Any]], section: str, options: Mapping[str, str]) -> dict[str, Any]:
    """One mapping of all layers. options: field of the section → the option of its own that it is."""
    merged: dict[str, Any] = {}
    for layer in found:
        own = {field: layer[option] for field, option in options.items() if option in layer}
        if not isinstance(layer.get(section) or {}, Mapping):
            raise UserError(f"--{section}: expected `field: value` lines, not {layer[section]!r}")
        rest = {key: value for key, value in layer.items() if key not in options.values()}
        merged |= {**rest, section: {**merged.get(section, {}), **(layer.get(section) or {}), **own}}
    return merged


def check_fields(merged: Mapping[str, Any], kind: Any) -> None:
    """Raise UserError for a field that the configuration does not have."""
    known = field_names(kind)
    for key in merged:
        if key not in known:
            raise UserError(f"configuration: unknown field {key!r}; known: {', '.join(sorted(known))}")


def changed(options: GeneratorOptions) -> list[str]:
    """Names of the options that are not at their defaults."""
    defaults = GeneratorOptions()
    return [name for name in field_names(GeneratorOptions) if getattr(options, name) != getattr(defaults, name)]


def field_names(kind: Any) -> tuple[str, ...]:
    return tuple(f.name for f in fields(kind))


def validated(kind: type[T], merged: Mapping[str, Any], section: str, options: Mapping[str, str]) -> T:
    """The configuration. Raises UserError that names wrong options; those of a section have names of their own."""

    def told(error: Any) -> str:
        loc = error["loc"]
        if loc[:1] == (section,) and len(loc) > 1:
            return _problem({**error, "loc": (options.get(loc[1], loc[1]), *loc[2:])})
        return _problem({**error, "loc": ()} if loc == (section,) else error)

    try:
        return kind(**merged)
    except pydantic.ValidationError as error:
        raise UserError("; ".join(told(e) for e in error.errors())) from error


def _codec(codec: str | None, generator: str) -> str:
    """With its place; a diffusion generator's own, unless another is named: its latents are what the model knows."""
    kind, _, where = generator.partition(":")
    if kind in DIFFUSION and where and codec in (None, "train"):
        return f"kl:{where}" if files.exists(where) else f"kl:{where}//vae"
    return spec_place(codec or CODEC)


def _problem(error: Any) -> str:
    """One complaint of pydantic, by the name of the option that it is about."""
    if not error["loc"]:
        return str(error["msg"]).removeprefix("Value error, ")
    name = "--" + str(error["loc"][0]).replace("_", "-")
    inner = "".join(f", {part}" for part in error["loc"][1:] if isinstance(part, str))
    return f"{name}{inner}: {error['msg']}, not {error['input']!r}"


def _shown(values: Sequence[Any]) -> str:
    return " ".join(map(str, values)) or "none"


def run_name(data: str) -> str:
    """A name for what comes from a source: /data/imagenet/train is imagenet."""
    parts = [part for part in re.split(r"[/:]+", data) if part not in ("", "train", "training")]
    name = re.sub(r"[^\w.-]+", "-", re.split(r"[{*?\[]", parts[-1])[0]) if parts else ""
    return re.sub(r"\.(tar|parquet)$", "", name).strip("-.") or "run"


def place(uri: str) -> str:
    """An address that workers in other folders can open; built-in sets (`digits:`) stay as they are."""
    return uri if uri.endswith(":") else files.absolute(uri)


def spec_place(spec: str) -> str:
    """`KIND:WHERE` with a WHERE that workers in other folders can open."""
    kind, _, where = spec.partition(":")
    local = where.partition("//")[0]
    return f"{kind}:{files.absolute(where)}" if local and files.exists(local) and "@" not in where else spec


def _labeler_place(spec: str) -> str:
    """`teacher:NAME@FILE,…`, `projector:DIR,…` or `stored:DIR` that workers in other folders can open."""
    kind, _, folder = spec.partition(":")
    if kind in ("projector", "stored"):
        folder, *options = folder.split(",", 1)
        return ",".join([f"{kind}:{files.absolute(folder)}", *options])
    head, at, rest = spec.partition("@")
    where, comma, more = rest.partition(",")
    return f"{head}@{files.absolute(where)}{comma}{more}" if at else spec


def _yaml(text: str, what: str) -> dict[str, Any]:
    try:
        value = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise UserError(f"{what}: not valid YAML: {error}") from error
    if not isinstance(value, dict):
        raise UserError(f"{what}: expected `field: value` lines")
    return value
