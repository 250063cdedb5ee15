"""The matching methods by name: an objective each, and the settings that all data sets share."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from raycond.core.errors import UserError
from raycond.methods.match.config import MatchConfig
from raycond.methods.match.distribution import DistributionMatching
from raycond.methods.match.gradient import GradientMatching
from raycond.methods.match.objective import Objective


@dataclass(frozen=True)
class Method:
    """A matching method: `summary` for help texts, its objective, and its settings where the defaults are not its own.

    settings: fields of `MatchConfig`; those of `sampling` and `training` as mappings.
    """

    name: str
    summary: str
    objective: type[Objective]
    settings: Mapping[str, Any] = field(default_factory=dict)


_DC_TRAINING = {"data": "synthetic", "batch": 256, "lr": 0.01}
_DSA = {"init": "random", "augment": "dsa", "strategy": "color_crop_cutout_flip_scale_rotate"}

METHODS = (
    Method(
        "dc",
        "gradients of a network that learns the synthetic images (Zhao et al., ICLR 2021)",
        GradientMatching,
        {"init": "noise", "training": _DC_TRAINING},
    ),
    Method(
        "dsa",
        "dc with the same augmentation of real and synthetic images (Zhao and Bilen, ICML 2021)",
        GradientMatching,
        {**_DSA, "training": {**_DC_TRAINING, "strategy": _DSA["strategy"]}},
    ),
    Method(
        "dm",
        "mean features of random networks (Zhao and Bilen, WACV 2023)",
        DistributionMatching,
        {**_DSA, "iterations": 20_000, "lr": 1.0},
    ),
    Method(
        "idc",
        "gradients of convolutions of a network that learns real images; several images in one (Kim et al., ICML 2022)",
        GradientMatching,
        {
            "iterations": 2000,
            "steps": 100,
            "lr": 5e-3,
            "image_step": "class",
            "batch": 64,
            "distance": "mse",
            "weights": "convolutions",
            "pixels": "unit",
            "augment": "idc",
            "strategy": "color_crop_cutout",
            "sampling": {"order": "epochs"},
            "training": {
                "data": "real",
                "images": 2000,
                "batch": 64,
                "momentum": 0.9,
                "weight_decay": 5e-4,
                "strategy": "color_crop",
                "cutmix": 0.5,
            },
        },
    ),
)


def names() -> tuple[str, ...]:
    return tuple(method.name for method in METHODS)


def method(name: str) -> Method:
    """Raises UserError, with names that are near, for an unknown method."""
    for known in METHODS:
        if known.name == name:
            return known
    near = difflib.get_close_matches(name.lower(), names(), n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise UserError(f"--method {name}: not one of {', '.join(names())}{hint}")


def objective(config: MatchConfig) -> Objective:
    """The objective of a configuration. Raises UserError for an unknown method."""
    return method(config.method).objective(config)
