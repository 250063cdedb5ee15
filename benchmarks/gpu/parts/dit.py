"""DiT-XL/2's size: images of 256 px from noised centroids."""

from __future__ import annotations

from benchmarks.gpu import diffusion
from benchmarks.gpu.context import Context
from benchmarks.gpu.part import Part


def run(context: Context) -> None:
    diffusion.run(context, diffusion.Sizes("dit", 256, (1, 4, 16, 32, 64)))


PART = Part("DiT-XL/2 at 256 px", seconds=45, least=25, run=run)
