"""Small images, networks and configurations for the tests of matching."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from raycond.data.class_arrays import Pixels
from raycond.methods.match.config import MatchConfig, NetworkTraining, SamplingConfig
from raycond.methods.match.network import MatchedNetwork
from raycond.methods.match.real import RealImages
from raycond.methods.match.registry import method

MEAN, STD = (0.4, 0.5), (0.2, 0.3)


def real(counts: tuple[int, ...] = (9, 12, 10), side: int = 8, channels: int = 2) -> RealImages:
    draw = np.random.default_rng(0)
    parts = [
        # a bright bar whose place depends on the class, in noise
        np.clip(draw.normal(90 + 40 * label, 40, (count, channels, side, side)), 0, 255).astype(np.uint8)
        for label, count in enumerate(counts)
    ]
    return RealImages(Pixels(parts, "cpu"), MEAN[:channels], STD[:channels])


def config(name: str = "dc", *, sampling: dict[str, Any] | None = None, **changes: Any) -> MatchConfig:
    """A method's settings on a tiny network, with few steps."""
    settings: dict[str, Any] = dict(method(name).settings)
    training = {**settings.get("training", {}), "images": 8, "batch": 4, **changes.pop("training", {})}
    samples = {**settings.get("sampling", {}), "clusters": 4, "recluster": 2, **(sampling or {})}
    return MatchConfig(
        **{
            **settings,
            "method": name,
            "ipc": 2,
            "network": "convnet1-w4",
            "iterations": 2,
            "steps": 1 if name == "dm" else 3,
            "batch": 5,
            "precision": "float32",
            **changes,
            "sampling": SamplingConfig(**samples),
            "training": NetworkTraining(**training),
        }
    )


def network(
    settings: MatchConfig, *, shape: tuple[int, int, int] = (2, 8, 8), classes: int = 3, exact: bool = False
) -> MatchedNetwork:
    """exact: in float64."""
    drawn = MatchedNetwork(settings, shape=shape, classes=classes, seed=3, device=torch.device("cpu"))
    if exact:
        drawn.net.double()
    return drawn


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)
