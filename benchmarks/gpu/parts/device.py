"""The ceilings of the device itself, which the shares in other tables are of."""

from __future__ import annotations

import statistics

import torch

from benchmarks.gpu.context import Context, matmul_rates
from benchmarks.gpu.facts import nominal_peak
from benchmarks.gpu.part import Part


def run(context: Context) -> None:
    nominal = nominal_peak(context.device)
    rates = [rate / 1e12 for rate in context.peak]
    beside = {"share of nominal peak": statistics.median(rates) * 1e12 / nominal} if nominal else {}
    context.figure("matrix product", "TFLOP/s", rates, {"dtype": "bfloat16"}, beside)
    rates = [rate / 1e12 for rate in matmul_rates(context, torch.float32)]
    context.figure("matrix product", "TFLOP/s", rates, {"dtype": "float32"})
    _copy(context)
    if nominal:
        context.note(f"nominal peak: the data sheet gives {nominal / 1e12:g} TFLOP/s in bf16")


def _copy(context: Context) -> None:
    """Bytes read and written by a copy within the device's memory."""
    size = 2**20 if context.tiny else 2**31
    source = torch.zeros(size, dtype=torch.uint8, device=context.device).random_()
    target = torch.empty_like(source)
    seconds = context.seconds(lambda: target.copy_(source))
    context.figure("copy", "GB/s", [2 * size / one / 1e9 for one in seconds])


PART = Part("matrix products and memory of the device", seconds=8, least=3, run=run)
