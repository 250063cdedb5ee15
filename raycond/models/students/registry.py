"""From a student's name to a network with random weights."""

from __future__ import annotations

import re
from typing import Any

from torch import nn

from raycond.core.errors import UserError, named
from raycond.core.registry import Entry, Registry, did_you_mean
from raycond.models.students import zoo
from raycond.models.students.base import Family

_HERE = "raycond.models.students"

# each target is a `base.Family`; other names are those of torchvision and timm
STUDENTS = Registry(
    "student",
    [
        Entry("convnet", "the net of DC, DSA and DM, of depth 1 to 7 (convnet3)", f"{_HERE}.convnet:CONVNET"),
        Entry("mlp", "three linear layers", f"{_HERE}.convnet:MLP_FAMILY"),
        Entry("resnet", "IDC's ResNet, of depth 10 or 18 (resnet10, resnet18-in)", f"{_HERE}.residual:RESNET"),
        Entry("resnetap", "IDC's ResNet with average pools (resnetap10)", f"{_HERE}.residual:RESNETAP"),
        Entry("kipnet", "the net that KIP transfers to, without norm (kipnet3)", f"{_HERE}.kipnet:KIPNET"),
    ],
)

_TORCHVISION = ("resnet18",)  # torchvision's, though the name would also be one of a family
_STEM = re.compile(r"(?P<kind>[a-z_]*[a-z])(?P<depth>[1-9]\d*)?")
_WIDTH = re.compile(r"w(\d+)")


def names() -> list[str]:
    """The names of students, raycond's own first; `build` says what else these take. timm's are not listed."""
    from torchvision import models

    return [*_own_names(), *models.list_models(module=models)]


def build(name: str, *, classes: int, size: int, channels: int) -> nn.Module:
    """A network that takes (n, channels, size, size) floats and gives (n, classes) logits.

    Names, with options in any order after a hyphen, the default first:

    - convnet1 to convnet7: -w128 (width), -in -bn -ln -gn -nonorm (norm), -avg -max -nopool, -relu -sigmoid
      -leaky; convnet3 is the net of DC, DSA and DM, convnet4-w64-bn-max a variant.
    - kipnet1 to kipnet7: -w1024, -extra -noextra (one more convolution before the blocks).
    - mlp: -w128.
    - resnet10, resnet18-in: -bn -in (norm), -w64 (channels of the first stage), and resnetap10, resnetap18: -in
      -bn, -w64; see `residual` for their stems. resnet18 without options is torchvision's.
    - a classifier of torchvision. Its ResNets get the CIFAR stem (3x3 convolution, stride 1, no max pool) up to
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
    match = _STEM.fullmatch(stem)
    if match and match["kind"] in STUDENTS and name not in _TORCHVISION:
        family: Family = STUDENTS[match["kind"]].load()
        if (int(match["depth"]) if match["depth"] else None) in (family.depths or (None,)):
            with named(f"student {name}"):
                return _of_family(family, match["kind"], match["depth"], tokens, images)
    known = names()
    if name not in known:
        raise _unknown(name, known)
    return zoo.from_torchvision(name, **images)


def _of_family(family: Family, kind: str, depth: str | None, tokens: list[str], images: dict[str, int]) -> nn.Module:
    options = _options(family, kind, tokens)
    if images["size"] < family.smallest:
        raise UserError(f"images must be at least {family.smallest} pixels a side, not {images['size']}")
    return family.network(*([int(depth)] if depth else []), **images, **options)


def _options(family: Family, kind: str, tokens: list[str]) -> dict[str, Any]:
    """Arguments of the family's network from what follows the name's hyphens."""
    options: dict[str, Any] = {}
    for token in tokens:
        width = _WIDTH.fullmatch(token)
        option = "width" if width else next((o for o, values in family.choices.items() if token in values), None)
        if option is None:
            every = " ".join(["-wN", *(f"-{value}" for values in family.choices.values() for value in values)])
            raise UserError(f"-{token} is not an option of {kind}; it takes {every}")
        if option in options:
            raise UserError(f"-{token} gives the {option} a second time")
        options[option] = int(width[1]) if width else token
    if options.get("width", 1) < 1:
        raise UserError("the width after -w must be at least 1")
    return options


def _own_names() -> list[str]:
    return [name for entry in STUDENTS for name in entry.load().listed]


def _unknown(name: str, known: list[str]) -> UserError:
    own = _own_names()
    return UserError(
        f"student {name!r} is not known{did_you_mean(name, known) or '.'} Use {', '.join(own)} (with options: "
        f"convnet4-w64-bn-max), timm/NAME for a model of timm, or a torchvision classifier: "
        f"{', '.join(known[len(own) :])}"
    )
