"""A teacher: a trained classifier that gives logits over a set's classes for any image."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raycond.core import files
from raycond.core.errors import UserError
from raycond.data.classes import Classes
from raycond.labels.base import Identity, Kind, Logits
from raycond.models import checkpoint, students

OPTIONS = ("mean", "std", "size", "outputs")
SIZE = 224  # of networks of torchvision and timm whose weights come from a file
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# pixels that go through the network at once; on a CPU small chunks, whose maps stay in its caches, are twice as fast
CHUNK_PIXELS = {"cpu": 8 * 224**2, "cuda": 256 * 224**2}
_TRIAL = 64  # image side to look at a network with whose own is not known yet
_AUXILIARY = ("AuxLogits.", "aux1.", "aux2.")  # heads that Inception and GoogLeNet only train with


@dataclass(frozen=True)
class Description:
    """What a teacher is. `digest` covers the SHA-256 of the weights and everything that changes a logit."""

    name: str  # of the network, without where its weights are
    digest: str
    size: int | None  # side that images are resized to; None: they stay as they are
    mean: tuple[float, ...]  # of pixels in [0, 1]: one number, or one a channel
    std: tuple[float, ...]
    channels: int | None  # that the network takes; None: those of the images
    count: int  # of the network's outputs
    outputs: tuple[int, ...]  # the network's output of each class, in class order
    weights: str = ""  # torchvision's name of them; empty for weights from a file

    @property
    def label(self) -> str:
        """For tables: the network, its weights, and whether it is restricted to the classes or was trained on them."""
        name = f"{self.name}:{self.weights}" if self.weights else self.name
        restricted = self.count != len(self.outputs)
        return f"{name}, {len(self.outputs)} of its {self.count} classes" if restricted else name


class Teacher(nn.Module):
    """Images (n, c, h, w) in [0, 1] (or uint8), any size → logits (n, classes) float32 on the teacher's device.

    Images are resized bilinearly to the teacher's size, antialiased when they shrink, a grey channel is repeated, and
    the teacher's own mean and deviation are applied. Always in eval mode, without gradients and without autocast.
    Raises UserError for images that the network cannot take.
    """

    mean: Tensor
    std: Tensor
    outputs: Tensor

    def __init__(self, description: Description, state: dict[str, Tensor], device: str | torch.device) -> None:
        super().__init__()
        self.description, self.device = description, torch.device(device)
        self.name, self.digest = description.name, description.digest
        self.register_buffer("mean", torch.tensor(description.mean).view(1, -1, 1, 1).to(self.device))
        self.register_buffer("std", torch.tensor(description.std).view(1, -1, 1, 1).to(self.device))
        self.register_buffer("outputs", torch.tensor(description.outputs).to(self.device))
        self._state, self._made_for = state, (0, 0)
        self.net: nn.Module = nn.Identity()
        if description.size is not None and description.channels is not None:
            self._make(description.size, description.channels)
            self._state = {}  # never needed again
        self.eval()

    def train(self, mode: bool = True) -> Teacher:
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        channels = self.description.channels or images.shape[1]
        if images.shape[1] not in (1, channels):
            raise UserError(f"teacher {self.name}: takes {channels} channels, and the images have {images.shape[1]}")
        side = self.description.size or images.shape[-1]
        self._make(side, channels)
        chunk = max(1, CHUNK_PIXELS.get(self.device.type, CHUNK_PIXELS["cpu"]) // side**2)
        with torch.autocast(self.device.type, enabled=False):
            return torch.cat([self._logits(part, side, channels) for part in images.split(chunk)])

    def _logits(self, images: Tensor, side: int, channels: int) -> Tensor:
        x = images.to(self.device, non_blocking=True)
        x = x.float() / 255 if x.dtype == torch.uint8 else x.float()
        if x.shape[2:] != (side, side):
            x = F.interpolate(x, (side, side), mode="bilinear", antialias=side < max(x.shape[2:]))
        x = (x.expand(-1, channels, -1, -1) - self.mean) / self.std
        return self.net(x.contiguous(memory_format=torch.channels_last)).float()[:, self.outputs]

    def _make(self, side: int, channels: int) -> None:
        """The network for these images; only those of raycond's own students depend on the image size."""
        if self._made_for != (side, channels):
            net = _network(self.description, self._state, side, channels).eval().requires_grad_(False)
            self.net = net.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            self._made_for = side, channels


def open_teacher(where: str, *, classes: Classes, device: str | torch.device) -> Teacher:
    """The teacher of `NAME[,OPTION=VALUE…]` or `NAME@FILE[,OPTION=VALUE…]`.

    NAME alone is a torchvision classifier with its DEFAULT published weights and their own mean, deviation and input
    size; NAME:IMAGENET1K_V1 has those weights, which many papers take. FILE has the weights of any student
    (`networks.build`): .safetensors, or a state dict as torch.save writes it, read with weights_only. Options: mean and
    std in [0, 1], one number or one a channel, as in mean=0.485+0.456+0.406 (default for torchvision networks:
    ImageNet's; the others have none); size, the side that images are resized to (default 224 for networks of
    torchvision and timm; the others take images as they are); outputs, the network's output of each class in class
    order, as in outputs=0+217+482 (default: ImageNet-1K's index of each class where there are 1000 outputs and all
    class ids are its WordNet ids, else as they come where there are as many outputs as classes). Raises UserError for
    whatever of this does not hold.
    """
    return Teacher(*_read(where, classes), device)


def describe(where: str, classes: Classes) -> Description:
    """What `open_teacher` would open, with all its checks that need no image and no device; a second or two."""
    description, state = _read(where, classes)
    if description.size is not None and description.channels is not None:
        _network(description, state, description.size, description.channels)
    return description


def _read(where: str, classes: Classes) -> tuple[Description, dict[str, Tensor]]:
    name, weights, file, options = _parse(where)
    torchvision = name in _torchvision_names()
    size = SIZE if torchvision or name.startswith("timm/") else None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    mean, std = IMAGENET if torchvision else ((), ())
    if file is None:
        found = checkpoint.pretrained(name, weights or "DEFAULT")
        file, mean, std, size, weights = found.file, found.mean, found.std, found.size, found.weights
    size = _whole(options["size"], "size") if "size" in options else size
    mean = _numbers(options["mean"], "mean") if "mean" in options else mean
    std = _numbers(options["std"], "std") if "std" in options else std
    if not mean or not std:
        raise UserError(
            f"teacher {name}: give mean= and std=, the pixel statistics in [0, 1] that it was trained with, "
            f"as in {name}@FILE,mean=0.5,std=0.25"
        )
    state, sha256 = checkpoint.read(file)
    count, channels = _ends(name, state, size)
    for what, values in (("mean", mean), ("std", std)):
        if channels is not None and len(values) not in (1, channels):
            raise UserError(
                f"teacher {name}: {what} has {len(values)} numbers; expected 1 or {channels}, one a channel"
            )
    if min(std) <= 0:
        raise UserError(f"teacher {name}: std must be above 0, not {min(std)}")
    outputs = _outputs(name, count, classes, options.get("outputs"))
    digest = files.digest([name, sha256, mean, std, size, outputs])
    return Description(name, digest, size, mean, std, channels, count, outputs, weights), state


def _parse(where: str) -> tuple[str, str, str | None, dict[str, str]]:
    """Name, weights of torchvision or nothing, file or None, options."""
    head, *texts = re.split(r",(?=[a-z]+=)", where)
    name, at, file = head.partition("@")
    name, _, weights = name.partition(":")
    if not name or (at and not file):
        raise UserError(f"teacher {where!r}: expected NAME or NAME@FILE, then options as in ,mean=0.5,size=160")
    options = dict(text.split("=", 1) for text in texts)
    if unknown := [o for o in options if o not in OPTIONS]:
        raise UserError(f"teacher {name}: {unknown[0]} is not an option; options are {', '.join(OPTIONS)}")
    if not at and name not in _torchvision_names():
        _build(name, 2, _TRIAL, 3)  # says so if there is no such network at all
        raise UserError(f"teacher {name}: has no published weights; give a file: {name}@FILE")
    if at and weights:
        raise UserError(f"teacher {name}:{weights}@{file}: give the name of weights or a file of weights, not both")
    return name, weights, files.absolute(file) if at else None, options


def _torchvision_names() -> frozenset[str]:
    from torchvision import models

    return frozenset(models.list_models(module=models))


def _numbers(text: str, option: str) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split("+"))
    except ValueError:
        values = ()
    if not values or not all(math.isfinite(v) for v in values):
        raise UserError(f"teacher: {option}={text}: expected a number, or one a channel with + between them")
    return values


def _whole(text: str, option: str) -> int:
    if not text.isdecimal() or not int(text):
        raise UserError(f"teacher: {option}={text}: expected a whole number above 0")
    return int(text)


def _build(name: str, classes: int, size: int, channels: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):  # initial weights, soon overwritten, must not move anybody's seed on
        try:
            return students.build(name, classes=classes, size=size, channels=channels)
        except UserError as error:
            raise UserError(f"teacher {name}: {error}") from error


def _ends(name: str, state: dict[str, Tensor], size: int | None) -> tuple[int, int | None]:
    """Number of outputs and of input channels, from the last and the first layer; no channels for an MLP."""
    modules = list(_build(name, 1000, size or _TRIAL, 3).named_modules())
    last = [path for path, module in modules if isinstance(module, nn.Linear | nn.Conv2d)][-1]
    first = next((path for path, module in modules if isinstance(module, nn.Conv2d)), None)
    for path in (last, first):
        if path is not None and f"{path}.weight" not in state:
            raise UserError(
                f"teacher {name}: the file is not of this network: it has no {path}.weight, but {_some(sorted(state))}"
            )
    return len(state[f"{last}.weight"]), None if first is None else state[f"{first}.weight"].shape[1]


def _some(names: Sequence[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (f", … {len(names) - most} more" if len(names) > most else "")


def _network(description: Description, state: dict[str, Tensor], size: int, channels: int) -> nn.Module:
    """The network with its weights, for size × size images. Raises UserError, naming what does not fit."""
    name = description.name
    net = _build(name, description.count, size, channels)
    try:
        keys = net.load_state_dict(state, strict=False)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:]]
        raise UserError(
            f"teacher {name}: the weights are of another shape than {name} for {channels}x{size}x{size} images: "
            f"{'; '.join(lines[:3])}\nIf it was trained at another size, give it as size="
        ) from error
    missing = [k for k in keys.missing_keys if not k.endswith("num_batches_tracked")]
    unknown = [k for k in sorted(keys.unexpected_keys) if not k.startswith(_AUXILIARY)]
    if missing or unknown:
        parts = [f"{what} {_some(some)}" for what, some in (("it lacks", missing), ("it has", unknown)) if some]
        raise UserError(f"teacher {name}: the file is not of this network: {' and '.join(parts)}")
    return net


def _outputs(name: str, count: int, classes: Classes, option: str | None) -> tuple[int, ...]:
    """Which of the network's `count` outputs belong to the classes, in class order."""
    if option is not None:
        chosen = tuple(int(part) if part.isdecimal() else -1 for part in option.split("+"))
        wrong = [i for i in chosen if not 0 <= i < count]
        if wrong or len(set(chosen)) != len(chosen) or len(chosen) != len(classes):
            raise UserError(
                f"teacher {name}: outputs={option}: expected {len(classes)} different numbers from 0 to {count - 1} "
                f"with + between them, one for each class in order: {_some(classes.ids)}"
            )
        return chosen
    if count == 1000 and (found := _imagenet(classes)) is not None:
        return found
    if count == len(classes):
        return tuple(range(count))
    reason = f"{count} outputs and {len(classes)} classes ({_some(classes.ids)})"
    if count == 1000:
        reason += ", which are not WordNet ids of ImageNet-1K"
    raise UserError(f"teacher {name}: {reason}: say which outputs are the classes, as in outputs=0+217+482")


def _imagenet(classes: Classes) -> tuple[int, ...] | None:
    """ImageNet-1K's index of each class, or None if one is not among its WordNet ids."""
    if not all(re.fullmatch(r"n\d{8}", class_id) for class_id in classes.ids):
        return None
    from timm.data.imagenet_info import ImageNetInfo

    index = {class_id: k for k, class_id in enumerate(ImageNetInfo("imagenet-1k").label_names())}
    return tuple(index[i] for i in classes.ids) if all(i in index for i in classes.ids) else None


def _identity(where: str, classes: Classes) -> Identity:
    described = describe(where, classes)
    return described.label, described.digest


def _open(where: str, classes: Classes, device: torch.device) -> tuple[Identity, Logits]:
    teacher = open_teacher(where, classes=classes, device=device)
    return (teacher.description.label, teacher.digest), teacher


ONCE = Kind("fixed", _identity, _open)
EVERY_VIEW = Kind("online", _identity, _open)
