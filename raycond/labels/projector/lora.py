"""Low-rank deltas on the weights of a frozen network: W + B·A, with B = 0 at the start."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from raycond.core.errors import UserError

Layout = Literal["3x3", "peft"]
LAYOUTS: dict[str, str] = {
    "3x3": "the 3 × 3 convolutions, each a matrix of (out·3, in·3): loralib's ConvLoRA; HeLlO's counts",
    "peft": "all convolutions but those of downsample, each a matrix of (out, in·k·k): peft's LoRA",
}
_POOLING = ("attnpool", "attn_pool", "head")  # pooling heads: HeLlO's parameter counts leave them untouched


class LowRank(nn.Module):
    """weight → weight + B·A in the weight's shape; A (rank, columns) uniform in ±1/√columns, B (rows, rank) zero.

    loralib's start, with α = rank, so without a factor (arXiv 2106.09685, section 4.1). The sum is taken in float32.
    """

    def __init__(self, rows: int, columns: int, rank: int, generator: torch.Generator, device: torch.device) -> None:
        super().__init__()
        bound = 1 / math.sqrt(columns)
        start = torch.empty(rank, columns).uniform_(-bound, bound, generator=generator)
        self.A = nn.Parameter(start.to(device))
        self.B = nn.Parameter(torch.zeros(rows, rank, device=device))

    def forward(self, weight: Tensor) -> Tensor:
        with torch.autocast(weight.device.type if weight.device.type != "meta" else "cpu", enabled=False):
            return weight + (self.B @ self.A).view(weight.shape)


@dataclass(frozen=True)
class Target:
    """A weight to adapt. width: numbers of rank per unit of `rank` (loralib's matrices of a k × k kernel have k)."""

    module: nn.Module
    weight: str
    rows: int
    columns: int
    width: int = 1


def targets(tower: nn.Module, layout: str) -> list[Target]:
    """What of an image tower is adapted: the convolutions of a ResNet, by layout; else attention's and MLP's matrices.

    Never pooling heads, patch embeddings, norms or biases. Raises UserError for an unknown layout or where there is
    nothing to adapt.
    """
    if layout not in LAYOUTS:
        known = "\n".join(f"  {name:5} {text}" for name, text in LAYOUTS.items())
        raise UserError(f"layout {layout!r}: expected one of\n{known}")
    found = list(_matrices(tower)) or list(_convolutions(tower, layout))
    if not found:
        raise UserError(f"layout {layout}: {type(tower).__name__} has neither convolutions nor matrices to adapt")
    return found


def adapt(tower: nn.Module, layout: str, rank: int, generator: torch.Generator) -> None:
    """Give every target of the tower a delta; nothing for rank 0. The generator, on the CPU, draws all A in order."""
    if rank:
        for target in targets(tower, layout):
            add(target, rank, generator)


def add(target: Target, rank: int, generator: torch.Generator) -> None:
    weight: Tensor = getattr(target.module, target.weight)
    delta = LowRank(target.rows, target.columns, rank * target.width, generator, weight.device)
    parametrize.register_parametrization(target.module, target.weight, delta)


def merge(module: nn.Module) -> None:
    """Make every adapted weight of the module a plain one of its present value."""
    for part in list(module.modules()):
        if parametrize.is_parametrized(part):
            for name in list(part.parametrizations):  # type: ignore[arg-type]
                parametrize.remove_parametrizations(part, name, leave_parametrized=True)
    module.requires_grad_(False)


def _matrices(tower: nn.Module) -> Iterator[Target]:
    for path, module in tower.named_modules():
        if _pools(path):
            continue
        if isinstance(packed := getattr(module, "in_proj_weight", None), Tensor):  # query, key and value in one
            yield Target(module, "in_proj_weight", *packed.shape)
        if isinstance(module, nn.Linear):
            yield Target(module, "weight", module.out_features, module.in_features)


def _convolutions(tower: nn.Module, layout: str) -> Iterator[Target]:
    for path, module in tower.named_modules():
        if not isinstance(module, nn.Conv2d) or module.groups > 1 or _pools(path):
            continue
        height, width = module.kernel_size
        rows, columns = module.out_channels, module.in_channels
        if layout == "peft" and "downsample" not in path.split("."):
            yield Target(module, "weight", rows, columns * height * width)
        elif layout == "3x3" and (height, width) == (3, 3):
            yield Target(module, "weight", rows * height, columns * width, width)


def _pools(path: str) -> bool:
    return any(part in _POOLING for part in path.split("."))
