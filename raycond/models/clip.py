"""CLIP models of open_clip: the image tower for labels, the text tower for a moment, from the hub or from a folder."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from raycond.core import files, hub
from raycond.core.errors import UserError, parsing, short
from raycond.core.registry import did_you_mean
from raycond.models import checkpoint
from raycond.models.clip_tokenizer import tokenizer

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
_WEIGHTS = (WEIGHTS, "open_clip_pytorch_model.bin", "model.safetensors")  # in the order that they are looked for
_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of OpenAI's training
_TEXT_BATCH = 256
_MOST = 10**6  # of any number in a configuration: the largest vocabularies have fewer tokens
_DOWNLOAD_ERRORS = (OSError, RuntimeError, ValueError)


@dataclass
class Clip:
    """A CLIP model with frozen float32 weights on one device.

    name: for people, without a machine's folders. digest: of weights, configuration and pixel statistics. spec: as it
    was given. tower: images (n, 3, size, size), normalised by mean and std → features (n, width), not normalised.
    logit_scale: the factor itself, about 100. carrier: the folder that the model is in, None for one of the hub.
    bytes: of the file of its weights, both towers; 0 where there is none.
    """

    name: str
    digest: str
    spec: str
    tower: nn.Module
    width: int
    logit_scale: float
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    carrier: str | None
    texts: Callable[[Sequence[str]], Tensor]
    bytes: int = 0

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Texts → (n, width) float32 of unit length, on the tower's device.

        The text tower is loaded for the call and freed. Raises UserError if its tokenizer is missing.
        """
        return self.texts(texts)


@dataclass(frozen=True)
class _Source:
    """What a spec stands for: the configuration, what images must look like, and the file of the weights."""

    spec: str
    name: str
    config: dict[str, Any]
    preprocess: dict[str, Any]
    weights: str
    folder: str | None

    def __str__(self) -> str:
        return f"CLIP {self.spec}"

    @property
    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return tuple(self.preprocess.get("mean") or _MEAN), tuple(self.preprocess.get("std") or _STD)

    @property
    def interpolation(self) -> str:
        return "bilinear" if self.preprocess.get("interpolation") == "bilinear" else "bicubic"

    def digest(self, sha256: str) -> str:
        # without what is unset, so that a folder of the hub and open_clip's own entry are one model
        return files.digest([_set_only(self.config), self.statistics, self.interpolation, sha256])


def open_clip_model(spec: str, *, device: str | torch.device, safetensors_only: bool = False) -> Clip:
    """The model of `MODEL:TAG`, as in RN50:openai or ViT-B-32:laion2b_s34b_b79k, or of a folder.

    MODEL:TAG is taken from the hub's cache, or downloaded by open_clip. A folder, local or remote, has
    open_clip_config.json, open_clip_model.safetensors and, for a tokenizer of transformers, its files: what `save_clip`
    writes and what the hub's repositories of open_clip hold. Nothing in it is run or unpickled. safetensors_only: take
    no other weights, as for a folder that came inside a condensed set. Raises UserError for an unknown model, for
    missing weights, saying which folder to give, and for weights of another model.
    """
    source = _resolve(spec, safetensors_only)
    model, sha256 = _loaded(source)
    mean, std = source.statistics
    tower = model.visual.eval().requires_grad_(False).to(device)
    return Clip(
        name=source.name,
        digest=source.digest(sha256),
        spec=spec,
        tower=tower,
        width=int(source.config["embed_dim"]),
        logit_scale=float(model.logit_scale.detach().exp()),
        size=_side(source, tower),
        mean=mean,
        std=std,
        interpolation=source.interpolation,
        carrier=source.folder,
        texts=lambda texts: _encode(source, texts, torch.device(device)),
        bytes=files.entry(source.weights).size,
    )


def describe_clip(spec: str, *, safetensors_only: bool = False) -> tuple[str, str]:
    """(name, digest) of what `open_clip_model` opens, without building it; reads the weights once."""
    source = _resolve(spec, safetensors_only)
    return source.name, source.digest(files.sha256(_bytes(source)))


def check_tokenizer(spec: str) -> None:
    """Raises UserError as `open_clip_model`, and for a tokenizer whose files are missing."""
    source = _resolve(spec)
    tokenizer(source.config, source.folder)


def architecture(model: str) -> Clip:
    """open_clip's MODEL on the meta device: shapes and counts without weights; it can neither see nor read."""
    source = _Source(model, model, _known(model), {}, "", None)
    with torch.device("meta"):
        built = build(source.config)
    width = int(source.config["embed_dim"])
    tower = built.visual.eval().requires_grad_(False)
    return Clip(
        *(model, "", model, tower, width, 100.0, _side(source, tower), _MEAN, _STD, "bicubic", None),
        texts=lambda texts: torch.empty(len(texts), width, device="meta"),
    )


def build(config: Mapping[str, Any]) -> Any:
    """open_clip's CLIP (or CustomTextCLIP) of a model configuration, with torch's present seed, on its default device.

    Raises UserError for a configuration that open_clip cannot build.
    """
    from open_clip.model import CLIP, CustomTextCLIP

    config = {k: dict(v) if isinstance(v, Mapping) else v for k, v in config.items()}
    if "multimodal_cfg" in config:
        raise UserError("CLIP: models of CoCa have a decoder, and are not supported; take a CLIP")
    try:
        text, vision = config["text_cfg"], config["vision_cfg"]
        custom = config.pop("custom_text", False) or "hf_model_name" in text
        if "timm_model_name" in vision:
            vision["timm_model_pretrained"] = False  # its weights are in the file
        if "hf_model_name" in text:
            text["hf_model_pretrained"] = False
        return (CustomTextCLIP if custom else CLIP)(**config)
    except Exception as error:  # open_clip, timm and torch check by all kinds of errors
        raise UserError(
            f"CLIP: open_clip cannot build this configuration: {type(error).__name__}: {short(error)}"
        ) from error


def save_clip(
    folder: str,
    model_config: Mapping[str, Any],
    state: Mapping[str, Tensor],
    *,
    name: str | None = None,
    mean: Sequence[float] = _MEAN,
    std: Sequence[float] = _STD,
) -> tuple[str, ...]:
    """Write a folder that `open_clip_model` and open_clip's `local-dir:` read; the names of its files.

    state: the weights of open_clip's model by their names. name: to be shown for it in place of the folder's. mean and
    std: of the pixels in [0, 1] that it was trained on, one a channel. The configuration, which makes the folder a
    model, comes last.
    """
    files.delete(files.join(folder, CONFIG))
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in state.items()}
    files.write_bytes(files.join(folder, WEIGHTS), save(tensors, {"format": "pt"}))
    preprocess = {"mean": list(mean), "std": list(std), "interpolation": "bicubic", "resize_mode": "squash"}
    about = {"model_cfg": model_config, "preprocess_cfg": preprocess, **({"name": name} if name else {})}
    files.write_json(files.join(folder, CONFIG), about)
    return WEIGHTS, CONFIG


def _resolve(spec: str, safetensors_only: bool = False) -> _Source:
    where = files.absolute(spec)
    if "://" in spec or "/" in spec or os.sep in spec or files.is_dir(where):
        return _of_folder(spec, where, safetensors_only)
    model, _, tag = spec.partition(":")
    return _of_hub(spec, model, tag)


def _of_folder(spec: str, folder: str, safetensors_only: bool) -> _Source:
    uri = files.join(folder, CONFIG)
    if not files.exists(uri):
        missing = "no such folder" if not files.is_dir(folder) else f"no {CONFIG} there"
        raise UserError(f"CLIP {spec}: {missing}; expected a folder of open_clip, or MODEL:TAG as RN50:openai")
    with parsing(uri, "JSON with model_cfg, as open_clip writes it"):
        content = files.read_json(uri)
        config, preprocess = dict(content["model_cfg"]), dict(content.get("preprocess_cfg") or {})
        name = str(content.get("name") or os.path.basename(folder))
        _require_plain(config, preprocess)
    names = [name for name in _WEIGHTS if name.endswith(".safetensors") or not safetensors_only]
    weights = next((w for n in names if files.exists(w := files.join(folder, n))), None)
    if weights is None:
        raise UserError(f"CLIP {spec}: has no weights: put {WEIGHTS} beside {CONFIG}")
    return _Source(spec, name, config, preprocess, weights, folder)


def _require_plain(config: Mapping[str, Any], preprocess: Mapping[str, Any]) -> None:
    """Raise ValueError for a configuration from a folder that could reach beyond it, or ask for a giant network.

    Names of other models are looked up on the hub, or in a folder of that name: only those are taken that open_clip's
    own configurations have.
    """
    text, vision, _ = config["text_cfg"], config["vision_cfg"], int(config["embed_dim"])
    for name in ("mean", "std"):
        if len(values := preprocess.get(name) or _MEAN) != 3 or not all(math.isfinite(v) for v in values):
            raise ValueError(f"preprocess_cfg, {name}: expected three numbers")
    if not isinstance(text, Mapping) or not isinstance(vision, Mapping):
        raise ValueError("text_cfg and vision_cfg: expected objects")
    texts, images = text.get("hf_model_name"), vision.get("timm_model_name")
    if texts is not None and texts not in _text_models():
        raise ValueError(f"text_cfg, hf_model_name {texts!r}: not one of {', '.join(sorted(_text_models()))}")
    if images is not None and not re.fullmatch(r"\w+(\.\w+)?", str(images)):
        raise ValueError(f"vision_cfg, timm_model_name {images!r}: expected the name of a model of timm")
    for number in _numbers(config):
        if not abs(number) <= _MOST:
            raise ValueError(f"{number} is too large a number")


def _text_models() -> frozenset[str]:
    import open_clip

    configs = (open_clip.get_model_config(model) for model in open_clip.list_models())
    return frozenset(filter(None, (config["text_cfg"].get("hf_model_name") for config in configs)))


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, int | float):
        yield value


def _of_hub(spec: str, model: str, tag: str) -> _Source:
    from open_clip import pretrained

    config = _known(model)
    found = pretrained.get_pretrained_cfg(model, tag)
    if not found:
        tags = ", ".join(pretrained.list_pretrained_tags_by_model(model)) or "none: give a folder"
        raise UserError(f"CLIP {spec}: expected {model}:TAG, where TAG is one of {tags}")
    if found.get("quick_gelu"):  # else the text tower of RN50:openai would be computed with another activation
        config["quick_gelu"] = True
    try:
        with hub.reached():
            weights = pretrained.download_pretrained(found)
    except _DOWNLOAD_ERRORS as error:
        place = found.get("hf_hub", "").rstrip("/")
        url = f"https://huggingface.co/{place}" if place else found.get("url", "")
        raise UserError(
            f"CLIP {spec}: its weights are not in the hub's cache and cannot be downloaded. Without a network, "
            f"download {url} elsewhere, copy the folder ({CONFIG} and {WEIGHTS}) here and give that FOLDER in place "
            f"of {spec}. Cause: {short(error)}"
        ) from error
    return _Source(spec, spec, config, dict(found), weights, None)


def _known(model: str) -> dict[str, Any]:
    import open_clip

    if model not in (known := open_clip.list_models()):
        raise UserError(
            f"CLIP {model}: neither a folder nor a model of open_clip{did_you_mean(model, known) or '.'} "
            "Expected MODEL:TAG, as RN50:openai, or a folder"
        )
    config: dict[str, Any] = open_clip.get_model_config(model)
    return config


def _loaded(source: _Source) -> tuple[Any, str]:
    """The whole model on the CPU, and the SHA-256 of its weights' file."""
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict

    state, sha256 = checkpoint.read(source.weights)
    with torch.random.fork_rng(devices=[]):  # initial weights, soon overwritten, must not move anybody's seed on
        model = build(source.config)
    try:
        state = convert_state_dict(model, state)
        if "positional_embedding" in state and not hasattr(model, "positional_embedding"):
            state = convert_to_custom_text_state_dict(state)
        if "logit_scale" in state:
            state["logit_scale"] = state["logit_scale"].reshape(model.logit_scale.shape)
        model.load_state_dict(state)
    except Exception as error:  # open_clip converts the names of other authors' weights, and trips over some
        lines = [line.strip() for line in str(error).splitlines()[1:4]] or [short(error)]
        raise UserError(f"{source}: its weights are not of its configuration: {'; '.join(lines)}") from error
    return model.eval(), sha256


@torch.no_grad()
def _encode(source: _Source, texts: Sequence[str], device: torch.device) -> Tensor:
    tokens = tokenizer(source.config, source.folder)(list(texts))
    model = _loaded(source)[0]
    model.visual = nn.Identity()  # not needed here, and it may be large
    model.to(device)
    with torch.autocast(device.type, enabled=False):
        parts = [model.encode_text(part.to(device), normalize=True) for part in tokens.split(_TEXT_BATCH)]
    return torch.cat(parts).float()


def _bytes(source: _Source) -> bytes:
    try:
        return files.read_bytes(source.weights)
    except OSError as error:
        raise UserError(f"{source.weights}: cannot be read: {error.strerror or error}") from error


def _side(source: _Source, tower: Any) -> int:
    sides = {int(s) for s in (tower.image_size if isinstance(tower.image_size, tuple | list) else [tower.image_size])}
    if len(sides) != 1:
        raise UserError(f"{source}: takes images of {tower.image_size}; expected square ones")
    return sides.pop()


def _set_only(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    return {k: _set_only(v) for k, v in value.items() if v is not None and v is not False}
