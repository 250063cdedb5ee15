"""Stable Diffusion 1.5's size: image-to-image at 512 px."""

from __future__ import annotations

from benchmarks.gpu import diffusion
from benchmarks.gpu.context import Context
from benchmarks.gpu.part import Part


def run(context: Context) -> None:
    diffusion.run(context, diffusion.Sizes("sd", 512, (1, 2, 4, 8, 16)))


PART = Part("Stable Diffusion image-to-image at 512 px", seconds=70, least=35, run=run)
