"""What IDC (ICML 2022, arXiv 2205.14959) does differently from DC: one image step for each class, and its step size."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

IPC = 10  # that IDC's learning rates are stated for


def scaled_lr(lr: float, *, ipc: int, size: int, reference: int) -> float:
    """The step size of images: lr · (ipc / 10) · (size / reference)², IDC's `tune_lr_img`.

    reference: 28 for MNIST, 224 for ImageNet, else 32 pixels; so FashionMNIST has a further factor of (28 / 32)².
    """
    return lr * (ipc / IPC) * (size / reference) ** 2


class ClassSteps(torch.optim.SGD):
    """SGD with momentum that steps once for each class in turn, on one tensor that holds the images of all classes.

    The loss of a class has no gradient for the others' images, but each step goes on moving them by their momentum m:
    v ← m·v, x ← x − lr·v. So between its own steps a class moves along a known line, and the steps of all classes can
    be taken at once after all gradients are known: with k classes before a class and l behind it,

        x is seen at   x − lr·v·(m + … + m^k),
        v becomes      m^l · v′,  v′ = m^(k+1)·v + g,
        x becomes      (where it was seen) − lr·v′·(1 + m + … + m^l).

    It is the released code's result up to rounding, without a pass over all images for every class.
    images: (classes · ipc, …), those of a class together.
    """

    def __init__(self, images: Tensor, *, classes: int, lr: float, momentum: float) -> None:
        super().__init__([images], lr=lr, momentum=momentum)
        self.images, self.classes = images, classes
        before = torch.arange(classes, dtype=torch.float64)
        self._before, self._behind = before, before.flip(0)
        self._momentum = momentum

    def seen(self, position: int) -> Tensor:
        """How far the images of the class at `position` have been moved by the steps of the classes before it.

        (ipc, …), to be subtracted from the images; part of no graph.
        """
        velocity = self._velocity().unflatten(0, (self.classes, -1))[position]
        return velocity * (self.param_groups[0]["lr"] * _geometric(self._momentum, self._before[position]))

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """The steps of all classes, from `images.grad`."""
        gradient = self.images.grad
        assert gradient is not None
        m, lr = self._momentum, self.param_groups[0]["lr"]
        velocity = self._velocity()
        before, behind = (self._per_image(count) for count in (self._before, self._behind))
        self.images -= velocity * (lr * self._like(_geometric(m, before)))
        velocity.mul_(self._like(m ** (before + 1))).add_(gradient)
        self.images -= velocity * (lr * self._like(1 + _geometric(m, behind)))
        velocity.mul_(self._like(m**behind))

    def _velocity(self) -> Tensor:
        state = self.state[self.images]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(self.images)
        velocity: Tensor = state["momentum_buffer"]
        return velocity

    def _per_image(self, count: Tensor) -> Tensor:
        return count.repeat_interleave(len(self.images) // self.classes)

    def _like(self, factors: Tensor) -> Tensor:
        """Factors of each image, ready to be multiplied with the images."""
        return factors.to(self.images).view(-1, *[1] * (self.images.ndim - 1))


def _geometric(m: float, count: Tensor) -> Tensor:
    """m + m² + … + m^count."""
    return m * (1 - m**count) / (1 - m)
