from __future__ import annotations

import pytest
import torch

from raycond.methods.match.idc import ClassSteps, scaled_lr
from tests.methods.match.make import normal

CLASSES, IPC = 4, 3


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_steps_at_once_are_the_steps_of_each_class_in_turn(momentum: float) -> None:
    """Against SGD that steps for each class on one tensor of all; gradients depend on where the images are."""
    start = normal(CLASSES * IPC, 2, 3)
    target = normal(CLASSES * IPC, 2, 3, seed=1)
    one = start.clone()
    velocity = torch.zeros_like(one)
    images = start.clone().requires_grad_()
    optimizer = ClassSteps(images, classes=CLASSES, lr=0.3, momentum=momentum)
    for _ in range(5):
        for c in range(CLASSES):
            mine = slice(c * IPC, (c + 1) * IPC)
            gradient = torch.zeros_like(one)
            gradient[mine] = 2 * (one[mine] - target[mine])
            velocity = momentum * velocity + gradient
            one = one - 0.3 * velocity
        for c in range(CLASSES):
            mine = slice(c * IPC, (c + 1) * IPC)
            seen = images[mine] - optimizer.seen(c)
            (seen - target[mine]).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        torch.testing.assert_close(images.detach(), one, rtol=0, atol=1e-12)


def test_a_step_moves_the_images_of_other_classes_by_their_momentum() -> None:
    images = torch.zeros(3, 1, dtype=torch.float64, requires_grad=True)
    optimizer = ClassSteps(images, classes=3, lr=1.0, momentum=0.5)
    images.grad = torch.tensor([[1.0], [0.0], [0.0]], dtype=torch.float64)
    optimizer.step()
    # its own step, and what is left of it in the steps of the two other classes: 1 + 1/2 + 1/4
    assert images.detach().flatten().tolist() == [-1.75, 0, 0]


def test_learning_rates_scale_with_images_per_class_and_pixels() -> None:
    assert scaled_lr(5e-3, ipc=10, size=32, reference=32) == pytest.approx(5e-3)
    assert scaled_lr(5e-3, ipc=1, size=32, reference=32) == pytest.approx(5e-4)
    assert scaled_lr(1e-4, ipc=50, size=28, reference=32) == pytest.approx(5e-4 * 0.765625)
    assert scaled_lr(5e-3, ipc=10, size=64, reference=32) == pytest.approx(2e-2)
