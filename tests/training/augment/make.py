"""Generators and images for the tests of augmentation, and every augmentation of a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from raycond.training import augment

Change = Callable[[torch.Tensor, torch.Generator], torch.Tensor]

DSA = {f"dsa-{name}": name for name in ("color", "crop", "cutout", "flip", "scale", "rotate", "dc")}
CHANGES: dict[str, Change] = {
    "shift": lambda x, g: augment.shift(x, 0.25, g),
    "flip": augment.flip,
    "random_crop_scale": lambda x, g: augment.random_crop_scale(x, (0.5, 1.0), g),
    "cutmix": lambda x, g: augment.cutmix(x, 1.0, g).images,
    "cutmix-0.2": lambda x, g: augment.cutmix(x, 0.2, g).images,
    "mixup": lambda x, g: augment.mixup(x, 0.8, g).images,
    "jitter": lambda x, g: augment.jitter(x, 0.4, 0.4, 0.4, g),
    "lighting": lambda x, g: augment.lighting(x, 0.1, g),
    "shuffle": lambda x, g: augment.shuffle(x, 2, g),
    **{name: lambda x, g, s=s: augment.dsa(x, s, g) for name, s in DSA.items()},  # type: ignore[misc]
    **{f"{name}-shared": lambda x, g, s=s: augment.dsa(x, s, g, shared=True) for name, s in DSA.items()},  # type: ignore[misc]
}


def generator(seed: int = 0, device: str = "cpu") -> torch.Generator:
    return torch.Generator(device).manual_seed(seed)


def images(n: int = 16, channels: int = 3, height: int = 12, width: int | None = None) -> torch.Tensor:
    """Uniform in [0, 1]."""
    return torch.rand(n, channels, height, width or height, generator=generator(9))


class SameDraws(TorchFunctionMode):
    """Inside it every draw with a generator is made on the CPU, by a stream that begins anew, and then moved to the
    generator's device: an augmentation draws the same numbers on every device."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        asked = kwargs.get("generator")
        if not isinstance(asked, torch.Generator):
            return func(*args, **kwargs)
        kwargs |= {"generator": generator()} | ({"device": "cpu"} if "device" in kwargs else {})
        return func(*args, **kwargs).to(asked.device)
