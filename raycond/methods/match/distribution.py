"""Distribution matching: DM (WACV 2023, arXiv 2110.04181)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from raycond.methods.match.network import MatchedNetwork, batch_statistics, full
from raycond.methods.match.objective import ClassBatch, Objective
from raycond.models import students

SYNTHETIC_TOGETHER = 256  # synthetic images of one call on a GPU: enough to fill it


class DistributionMatching(Objective):
    """‖mean embedding of the real images − mean embedding of the synthetic ones‖² of each class.

    The embedding is what the network's classifier sees. Nothing is differentiated twice, and real images need no
    gradient at all. A network with BatchNorm sees the images of all classes in one batch, as in VICO's code.
    """

    def together(self, network: MatchedNetwork, synthetic: int) -> int:
        if batch_statistics(network.net):
            return 1 << 30
        return max(1, (network.passes.chunk or SYNTHETIC_TOGETHER) // synthetic)

    def losses(self, network: MatchedNetwork, batches: Sequence[ClassBatch]) -> Tensor:
        embed = students.embedding(network.net)
        with torch.no_grad(), network.passes.once():
            real = [batch.real for batch in batches]
            parts = network.passes.chunks(torch.cat(real), network.net)
            targets = _means(torch.cat([full(embed(part)) for part in parts]), real)
        with network.passes.twice():
            synthetic = [batch.synthetic for batch in batches]
            means = _means(full(embed(torch.cat(synthetic))), synthetic)
        return torch.stack([(a - b).square().sum() for a, b in zip(targets, means, strict=True)])


def _means(features: Tensor, images: Sequence[Tensor]) -> list[Tensor]:
    return [part.mean(0) for part in features.split([len(of_class) for of_class in images])]
