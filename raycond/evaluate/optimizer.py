"""The optimizer of a protocol and how its learning rate moves."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from raycond.evaluate.protocol import EvaluationProtocol


class ScheduledOptimizer:
    """One training's optimizer: `step` after each backward pass updates the weights and then the learning rate.

    steps: of the whole training; per_epoch: how many of them are one pass over the set (schedules by epoch).
    """

    def __init__(self, net: nn.Module, protocol: EvaluationProtocol, steps: int, per_epoch: float) -> None:
        self.protocol, self.steps, self.per_epoch = protocol, steps, per_epoch
        self.done = 0
        self.optimizer = _optimizer(_groups(net, protocol), protocol)
        self._drops = [_epochs(m, protocol.epochs or 0) for m in protocol.milestones]

    @property
    def lr(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])

    def step(self) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        before = self._passed()
        self.done += 1
        if self.protocol.restart and self._passed() > before:
            self.optimizer.state.clear()
        for group in self.optimizer.param_groups:
            group["lr"] = self.protocol.lr * self.factor()

    def factor(self) -> float:
        """What the learning rate is multiplied with for the coming step."""
        p = self.protocol
        if p.schedule == "constant":
            return 1.0
        if p.schedule == "steps":
            return float(p.gamma ** self._passed())
        at, end = float(self.done), float(self.steps)
        if p.schedule_by == "epoch":
            at, end = at // self.per_epoch, math.ceil(end / self.per_epoch)
        return 0.5 * (1 + math.cos(math.pi * at / (p.cosine_smoothing * end)))

    def _passed(self) -> int:
        epoch = self.done // self.per_epoch
        return sum(epoch >= drop for drop in self._drops)


def _epochs(milestone: float, epochs: int) -> int:
    """A milestone in epochs; shares are rounded down, but 2/3 of 300 is 200 in spite of binary fractions."""
    return math.floor(milestone * epochs + 1e-6) if milestone < 1 else int(milestone)


def _groups(net: nn.Module, protocol: EvaluationProtocol) -> list[dict[str, Any]]:
    parameters = {name: p for name, p in net.named_parameters() if p.requires_grad}
    if protocol.decay_norms:
        return [{"params": list(parameters.values())}]
    decaying = {name for name, p in parameters.items() if "weight" in name and p.ndim > 1}
    return [
        {"params": [p for name, p in parameters.items() if name in decaying]},
        {"params": [p for name, p in parameters.items() if name not in decaying], "weight_decay": 0.0},
    ]


def _optimizer(groups: list[dict[str, Any]], protocol: EvaluationProtocol) -> torch.optim.Optimizer:
    settings: dict[str, Any] = {"lr": protocol.lr, "weight_decay": protocol.weight_decay, "fused": True}
    if protocol.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=protocol.momentum, **settings)
    if protocol.optimizer == "adam":
        return torch.optim.Adam(groups, **settings)
    return torch.optim.AdamW(groups, **settings)
