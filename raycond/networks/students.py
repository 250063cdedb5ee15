"""From a student's name to a network with random weights."""

from __future__ import annotations

import difflib
import re
import warnings

import torch
from torch import nn

from raycond.errors import UserError
from raycond.networks.convnet import MLP, ConvNet

DEPTHS = (3, 4, 6)
SMALL = 64  # below this many pixels a side, ImageNet's stem would leave a ResNet almost no map

_SHAPE_ERRORS = (RuntimeError, ValueError, IndexError, AssertionError, ZeroDivisionError)
_SIZED = re.compile(r"(convnet(?P<depth>\d+)|mlp)(-w(?P<width>\d+))?")


def names() -> list[str]:
    """Every student name, own ones first; the own ones also take a width, as in convnet3-w64."""
    from torchvision import models

    return [f"convnet{depth}" for depth in DEPTHS] + ["mlp", *models.list_models(module=models)]


def build(name: str, *, classes: int, size: int, channels: int) -> nn.Module:
    """A network that takes (n, channels, size, size) floats and gives (n, classes) logits.

    Initial weights come from torch's global generator: seed it first. ResNets get the CIFAR stem (3x3
    convolution, stride 1, no max pool) below 64 pixels. Raises UserError for an unknown name and for a
    network that cannot take images this small.
    """
    for what, value in (("classes", classes), ("size", size), ("channels", channels)):
        if value < 1:
            raise UserError(f"student {name}: {what} must be at least 1, not {value}")
    match = _SIZED.fullmatch(name)
    if match and (match["depth"] is None or int(match["depth"]) in DEPTHS):
        width = int(match["width"] or 128)
        if width < 1:
            raise UserError(f"student {name}: the width after -w must be at least 1")
        if match["depth"] is None:
            return MLP(classes=classes, size=size, channels=channels, width=width)
        return ConvNet(int(match["depth"]), classes=classes, size=size, channels=channels, width=width)
    known = names()
    if name not in known:
        raise _unknown(name, known)
    net = _torchvision(name, classes, size, channels)
    _check_takes(name, net, size, channels)
    return net


def _torchvision(name: str, classes: int, size: int, channels: int) -> nn.Module:
    from torchvision import models

    extra: dict[str, object] = {}
    if name in ("googlenet", "inception_v3"):
        extra = {"aux_logits": False, "init_weights": True}
    elif name.startswith("vit_"):
        extra = {"image_size": size}
    elif name.startswith("maxvit_"):
        extra = {"input_size": (size, size)}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pretrained weights, which are never asked for here
            net = models.get_model(name, weights=None, num_classes=classes, **extra)
    except _SHAPE_ERRORS as error:
        raise _too_small(name, size, channels, error) from error
    if channels != 3:
        _replace_first_conv(net, in_channels=channels)
    if isinstance(net, models.ResNet) and size < SMALL:
        _replace_first_conv(net, kernel_size=3, stride=1, padding=1)
        net.maxpool = nn.Identity()
    return net


def _replace_first_conv(net: nn.Module, **changes: int) -> None:
    path, conv = next((p, m) for p, m in net.named_modules() if isinstance(m, nn.Conv2d))
    settings: dict[str, object] = {
        "in_channels": conv.in_channels,
        "out_channels": conv.out_channels,
        "kernel_size": conv.kernel_size,
        "stride": conv.stride,
        "padding": conv.padding,
        "bias": conv.bias is not None,
    }
    fresh = nn.Conv2d(**(settings | changes))  # type: ignore[arg-type]
    if conv.bias is None:  # torchvision's own initialisation of stems without a bias
        nn.init.kaiming_normal_(fresh.weight, mode="fan_out", nonlinearity="relu")
    parent, _, leaf = path.rpartition(".")
    setattr(net.get_submodule(parent), leaf, fresh)


def _check_takes(name: str, net: nn.Module, size: int, channels: int) -> None:
    """A forward pass on the meta device: shapes are checked, nothing is computed or allocated."""
    tensors = {k: v.detach().to("meta") for k, v in (*net.named_parameters(), *net.named_buffers())}
    try:
        with torch.no_grad():
            net.eval()
            torch.func.functional_call(net, tensors, torch.zeros(2, channels, size, size, device="meta"))
            net.train()
    except _SHAPE_ERRORS as error:
        raise _too_small(name, size, channels, error) from error


def _too_small(name: str, size: int, channels: int, error: Exception) -> UserError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return UserError(
        f"student {name} cannot take images of {channels}x{size}x{size}: {reason}\n"
        "Use larger images or a student made for small ones (convnet3, resnet18)."
    )


def _unknown(name: str, known: list[str]) -> UserError:
    close = difflib.get_close_matches(name, known, n=5, cutoff=0.6)
    hint = f"Did you mean {' or '.join(close)}?\n" if close else ""
    return UserError(
        f"student {name!r} is not known. {hint}"
        "Use convnet3, convnet4 or convnet6 or mlp (with a width: convnet3-w64), "
        f"or a torchvision classifier: {', '.join(known[4:])}"
    )
