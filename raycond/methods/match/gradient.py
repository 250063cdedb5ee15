"""Gradient matching: DC (ICLR 2021, arXiv 2006.05929), DSA (ICML 2021, arXiv 2102.08259), IDC and DREAM's loss.

For the images of one class let g = ∂/∂θ of their mean cross-entropy. A synthetic image moves so that the g of the
synthetic images comes nearer to the g of real ones, which takes the derivative of a derivative.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raycond.core.errors import UserError
from raycond.methods.match.compiled import CompiledLoss, can_compile
from raycond.methods.match.config import MatchConfig
from raycond.methods.match.network import MatchedNetwork, add, full, logits_and_features
from raycond.methods.match.objective import ClassBatch, Objective

EPSILON = 1e-6  # added to a product of norms, as in the code of DC and IDC

Gradients = Sequence[Tensor]


def cosine(real: Gradients, synthetic: Gradients) -> Tensor:
    """DC's distance: 1 − cos for every output of a layer, summed over outputs and layers.

    A row of a weight is what belongs to one output: (out, rest). Tensors of one dimension contribute nothing.
    """
    parts = [_row_distance(a.flatten(1), b.flatten(1)) for a, b in _pairs(real, synthetic) if a.ndim > 1]
    return torch.stack(parts).sum()


def global_cosine(real: Gradients, synthetic: Gradients) -> Tensor:
    """1 − cos of all gradients as one vector."""
    one, other = (torch.cat([g.flatten() for g in gradients]) for gradients in (real, synthetic))
    return _row_distance(one[None], other[None])


def mse(real: Gradients, synthetic: Gradients) -> Tensor:
    """The sum (not the mean) of squared differences; the name is IDC's."""
    return torch.stack([(a - b).square().sum() for a, b in _pairs(real, synthetic)]).sum()


def l1(real: Gradients, synthetic: Gradients) -> Tensor:
    """The sum of absolute differences."""
    return torch.stack([(a - b).abs().sum() for a, b in _pairs(real, synthetic)]).sum()


def l1_mean(real: Gradients, synthetic: Gradients) -> Tensor:
    """The mean absolute difference of every output of a layer, summed over outputs and layers."""
    differences = [(a - b).abs() for a, b in _pairs(real, synthetic)]
    return torch.stack([d.reshape(len(d), -1).mean(1).sum() for d in differences]).sum()


DISTANCES: dict[str, Callable[[Gradients, Gradients], Tensor]] = {
    "cosine": cosine,
    "global-cosine": global_cosine,
    "mse": mse,
    "l1": l1,
    "l1-mean": l1_mean,
}

LEAST_DIMENSIONS = {"all": 0, "matrices": 2, "convolutions": 3}


def _pairs(real: Gradients, synthetic: Gradients) -> zip[tuple[Tensor, Tensor]]:
    return zip(real, synthetic, strict=True)


def _row_distance(one: Tensor, other: Tensor) -> Tensor:
    product = (one * other).sum(1)
    return (1 - product / (one.norm(dim=1) * other.norm(dim=1) + EPSILON)).sum()


class GradientMatching(Objective):
    """The distance of the gradients of real and synthetic images of each class, by `config.distance`.

    With `feature_weight` w it is DREAM+'s loss: w times the distance of mean features is added.
    """

    def __init__(self, config: MatchConfig) -> None:
        super().__init__(config)
        self._compiled: CompiledLoss | None = None

    def together(self, network: MatchedNetwork, synthetic: int) -> int:
        """One: a gradient of each class needs a backward pass of its own, and shared passes only use more memory.

        ConvNet-3 of width 128, 10 classes of 64 real images of 32 pixels on one CPU core: 2.2 s in chunks class by
        class, 4.0 s with grouped convolutions, 7.1 s by vmap over a gradient.
        """
        return 1

    def losses(self, network: MatchedNetwork, batches: Sequence[ClassBatch]) -> Tensor:
        return torch.stack([self._loss(network, batch) for batch in batches])

    def _loss(self, network: MatchedNetwork, batch: ClassBatch) -> Tensor:
        c = self.config
        weights = matched_weights(network.net, c)
        target = self._real_gradients(network, list(weights.values()), batch)
        if can_compile(network) and not c.feature_weight:
            if self._compiled is None or self._compiled.network is not network:
                self._compiled = CompiledLoss(network, list(weights), DISTANCES[c.distance])
            return self._compiled(batch.synthetic, batch.label, target)
        with network.passes.twice():
            logits, features = logits_and_features(network.net, batch.synthetic)
        gradients = torch.autograd.grad(_cross_entropy(logits, batch.label), list(weights.values()), create_graph=True)
        loss = DISTANCES[c.distance](target, gradients)
        if c.feature_weight:
            mean = network.features(batch.real).mean(0)
            loss = loss + c.feature_weight * DISTANCES[c.distance]([mean], [full(features).mean(0)])
        return loss

    def _real_gradients(self, network: MatchedNetwork, weights: Gradients, batch: ClassBatch) -> Gradients:
        total: tuple[Tensor, ...] = ()
        for part in network.passes.chunks(batch.real, network.net):
            with network.passes.once():
                logits = network.forward(part)
            share = len(part) / len(batch.real)
            total = add(total, torch.autograd.grad(share * _cross_entropy(logits, batch.label), weights))
        return total


def matched_weights(net: nn.Module, config: MatchConfig) -> dict[str, Tensor]:
    """The parameters whose gradients are matched, by name. Raises UserError if the network has none of them."""
    least = LEAST_DIMENSIONS[config.weights]
    weights: dict[str, Tensor] = {name: p for name, p in net.named_parameters() if p.ndim >= least}
    if not weights:
        raise UserError(f"network {config.network}: has no {config.weights} whose gradients could be matched")
    return weights


def _cross_entropy(logits: Tensor, label: int) -> Tensor:
    return F.cross_entropy(full(logits), torch.full((len(logits),), label, device=logits.device))
