"""Tiny CLIP models of open_clip's own classes, with random weights, in folders as open_clip writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from raycond.data.classes import Classes
from raycond.models.clip import build, save_clip

THREE = Classes(("a", "b", "c"), ("tench", "English_springer", "cassette player"))
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
_TEXT = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
CONFIGS: dict[str, dict[str, Any]] = {
    "resnet": {
        "embed_dim": 12,
        "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "head_width": 32},
        "text_cfg": _TEXT,
    },
    "vit": {
        "embed_dim": 12,
        "vision_cfg": {"image_size": 8, "layers": 2, "width": 16, "head_width": 8, "patch_size": 4},
        "text_cfg": _TEXT,
    },
}


def model(kind: str, seed: int = 0) -> nn.Module:
    """In eval mode; BatchNorms with random statistics, and no branch that starts at zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net: nn.Module = build(CONFIGS[kind])
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.1)
                module.running_mean.normal_(std=0.1)  # type: ignore[union-attr]
                module.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]
    return net.eval()


def saved(folder: Path, kind: str = "resnet", seed: int = 0, **options: Any) -> str:
    save_clip(str(folder), CONFIGS[kind], model(kind, seed).state_dict(), mean=MEAN, std=STD, **options)
    return str(folder)


def pictures(n: int, size: int, channels: int = 3) -> torch.Tensor:
    return torch.rand(n, channels, size, size, generator=torch.Generator().manual_seed(size))
