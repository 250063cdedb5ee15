"""How well a support set with labels predicts images by kernel ridge regression."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from raycond.methods.kernels import regression
from raycond.methods.kernels.architecture import Architecture
from raycond.methods.kernels.blocks import BLOCK, BlockMap, block_kernel, blocks, in_turn, kernel_in_blocks


@dataclass(frozen=True)
class Score:
    """loss: half the mean squared error against centered labels. accuracy: share. reg: as it was used."""

    loss: float
    accuracy: float
    reg: float


def score(
    network: Architecture,
    support: Tensor,
    support_labels: Tensor,
    images: Tensor,
    labels: Tensor,
    *,
    reg: float = regression.REG,
    allow_raise: bool = False,
    block: int = BLOCK,
    device: str = "cpu",
    run: BlockMap = in_turn,
) -> Score:
    """On images (k, C, H, W) with labels (k,) int64, of support (n, C, H, W) with labels (n, classes).

    Kernels with the images are computed in their dtype, that of the support with itself in float64. Raises as
    `regression.fit` does.
    """
    (found,) = scores(
        network,
        support,
        [support_labels],
        images,
        labels,
        reg=reg,
        allow_raise=allow_raise,
        block=block,
        device=device,
        run=run,
    )
    return found


def scores(
    network: Architecture,
    support: Tensor,
    label_sets: Sequence[Tensor],
    images: Tensor,
    labels: Tensor,
    *,
    reg: float = regression.REG,
    allow_raise: bool = False,
    block: int = BLOCK,
    device: str = "cpu",
    run: BlockMap = in_turn,
) -> list[Score]:
    """The same of several labels (n, classes) of one support, with every kernel computed once."""
    kernel = kernel_in_blocks(network, support.double(), block=block, device=device, run=run)
    ridge = regression.fit(kernel, torch.cat(list(label_sets), dim=1), reg=reg, allow_raise=allow_raise)
    rows = kernel_rows(network, images, support, block=block, device=device, run=run)
    predictions = torch.cat([ridge.predict(kernel) for _, kernel in rows])
    classes, labels = label_sets[0].shape[1], labels.cpu()
    targets = regression.centered_labels(labels, classes)
    return [
        Score(regression.loss(part, targets), regression.accuracy(part, labels), ridge.reg)
        for part in predictions.split(classes, dim=1)
    ]


def kernel_rows(
    network: Architecture,
    targets: Tensor,
    support: Tensor,
    *,
    block: int = BLOCK,
    device: str = "cpu",
    run: BlockMap = in_turn,
) -> Iterator[tuple[slice, Tensor]]:
    """Rows (k, n) of K_ts, float64 on the CPU, some targets after another: the matrix of all is never held."""
    parts = blocks(len(targets), len(support), block)
    computed = run(partial(block_kernel, network, "ntk", device), (targets, support), parts)
    row: list[Tensor] = []
    for part, values in zip(parts, computed, strict=True):
        row.append(values.double())
        if part.columns[1] == len(support):
            yield slice(*part.rows), torch.cat(row, dim=1)
            row = []
