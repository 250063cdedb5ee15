"""Networks of torchvision and timm with random weights, fitted to the images."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import torch
from torch import nn

from raycond.core.errors import UserError
from raycond.core.registry import did_you_mean

SMALL = 64  # up to this many pixels a side the literature's ResNets have the CIFAR stem (RDED, DC, IDC)

_SHAPE_ERRORS = (RuntimeError, ValueError, IndexError, AssertionError, ZeroDivisionError)


def from_torchvision(name: str, *, classes: int, size: int, channels: int) -> nn.Module:
    """A classifier of torchvision; ResNets get the CIFAR stem (3x3, stride 1, no max pool) up to 64 pixels."""
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
    if isinstance(net, models.ResNet) and size <= SMALL:
        _replace_first_conv(net, kernel_size=3, stride=1, padding=1)
        net.maxpool = nn.Identity()
    _check_takes(name, net, size, channels)
    return net


def from_timm(name: str, *, classes: int, size: int, channels: int) -> nn.Module:
    """The model that timm calls `name`, without a tag of pretrained weights; nothing is downloaded.

    Raises UserError where timm is not installed, for a name that it does not know, and for a model that cannot
    take the images. Stems are left as they are: most are made for 224 pixels.
    """
    try:
        import timm
    except ImportError as error:
        raise UserError(
            f"student timm/{name}: the package timm cannot be imported ({error}); install it (pip install timm) "
            "or use a torchvision classifier"
        ) from error
    if "." in name and timm.is_model(name):
        raise UserError(
            f"student timm/{name}: students start from random weights, so leave the tag out: timm/{name.split('.')[0]}"
        )
    if not timm.is_model(name):
        near = did_you_mean(f"timm/{name}", (f"timm/{model}" for model in timm.list_models()))
        raise UserError(f"student timm/{name}: timm {timm.__version__} has no such model{near}")
    settings: dict[str, Any] = {"num_classes": classes}
    if channels != 3:
        settings["in_chans"] = channels
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:  # only models that are built for one image size have this setting, and timm has no list of them
                net = timm.create_model(name, pretrained=False, img_size=size, **settings)
            except TypeError as error:
                if "img_size" not in str(error):
                    raise
                net = timm.create_model(name, pretrained=False, **settings)
    except (TypeError, KeyError, *_SHAPE_ERRORS) as error:
        raise _too_small(f"timm/{name}", size, channels, error) from error
    _check_takes(f"timm/{name}", net, size, channels)
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
    """A forward pass on the meta device: shapes are checked, nothing is computed or allocated.

    A few models of timm make tensors on the CPU as they go, which meta tensors do not mix with: what fails on
    meta is tried with numbers before it is called an error.
    """
    tensors = (*net.parameters(), *net.buffers())
    # a copy, because functional_call does not put back the weights of modules that are shared (coat_tiny)
    shapes = copy.deepcopy(net, {id(tensor): tensor.detach().to("meta") for tensor in tensors})
    try:
        _forward(shapes, torch.zeros(2, channels, size, size, device="meta"))
    except _SHAPE_ERRORS:
        try:
            _forward(net, torch.zeros(1, channels, size, size))
        except _SHAPE_ERRORS as error:
            raise _too_small(name, size, channels, error) from error


@torch.no_grad()
def _forward(net: nn.Module, images: torch.Tensor) -> None:
    net.eval()
    try:
        net(images)
    finally:
        net.train()


def _too_small(name: str, size: int, channels: int, error: Exception) -> UserError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return UserError(
        f"student {name} cannot take images of {channels}x{size}x{size}: {reason}\n"
        "Use larger images or a student made for small ones (convnet3, resnet18)."
    )
