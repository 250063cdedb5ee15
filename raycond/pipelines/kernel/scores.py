"""How well supports predict the validation images by kernel ridge regression, under the kernel that made them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from raycond.core import records
from raycond.core.progress import Progress
from raycond.data.labelled import LabelledImages
from raycond.evaluate.table import Row
from raycond.methods.kernels.blocks import BlockMap
from raycond.methods.kernels.scoring import scores
from raycond.methods.kernels.whitening import Preprocessing
from raycond.pipelines.kernel.config import KernelConfig
from raycond.pipelines.kernel.supports import Snapshot, Support

PROTOCOL = "krr"  # of rows that no student was trained for


@dataclass(frozen=True)
class Tests:
    """The validation images, decoded. digest: of the images."""

    split: LabelledImages
    digest: str


@dataclass(frozen=True)
class ScoredSnapshot:
    """A support after some steps. top1: percent; loss: half the mean squared error against centered labels."""

    step: int
    top1: float
    loss: float
    reg: float
    """The regularization, as it was used."""


def score_supports(
    config: KernelConfig,
    supports: Sequence[Support],
    preprocessing: Preprocessing,
    tests: Tests,
    *,
    places: Sequence[str],
    run: BlockMap,
    device: str,
) -> dict[int, list[ScoredSnapshot]]:
    """Images per class → every snapshot, tested; those that have no record at `places` are tested now.

    Raises as `regression.fit` does.
    """
    expected = [
        records.fingerprint(stage="krr", support=one.digest, reg=[config.reg, config.raise_reg], tests=tests.digest)
        for one in supports
    ]
    known = [records.find(place, digest) for place, digest in zip(places, expected, strict=True)]
    missing = [k for k, facts in enumerate(known) if facts is None]
    if missing:
        dtype = getattr(torch, config.precision)
        images = preprocessing.apply(tests.split.images, dtype)
        with Progress("krr", sum(len(supports[k].snapshots) for k in missing), "supports") as progress:
            for k in missing:
                scored: list[list[float]] = []
                for group in _of_one_support(config, supports[k].snapshots):
                    read = [snapshot.read() for snapshot in group]
                    seen = scores(
                        config.network,
                        read[0][0].to(dtype),
                        [labels for _, labels in read],
                        images,
                        tests.split.labels,
                        reg=config.reg,
                        allow_raise=config.raise_reg,
                        block=config.block_size,
                        device=device,
                        run=run,
                    )
                    scored += [
                        [snapshot.step, 100 * one.accuracy, one.loss, one.reg]
                        for snapshot, one in zip(group, seen, strict=True)
                    ]
                    progress.step(len(group), f"ipc{supports[k].ipc}: {scored[-1][1]:.1f} %")
                known[k] = records.finish(places[k], expected[k], None, scores=scored)
    return {
        one.ipc: [ScoredSnapshot(*values) for values in facts["scores"]]
        for one, facts in zip(supports, known, strict=True)
        if facts is not None
    }


def krr_rows(config: KernelConfig, scores: dict[int, list[ScoredSnapshot]], classes: int) -> list[Row]:
    """The regressions as rows of results: random real images with one-hot labels, and what was made of them."""
    rows = []
    for ipc, scored in scores.items():
        for method, one in (("random", scored[0]), (config.method, scored[-1])):
            rows.append(
                Row(
                    method=method,
                    ipc=ipc,
                    student=f"krr-{config.network.name}",
                    seed=config.seed,
                    top1=one.top1,
                    best=max(seen.top1 for seen in scored) if method == config.method else one.top1,
                    steps=one.step,
                    seconds=0.0,
                    images=ipc * classes,
                    protocol=PROTOCOL,
                    krr_top1=one.top1,
                )
            )
    return rows


def _of_one_support(config: KernelConfig, snapshots: Sequence[Snapshot]) -> list[Sequence[Snapshot]]:
    """Snapshots in groups that have the same images: Label Solve changes the labels alone."""
    return [snapshots] if config.method == "ls" else [[snapshot] for snapshot in snapshots]
