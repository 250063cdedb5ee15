"""The quantizers on the device: against the CPU, and seconds a class of ImageNet's size."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from benchmarks.gpu.context import Context, differing, relative_error
from benchmarks.gpu.part import Part
from raycond.methods.quantize.clvq import Clvq
from raycond.methods.quantize.codebook import Codebook, codebook, nearest
from raycond.methods.quantize.lloyd import lloyd
from raycond.methods.quantize.quantization import quantize_classes

RESTARTS = 5  # the pipeline's default
MODES = 10


@dataclass(frozen=True)
class Sizes:
    """check: classes, points and numbers of a latent. rows: points a class. numbers: of a latent, as the tables have it
    → as it is measured. at_once: classes that are quantized together. ipcs: all of them in one call."""

    check: tuple[int, int, int]
    rows: int
    numbers: dict[int, int]
    at_once: tuple[int, ...]
    ipcs: tuple[int, ...]


# 4,096 numbers are the latents of 256 px, 16,384 those of 512 px; ImageNet-1K has 1,281 images a class
FULL = Sizes((3, 400, 1024), 1300, {4096: 4096, 16384: 16384}, (1, 4, 16), (10, 50, 100, 200))
TINY = Sizes((2, 60, 128), 40, {4096: 64, 16384: 96}, (1, 2), (2, 5))


def run(context: Context) -> None:
    sizes = TINY if context.tiny else FULL
    classes, rows, numbers = sizes.check
    apart = clouds(classes, rows, numbers, spread=0.05)
    _labels(context, apart)
    _final_pass(context, apart[0])
    _quality(context, sizes)
    _repeats(context, sizes)
    for numbers in sizes.numbers:
        measure = partial(_time, context, sizes, numbers)
        context.sweep(f"Lloyd of {numbers} numbers, classes at once", sizes.at_once, measure)
        _time_final_pass(context, sizes, numbers)


def clouds(classes: int, rows: int, numbers: int, *, spread: float) -> Tensor:
    """(classes, rows, numbers) float32: `MODES` clouds in each class. spread: of a cloud, next to the distance of the
    clouds from one another; 0.05 leaves no doubt where a point belongs."""
    random = torch.Generator().manual_seed(0)
    centers = torch.randn(classes, MODES, numbers, generator=random)
    member = torch.randint(MODES, (classes, rows), generator=random)
    member[:, :MODES] = torch.arange(MODES)
    points = torch.randn(classes, rows, numbers, generator=random).mul_(spread)
    return points.add_(centers.gather(1, member[:, :, None].expand(-1, -1, numbers)))


def latents(classes: int, rows: int, numbers: int, device: torch.device | str) -> Tensor:
    """(classes, rows, numbers) float32 with variances that fall as k^-0.8 over the axes k, as the principal components
    of a class of photographs do (measured on TAEF2's latents of Imagenette)."""
    random = torch.Generator(device).manual_seed(0)
    scale = torch.arange(1, numbers + 1, device=device) ** -0.4
    return torch.randn(classes, rows, numbers, generator=random, device=device).mul_(scale)


# ---- checks


def _labels(context: Context, points: Tensor) -> None:
    """Clouds that lie apart: every point must have the CPU's label, and batched classes the labels of single ones."""
    seeds = list(range(len(points)))
    moved = points.to(context.device)
    expected = lloyd(points, [MODES], seeds=seeds, restarts=RESTARTS)[MODES]
    together = lloyd(moved, [MODES], seeds=seeds, restarts=RESTARTS)[MODES]
    alone = torch.cat([lloyd(moved[b : b + 1], [MODES], seeds=[b], restarts=RESTARTS)[MODES] for b in seeds])

    def labels(centroids: Tensor) -> Tensor:
        # each class's own order of centroids counts: it is that of the seeds
        return torch.stack([nearest(x, c.to(x))[0] for x, c in zip(points, centroids, strict=True)])

    wrong = differing(labels(together), labels(expected))
    context.check("Lloyd, against the CPU", wrong, 0, "labels that differ")
    wrong = differing(labels(together), labels(alone))
    context.check("Lloyd, classes together against one by one", wrong, 0, "labels that differ")
    context.check("Lloyd, classes together against one by one", relative_error(together, alone), 1e-5, "relative error")
    streams = [Clvq(MODES, 0), Clvq(MODES, 0)]
    for stream, x in zip(streams, (points[0], moved[0]), strict=True):
        stream.add(x)
    error = relative_error(streams[1].centroids(), streams[0].centroids())
    context.check("CLVQ, against the CPU", error, 1e-4, "relative error")


def _final_pass(context: Context, points: Tensor) -> None:
    """Assignment, counts, medoids and distortion against plain differences in float64."""
    random = torch.Generator().manual_seed(1)
    centroids = points[torch.randperm(len(points), generator=random)[: 2 * MODES]]
    centroids = centroids + 0.01 * torch.randn(centroids.shape, generator=random)
    distance = torch.stack([(points.double() - c.double()).square().sum(1) for c in centroids], 1)
    least, labels = distance.min(1)
    book = codebook([points.to(context.device)], centroids.to(context.device), (points.shape[1],))
    context.check("final pass", differing(nearest(points.to(context.device), centroids.to(context.device))[0], labels),
                  0, "labels that differ from float64's")  # fmt: skip
    counts = torch.bincount(labels, minlength=len(centroids))
    order = counts.argsort(descending=True, stable=True)
    medoids = torch.where(labels[:, None] == torch.arange(len(centroids)), distance, torch.inf).argmin(0)[order]
    context.check("final pass", differing(book.counts, counts[order]), 0, "counts that differ from float64's")
    context.check("final pass", differing(book.medoids, medoids), 0, "medoids that differ from float64's")
    error = abs(book.distortion / float(least.mean()) - 1)
    context.check("final pass", error, 1e-6, "relative difference of the distortion")


def _quality(context: Context, sizes: Sizes) -> None:
    """Distortions against the CPU's: the same cells where there are few of them, as good ones where there are many,
    since a draw of k-means++ that rounding decides otherwise leads to other cells."""
    classes, rows, numbers = sizes.check
    few, many = clouds(classes, rows, numbers, spread=0.3), latents(1, rows, numbers, "cpu")
    for points, ipc, limit in ((few, MODES, 1e-4), (many, rows // 4, 1e-3)):
        here, there = (_books(points.to(device), [ipc]) for device in ("cpu", context.device))
        error = max(abs(a[0].distortion / b[0].distortion - 1) for a, b in zip(here, there, strict=True))
        context.check(f"Lloyd at IPC {ipc} of {rows} points, against the CPU", error, limit,
                      "relative difference of the distortion")  # fmt: skip


def _books(points: Tensor, ipcs: list[int]) -> list[list[Codebook]]:
    return quantize_classes(points, ipcs, kind="lloyd", seeds=list(range(len(points))), restarts=RESTARTS)


def _repeats(context: Context, sizes: Sizes) -> None:
    """The same bits from the same points and seeds."""
    points = latents(2, sizes.rows, next(iter(sizes.numbers.values())), context.device)
    first, second = (_books(points, list(sizes.ipcs)) for _ in range(2))
    wrong = sum(
        differing(a.centroids, b.centroids)
        for one, other in zip(first, second, strict=True)
        for a, b in zip(one, other, strict=True)
    )
    context.check("Lloyd twice", wrong, 0, "numbers of the centroids that differ")


# ---- figures


def _time(context: Context, sizes: Sizes, numbers: int, at_once: int) -> None:
    """All that the pipeline does with the latents of `at_once` classes."""
    points = latents(at_once, sizes.rows, sizes.numbers[numbers], context.device)
    with context.memory() as memory:
        seconds = context.seconds(lambda: _books(points, list(sizes.ipcs)))
    per_class = [one / at_once for one in seconds]
    setting = {"rows": sizes.rows, "numbers": numbers, "classes at once": at_once}
    context.figure("lloyd", "s a class", per_class, setting, memory)


def _time_final_pass(context: Context, sizes: Sizes, numbers: int) -> None:
    points = latents(1, sizes.rows, sizes.numbers[numbers], context.device)[0]
    for ipc in sizes.ipcs:
        centroids = points[:ipc] + 0.1 * torch.randn_like(points[:ipc])
        seconds = context.seconds(partial(codebook, [points], centroids, points.shape[1:]))
        context.figure("final pass", "s a class", seconds, {"rows": sizes.rows, "numbers": numbers, "ipc": ipc})


PART = Part("Lloyd's k-means and the final pass, IPC 10, 50, 100 and 200 together", seconds=45, least=15, run=run)
