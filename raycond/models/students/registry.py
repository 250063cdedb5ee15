"""From a student's name to a network with random weights."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any

from torch import nn

from raycond.core.errors import UserError
from raycond.models.students import zoo
from raycond.models.students.convnet import ACTIVATIONS, GROUPS, MLP, NORMS, POOLS, ConvNet
from raycond.models.students.residual import BLOCKS, ResNet

DEPTHS = (3, 4, 6)  # those of the literature's tables; `build` takes 1 to 7
OWN = (
    *(f"convnet{depth}" for depth in DEPTHS),
    *("mlp", "resnet10", "resnet10-in", "resnet18-in", "resnetap10", "resnetap10-bn"),
)

TORCHVISION = ("resnet18",)  # torchvision's, though the name would also be an own one

_OWN = re.compile(r"(?P<kind>convnet|mlp|resnetap|resnet)(?P<depth>[1-9]\d*)?")
_WIDTH = re.compile(r"w(\d+)")
_DEPTHS: dict[str, tuple[int, ...]] = {
    "convnet": tuple(range(1, 8)),
    "mlp": (0,),
    "resnet": (*BLOCKS,),
    "resnetap": (*BLOCKS,),
}
_CHOICES: dict[str, dict[str, tuple[str, ...]]] = {
    "convnet": {"norm": NORMS, "pool": (*POOLS,), "activation": (*ACTIVATIONS,)},
    "mlp": {},
    "resnet": {"norm": ("bn", "in")},
    "resnetap": {"norm": ("in", "bn")},
}


def names() -> list[str]:
    """The names of students, own ones first; `build` says what else the own ones take. timm's are not listed."""
    from torchvision import models

    return [*OWN, *models.list_models(module=models)]


def build(name: str, *, classes: int, size: int, channels: int) -> nn.Module:
    """A network that takes (n, channels, size, size) floats and gives (n, classes) logits.

    Names, with options in any order after a hyphen, the default first:

    - convnet1 to convnet7: -w128 (width), -in -bn -ln -gn -nonorm (norm), -avg -max -nopool, -relu -sigmoid
      -leaky; convnet3 is the net of DC, DSA and DM, convnet4-w64-bn-max a variant.
    - mlp: -w128.
    - resnet10, resnet18-in: -bn -in (norm), -w64 (channels of the first stage), and resnetap10, resnetap18: -in
      -bn, -w64; see networks.residual for their stems. resnet18 without options is torchvision's.
    - a classifier of torchvision. Its ResNets get the CIFAR stem (3x3 convolution, stride 1, no max pool) below
      64 pixels.
    - timm/NAME: a model of timm, as timm makes it, without weights.

    Initial weights come from torch's global generator: seed it first. Raises UserError for an unknown name or
    option and for a network that cannot take images this small.
    """
    for what, value in (("classes", classes), ("size", size), ("channels", channels)):
        if value < 1:
            raise UserError(f"student {name}: {what} must be at least 1, not {value}")
    images = {"classes": classes, "size": size, "channels": channels}
    if name.startswith("timm/"):
        return zoo.from_timm(name.removeprefix("timm/"), **images)
    stem, *tokens = name.split("-")
    match = _OWN.fullmatch(stem)
    kind, depth = (match["kind"], int(match["depth"] or 0)) if match else ("", 0)
    if depth in _DEPTHS.get(kind, ()) and name not in TORCHVISION:
        options = _options(name, kind, tokens)
        if size < 2 and kind != "mlp":  # a norm over a single pixel leaves nothing of the image
            raise UserError(f"student {name}: images must be at least 2 pixels a side, not {size}")
        return _own(kind, depth, options, images)
    known = names()
    if name not in known:
        raise _unknown(name, known)
    return zoo.from_torchvision(name, **images)


def _own(kind: str, depth: int, options: dict[str, Any], images: Mapping[str, Any]) -> nn.Module:
    if kind == "mlp":
        return MLP(**images, **options)
    if kind == "convnet":
        return ConvNet(depth, **images, **options)
    defaults: dict[str, Any] = {"norm": _CHOICES[kind]["norm"][0], "average": kind == "resnetap"}
    return ResNet(depth, **images, **(defaults | options))


def _options(name: str, kind: str, tokens: list[str]) -> dict[str, Any]:
    """Arguments of the network's class from what follows the name's hyphens."""
    options: dict[str, Any] = {}
    choices = _CHOICES[kind]
    for token in tokens:
        width = _WIDTH.fullmatch(token)
        option = "width" if width else next((o for o, values in choices.items() if token in values), None)
        if option is None:
            every = " ".join(["-wN", *(f"-{value}" for values in choices.values() for value in values)])
            raise UserError(f"student {name}: -{token} is not an option of {kind}; it takes {every}")
        if option in options:
            raise UserError(f"student {name}: -{token} gives the {option} a second time")
        options[option] = int(width[1]) if width else token
    if options.get("width", 1) < 1:
        raise UserError(f"student {name}: the width after -w must be at least 1")
    if options.get("norm") == "gn" and options.get("width", GROUPS) % GROUPS:
        raise UserError(
            f"student {name}: -gn has {GROUPS} groups of channels, so the width must be a multiple of {GROUPS}"
        )
    return options


def _unknown(name: str, known: list[str]) -> UserError:
    close = difflib.get_close_matches(name, known, n=5, cutoff=0.6)
    hint = f"Did you mean {' or '.join(close)}?\n" if close else ""
    return UserError(
        f"student {name!r} is not known. {hint}"
        f"Use {', '.join(OWN)} (with options: convnet4-w64-bn-max), timm/NAME for a model of timm, "
        f"or a torchvision classifier: {', '.join(known[len(OWN) :])}"
    )
