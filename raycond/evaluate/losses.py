"""The loss of each image under a protocol, with hard or soft targets, mixed or not; weights act on any of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from raycond.evaluate.protocol import EvaluationProtocol


@dataclass(frozen=True)
class Targets:
    """What a student should answer for a batch of n views, and how much each view counts.

    A view may be mixed from two images of the batch: λ of its first image and 1 − λ of its second.
    """

    labels: Tensor
    """Hard labels of the first images: (n,) int64, or (n, classes) probabilities that are mixed already."""

    weights: Tensor
    """(n,) weights of the first images."""

    soft: Tensor | None = None
    """(n, classes) logits of a labeler; None for hard labels alone."""

    soft_of_mixed_view: bool = False
    """Whether the labeler saw the mixed view; otherwise `soft` belongs to the first image."""

    permutation: Tensor | None = None
    """(n,) int64, the place in the batch of each view's second image; None where nothing is mixed here."""

    lam: Tensor | float = 1.0
    """λ, for the whole batch or (n,) for each view."""

    values: Tensor | None = None
    """(n, classes), what loss mse compares the outputs for the first images with; None for one-hot minus 1/classes."""

    def mixed(self, values: Tensor) -> Tensor:
        """λ · first + (1 − λ) · second, of values of the batch."""
        if self.permutation is None:
            return values
        return self.lam * values + (1 - self.lam) * values[self.permutation]


def weighted_loss(logits: Tensor, targets: Targets, protocol: EvaluationProtocol) -> Tensor:
    """Mean over the batch of weight · loss: not divided by the sum of the weights, whose mean is 1 over a class."""
    weights = targets.mixed(targets.weights) if protocol.mix_weights == "mix" else targets.weights
    return (losses(logits.float(), targets, protocol) * weights).mean()


def losses(logits: Tensor, targets: Targets, protocol: EvaluationProtocol) -> Tensor:
    """The loss of each view, (n,); `EvaluationProtocol.loss` has the formulas."""
    if protocol.loss == "mse":
        return 0.5 * (logits - targets.mixed(_values(logits, targets))).square().mean(1)
    if targets.soft is None:
        return _hard(logits, targets)
    if protocol.loss == "mse+ce":
        soft = targets.soft if targets.soft_of_mixed_view else targets.mixed(targets.soft)
        # what all logits of an image have in common is nothing to softmax, and differs between kinds of labelers
        soft = soft - soft.mean(1, keepdim=True)
        return (logits - soft).square().mean(1) + protocol.ce_weight * _hard(logits, targets)
    p = F.softmax(targets.soft / protocol.temperature, 1)
    p = p if targets.soft_of_mixed_view else targets.mixed(p)
    if protocol.loss == "kl":
        return F.kl_div(F.log_softmax(logits / protocol.temperature, 1), p, reduction="none").sum(1)
    return -(p * F.log_softmax(logits, 1)).sum(1)


def _hard(logits: Tensor, targets: Targets) -> Tensor:
    first = F.cross_entropy(logits, targets.labels, reduction="none")
    if targets.permutation is None:
        return first
    second = F.cross_entropy(logits, targets.labels[targets.permutation], reduction="none")
    return targets.lam * first + (1 - targets.lam) * second


def _values(logits: Tensor, targets: Targets) -> Tensor:
    if targets.values is not None:
        return targets.values
    classes = logits.shape[1]
    one_hot = targets.labels if targets.labels.ndim == 2 else F.one_hot(targets.labels, classes)
    return one_hot.float() - 1 / classes
