"""Weights of classifiers: state dicts from files, and those that torchvision publishes."""

from __future__ import annotations

import io
import os
import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from raycond.core import files
from raycond.core.errors import UserError

_INSIDE = ("state_dict", "model")  # where training scripts keep the weights of a checkpoint
_PREFIXES = ("module.", "_orig_mod.")  # of DataParallel and of torch.compile
_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")  # torchvision's DenseNet files have older names


@dataclass(frozen=True)
class Pretrained:
    """Weights that torchvision publishes: the local file, and the input they were tested with."""

    file: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: int
    weights: str
    """torchvision's name of the weights, such as IMAGENET1K_V1."""


def pretrained(name: str, weights_name: str = "DEFAULT") -> Pretrained:
    """Weights of a torchvision classifier, downloaded into torch hub's folder if they are not there.

    weights_name: as torchvision calls them; DEFAULT are its best. Raises UserError for a name that the classifier does
    not have, and if they cannot be downloaded, saying which file to put where.
    """
    from torchvision import models

    known: Any = models.get_model_weights(name)
    if weights_name not in known.__members__:
        raise UserError(f"teacher {name}: has no weights {weights_name}; it has {', '.join(w.name for w in known)}")
    weights: Any = known[weights_name]
    transforms = weights.transforms()
    mean, std = tuple(transforms.mean), tuple(transforms.std)
    if name in ("googlenet", "inception_v3"):  # torchvision turns ImageNet's constants into these inside the network
        mean = std = (0.5, 0.5, 0.5)
    return Pretrained(_downloaded(name, weights.url), mean, std, transforms.crop_size[0], weights.name)


def _downloaded(name: str, url: str) -> str:
    folder = os.path.join(torch.hub.get_dir(), "checkpoints")
    file = os.path.join(folder, url.rsplit("/", 1)[-1])
    if os.path.exists(file):
        return file
    try:
        os.makedirs(folder, exist_ok=True)
        prefix = re.search(r"-([0-9a-f]{8,})\.", file)
        torch.hub.download_url_to_file(url, file, prefix[1] if prefix else None, progress=False)
    except (OSError, RuntimeError) as error:  # no connection; a download that is not what it should be
        raise UserError(
            f"teacher {name}: {os.path.basename(file)} is not in {folder} and cannot be downloaded ({error}); "
            f"put {url} there, or give weights of your own: {name}@FILE"
        ) from error
    return file


def read(uri: str) -> tuple[dict[str, Tensor], str]:
    """Name → tensor on the CPU, floats as float32, and the SHA-256 of the file; safetensors or a state dict of torch.

    Nothing in the file is run. Weights inside `state_dict` or `model` are found, `module.` before every name is taken
    off. Raises UserError for a file that cannot be read or holds no state dict.
    """
    try:
        data = files.read_bytes(uri)
    except OSError as error:
        raise UserError(f"{uri}: cannot be read: {error.strerror or error}") from error
    try:
        state = _parse(uri, data)
    except Exception as error:  # the parsers raise errors of any type on damaged files
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{uri}: expected a state dict, as .safetensors or as torch.save writes it: {reason}"
        ) from error
    return state, files.sha256(data)


def _parse(uri: str, data: bytes) -> dict[str, Tensor]:
    if uri.endswith(".safetensors"):
        import safetensors
        from safetensors.torch import load

        try:
            value: Any = load(data)
        except safetensors.SafetensorError as error:
            raise ValueError(str(error)) from error
    else:
        value = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    for key in _INSIDE:
        if isinstance(value, dict) and isinstance(value.get(key), dict):
            value = value[key]
    if not isinstance(value, dict) or not value or not all(isinstance(v, Tensor) for v in value.values()):
        raise ValueError("it holds no names with tensors")
    for prefix in _PREFIXES:
        if all(key.startswith(prefix) for key in value):
            value = {key.removeprefix(prefix): tensor for key, tensor in value.items()}
    return {
        _DENSENET.sub(r"\1\2", key): tensor.float() if tensor.is_floating_point() else tensor
        for key, tensor in value.items()
    }
