"""The matching loss and its gradient as one function for torch.compile, which does not take a gradient of a gradient.

torch.compile cannot differentiate twice what it has compiled, but it compiles functions that take gradients inside:
here the gradient of the weights, the distance, and the gradient of the images are one graph, which fuses the many small
operations of a second derivative and, with the mode reduce-overhead, is replayed as one CUDA graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call, grad, grad_and_value

from raycond.methods.match.network import MatchedNetwork, batch_norms, full

Distance = Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor]


def can_compile(network: MatchedNetwork) -> bool:
    """Whether the network's configuration asks for it, and the network keeps no statistics of batches."""
    return network.config.compile != "none" and not batch_norms(network.net)


class CompiledLoss:
    """distance(target, gradient of the mean cross-entropy with respect to `names`), differentiable once by the images.

    names: of the network's parameters whose gradients are matched, in the order of the targets.
    """

    def __init__(self, network: MatchedNetwork, names: Sequence[str], distance: Distance) -> None:
        self.network, self.names = network, tuple(names)

        def loss(
            images: Tensor, matched: dict[str, Tensor], others: Any, labels: Tensor, target: list[Tensor]
        ) -> Tensor:
            def cross_entropy(weights: dict[str, Tensor]) -> Tensor:
                with network.passes.twice():
                    logits = functional_call(network.net, {**weights, **others}, (images,))
                return F.cross_entropy(full(logits), labels)

            gradients = grad(cross_entropy)(matched)
            return distance(target, [gradients[name] for name in self.names])

        self._compiled = torch.compile(grad_and_value(loss), mode=network.config.compile)

    def __call__(self, images: Tensor, label: int, target: Sequence[Tensor]) -> Tensor:
        tensors = {name: tensor.detach() for name, tensor in self.network.net.state_dict().items()}
        matched = {name: tensors.pop(name) for name in self.names}
        labels = torch.full((len(images),), label, device=images.device)
        gradient, loss = self._compiled(images.detach(), matched, tensors, labels, list(target))
        result: Tensor = _Known.apply(images, loss.clone(), gradient.clone())  # a CUDA graph reuses what it returns
        return result


class _Known(torch.autograd.Function):
    """A loss whose gradient with respect to the images is already there."""

    @staticmethod
    def forward(ctx: Any, _images: Tensor, loss: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return loss

    @staticmethod
    def backward(ctx: Any, *of_loss: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return of_loss[0] * gradient, None, None
