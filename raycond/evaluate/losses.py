"""The loss of each image under a protocol, with hard or soft targets, mixed or not; weights act on any of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from raycond.evaluate.protocol import EvaluationProtocol


@dataclass(frozen=True)
class Targets:
    """What a batch of n views should be called, and how much each counts.

    labels (n,): hard. weights (n,): of the own image. soft (n, C): the labeler's logits or None; whole: they are of the
    mixed view, else of the own image. partner (n,) and own: whom each view is mixed with and the share it kept; None
    where nothing is mixed.
    """

    labels: Tensor
    weights: Tensor
    soft: Tensor | None = None
    whole: bool = False
    partner: Tensor | None = None
    own: Tensor | float = 1.0

    def mixed(self, values: Tensor) -> Tensor:
        """λ · own + (1 − λ) · partner's."""
        if self.partner is None:
            return values
        return self.own * values + (1 - self.own) * values[self.partner]


def weighted_loss(logits: Tensor, targets: Targets, protocol: EvaluationProtocol) -> Tensor:
    """Mean over the batch of weight · loss: not divided by the sum of the weights, whose mean is 1 over a class."""
    weights = targets.mixed(targets.weights) if protocol.mix_weights == "mix" else targets.weights
    return (losses(logits.float(), targets, protocol) * weights).mean()


def losses(logits: Tensor, targets: Targets, protocol: EvaluationProtocol) -> Tensor:
    """The loss of each view, (n,); `EvaluationProtocol.loss` has the formulas."""
    if targets.soft is None:
        return _hard(logits, targets)
    if protocol.loss == "mse+ce":
        soft = targets.soft if targets.whole else targets.mixed(targets.soft)
        # what all logits of an image have in common is nothing to softmax, and differs between kinds of labelers
        soft = soft - soft.mean(1, keepdim=True)
        return (logits - soft).square().mean(1) + protocol.ce_weight * _hard(logits, targets)
    p = F.softmax(targets.soft / protocol.temperature, 1)
    p = p if targets.whole else targets.mixed(p)
    if protocol.loss == "kl":
        return F.kl_div(F.log_softmax(logits / protocol.temperature, 1), p, reduction="none").sum(1)
    return -(p * F.log_softmax(logits, 1)).sum(1)


def _hard(logits: Tensor, targets: Targets) -> Tensor:
    own = F.cross_entropy(logits, targets.labels, reduction="none")
    if targets.partner is None:
        return own
    other = F.cross_entropy(logits, targets.labels[targets.partner], reduction="none")
    return targets.own * own + (1 - targets.own) * other
