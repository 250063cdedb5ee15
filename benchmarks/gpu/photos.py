"""Photographs: JPEG files, real ones that were brought along and as many of the size of ImageNet's; decoded ones."""

from __future__ import annotations

import io
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from benchmarks.gpu.carry import images
from benchmarks.gpu.context import Context

MEAN_SIZE = (469, 387)  # width and height of an ImageNet-1K photograph, on average
QUALITY = 95
GENERATED = 32  # where none were brought along


@dataclass(frozen=True)
class Photos:
    """files: encoded JPEGs. kind: where they come from, for tables."""

    kind: str
    files: tuple[bytes, ...]

    @property
    def name(self) -> str:
        """The kind with the mean size."""
        sizes = [Image.open(io.BytesIO(file)).size for file in self.files]
        width, height = (statistics.mean(side) for side in zip(*sizes, strict=True))
        return f"{self.kind}: {width:.0f} × {height:.0f} px, {statistics.mean(map(len, self.files)) / 1000:.0f} kB"

    def some(self, count: int) -> list[bytes]:
        """So many files, over and over again the same ones."""
        return [self.files[k % len(self.files)] for k in range(count)]


def photo_sets(context: Context) -> list[Photos]:
    """The files that were brought along, if there are any, and their enlargements; else generated pictures."""
    paths = images(context.carry)
    size = (MEAN_SIZE[0] // 8, MEAN_SIZE[1] // 8) if context.tiny else MEAN_SIZE
    if not paths:
        generated = tuple(_encoded(_generated(seed, size)) for seed in range(4 if context.tiny else GENERATED))
        return [Photos("generated, as large as ImageNet's", generated)]
    paths = paths[:4] if context.tiny else paths
    files = tuple(path.read_bytes() for path in paths)
    return [Photos("brought along", files), Photos("enlarged, as large as ImageNet's", _enlarged(paths, size))]


def pictures(count: int, size: int, device: torch.device | str = "cpu") -> Tensor:
    """(count, 3, size, size) uint8: random colors with soft edges."""
    random = torch.Generator().manual_seed(count * size)
    coarse = torch.rand(count, 3, 8, 8, generator=random)
    fine = F.interpolate(coarse, (size, size), mode="bilinear") * 255
    return fine.to(torch.uint8).to(device)


def _enlarged(paths: Sequence[Path], size: tuple[int, int]) -> tuple[bytes, ...]:
    originals = (Image.open(path).convert("RGB") for path in paths)
    return tuple(_encoded(picture.resize(size, Image.Resampling.BICUBIC)) for picture in originals)


def _generated(seed: int, size: tuple[int, int]) -> Image.Image:
    """Large patches of color with a fine texture, which together compress about as photographs do."""
    draw = np.random.default_rng(seed)
    patches = Image.fromarray(draw.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    texture = draw.normal(0, 12, (size[1], size[0], 1))
    return Image.fromarray((np.asarray(patches) + texture).clip(0, 255).astype(np.uint8))


def _encoded(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "jpeg", quality=QUALITY)
    return buffer.getvalue()
