"""Weights of classifiers: state dicts from files, and those that torchvision publishes."""

from __future__ import annotations

import io
import os
import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from raycond.core import files
from raycond.core.errors import UserError, short
from raycond.core.text import shown

# Where training scripts keep the weights of a checkpoint; the earlier name wins, so a running average is only taken
# where there is nothing else.
_INSIDE = (
    *("state_dict", "model_state_dict", "model", "net", "network", "weights", "params"),
    *("model_ema", "state_dict_ema", "ema_state_dict", "ema"),
)
_DEEPEST = 4  # nestings that are looked into
# Before the names of a network that DataParallel, torch.compile or another module holds.
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.")
_MOST_KEYS = 20  # of a checkpoint without weights that are listed
_AVERAGED = "n_averaged"  # a counter that AveragedModel keeps beside the weights
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

    Nothing in the file is run. Weights inside `state_dict`, `model` and the like (`_INSIDE`) are taken out, and
    `module.` and the like (`_PREFIXES`) taken off where every name begins with it. Raises UserError for a file that
    cannot be read or holds no state dict.
    """
    try:
        data = files.read_bytes(uri)
    except OSError as error:
        raise UserError(f"{uri}: cannot be read: {error.strerror or error}") from error
    try:
        state = _without_prefixes(_state_dict(_parse(uri, data)))
    except Exception as error:  # the parsers raise errors of any type on damaged files
        raise UserError(f"{uri}: expected a state dict, as .safetensors or as torch.save writes it: {error}") from error
    return state, files.sha256(data)


class _Ignored:
    """What a checkpoint keeps beside its weights: taken for granted and thrown away, whatever it is called with."""

    def __new__(cls, *_: object) -> _Ignored:
        return super().__new__(cls)

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


# Arguments, times and scores that training scripts save with their weights. None of these classes is ever made: the
# reader puts `_Ignored` in their place.
_BESIDE = (
    *("argparse.Namespace", "types.SimpleNamespace", "pathlib.PosixPath", "pathlib._local.PosixPath"),
    *("numpy.dtype", "numpy.ndarray", "datetime.datetime", "datetime.timedelta"),
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
)


def _parse(uri: str, data: bytes) -> Any:
    if uri.endswith(".safetensors"):
        import safetensors
        from safetensors.torch import load

        try:
            return load(data)
        except safetensors.SafetensorError as error:
            raise ValueError(str(error)) from error
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals([(_Ignored, name) for name in _BESIDE]):
            warnings.simplefilter("ignore")  # of versions of the format, which are read or are an error
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(_refusal(str(error))) from error
    except Exception as error:
        raise ValueError(shown(short(error))) from error


def _refusal(text: str) -> str:
    """What torch's reader says of a pickle that it refuses, in one line and with what to do."""
    if foreign := re.search(r"GLOBAL (\S+)", text):
        return (
            f"it holds a pickled {shown(foreign[1], 80)}, and to unpickle that could run any code; save the weights "
            "alone, with torch.save(model.state_dict(), FILE) or safetensors.torch.save_file(model.state_dict(), FILE)"
        )
    reason = text.partition("WeightsUnpickler error: ")[2] or "not a file that torch.save wrote"
    return shown(reason.strip().partition("\n")[0])


def _state_dict(value: Any) -> dict[str, Tensor]:
    """The names and tensors in a checkpoint. Raises ValueError that lists its keys if there are none."""
    if (found := _inside(value, _DEEPEST)) is not None:
        return found
    if isinstance(value, Mapping):
        keys = ", ".join(shown(key, 40) for key in list(value)[:_MOST_KEYS]) + (", …" * (len(value) > _MOST_KEYS))
        raise ValueError(
            f"it holds no names with tensors, directly or under {', '.join(_INSIDE)}; its keys are {keys or 'none'}"
        )
    raise ValueError(f"it holds no names with tensors, but a {type(value).__name__}")


def _inside(value: Any, depth: int) -> dict[str, Tensor] | None:
    if not isinstance(value, Mapping) or not value:
        return None
    if all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in value.items()):
        return dict(value)
    if depth:
        for key in _INSIDE:
            if (found := _inside(value.get(key), depth - 1)) is not None:
                return found
    return None


def _without_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """With the names that the network itself gives, and floats as float32."""
    if len(state) > 1 and all(name == _AVERAGED or name.startswith("module.") for name in state):
        state = {name: tensor for name, tensor in state.items() if name != _AVERAGED}
    while prefix := next((p for p in _PREFIXES if all(name.startswith(p) for name in state)), None):
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return {
        _DENSENET.sub(r"\1\2", name): tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in state.items()
    }
