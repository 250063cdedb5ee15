"""What a student sees before it classifies: one vector an image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from raycond.core.errors import UserError
from raycond.models.students.convnet import MLP, ConvNet
from raycond.models.students.residual import ResNet


def embedding(net: nn.Module) -> Callable[[Tensor], Tensor]:
    """A function (n, channels, size, size) → (n, d): the input of the network's classifier, differentiable.

    raycond's own networks have a method for it. For any other it is what reaches the last linear layer of a
    forward pass, in the mode (training or evaluation) that the network is in. The function raises UserError for
    a network that does not end in a linear layer, such as squeezenet1_0.
    """
    if isinstance(net, ConvNet | MLP | ResNet):
        return net.embed
    return lambda images: _before_classifier(net, images)


def _before_classifier(net: nn.Module, images: Tensor) -> Tensor:
    last: list[Tensor] = []  # input and output of the linear layer that ran last

    def note(_: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        last[:] = [args[0], output]

    hooks = [module.register_forward_hook(note) for module in net.modules() if isinstance(module, nn.Linear)]
    try:
        logits = net(images)
    finally:
        for hook in hooks:
            hook.remove()
    if not last or last[0].ndim != 2 or last[1].shape != logits.shape:
        raise UserError(
            f"{type(net).__name__} does not end in a linear layer, so it has no embedding to take: "
            "use another student, such as convnet3 or resnet18"
        )
    return last[0]
