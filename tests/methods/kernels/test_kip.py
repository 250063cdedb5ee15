from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from safetensors import torch as safetensors
from torch import Tensor

from raycond.core.errors import UserError
from raycond.methods.kernels.architecture import Architecture, Level
from raycond.methods.kernels.kip import KipConfig, KipState, adam, gradient, initial_state, kip_step
from raycond.methods.kernels.registry import kernel
from raycond.methods.kernels.regression import centered_labels
from raycond.methods.kernels.scoring import score
from raycond.methods.kernels.targets import Targets
from raycond.methods.kernels.whitening import fit_preprocessing
from tests.support.naive_kernels import naive_kernel

CONFIG = KipConfig(kernel("fc1"), targets=20, reg=1e-4, dtype=torch.float64, seed=3)


@pytest.fixture
def data(stripes: Tensor) -> Targets:
    preprocessing = fit_preprocessing(stripes)
    images = preprocessing.apply(stripes, torch.float64)
    return Targets(stripes, images, torch.arange(40) % 2, 2, preprocessing)


@pytest.mark.parametrize("block", [1, 3, 4, 100])
@pytest.mark.parametrize(
    "network", [kernel("fc2"), Architecture("pooled", (Level(1, True), Level(1)))], ids=["fc2", "pooled"]
)
def test_gradient_equals_that_of_one_graph(network: Architecture, block: int, data: Targets) -> None:
    """Loss and its derivatives by images and labels, through one autograd graph of everything."""
    state = initial_state(data, 3, seed=1)
    targets, labels = data.images[10:19], centered_labels(data.labels[10:19], 2)
    support, support_labels = (value.clone().requires_grad_() for value in (state.images, state.labels))
    k_ss, k_ts = naive_kernel(network, support, support)[1], naive_kernel(network, targets, support)[1]
    regularized = k_ss + 1e-4 * k_ss.trace() / 6 * torch.eye(6, dtype=torch.float64)
    loss = 0.5 * (k_ts @ torch.linalg.solve(regularized, support_labels) - labels).square().mean()
    by_support, by_labels = torch.autograd.grad(loss, (support, support_labels))

    progress, images, solved = gradient(replace(CONFIG, network=network, block=block), state, targets, labels)
    assert progress.loss == pytest.approx(float(loss.detach()), rel=1e-12)
    torch.testing.assert_close(images, by_support, rtol=1e-9, atol=1e-13)
    torch.testing.assert_close(solved, by_labels, rtol=1e-9, atol=1e-13)


def test_adam_is_torchs(normal: Callable[..., Tensor]) -> None:
    value, moments = normal(3, (2,)), torch.zeros(2, 3, 2, dtype=torch.float64)
    parameter = value.clone().requires_grad_()
    optimizer = torch.optim.Adam([parameter], lr=0.04)
    for step in range(1, 6):
        parameter.grad = normal(3, (2,), seed=step)
        value, moments = adam(value, parameter.grad, moments, step, 0.04)
        optimizer.step()
        torch.testing.assert_close(value, parameter.detach(), rtol=1e-12, atol=1e-14)


def test_learns(data: Targets) -> None:
    state = initial_state(data, 1, seed=1)
    before = score(CONFIG.network, state.images, state.labels, data.images, data.labels, reg=1e-4)
    losses = []
    for _ in range(25):
        state, progress = kip_step(state, data, CONFIG)
        losses.append(progress.loss)
    after = score(CONFIG.network, state.images, state.labels, data.images, data.labels, reg=1e-4)
    assert after.loss < 0.7 * before.loss
    assert losses[-1] < 0.8 * losses[0]
    assert torch.equal(state.labels, centered_labels(torch.tensor([0, 1]), 2))


def test_labels_are_learned_if_wanted(data: Targets) -> None:
    config = replace(CONFIG, learn_labels=True)
    first = initial_state(data, 1, seed=1)
    state, progress = kip_step(first, data, config)
    assert (state.labels - first.labels).abs().min() > 0.01  # Adam's first step is the learning rate
    second = kip_step(state, data, config)[1]
    fixed = kip_step(kip_step(first, data, CONFIG)[0], data, CONFIG)[1]
    assert second.loss != fixed.loss
    assert progress.accuracy >= 0.5


def test_goes_on_to_the_same_bytes(data: Targets) -> None:
    config = replace(CONFIG, learn_labels=True, dtype=torch.float32)
    state = initial_state(data, 2, seed=1)
    for step in range(4):
        if step == 2:
            kept = safetensors.save(state.tensors())
        state, _ = kip_step(state, data, config)
    resumed = KipState.load(safetensors.load(kept))
    assert resumed.step == 2
    for _ in range(2):
        resumed, _ = kip_step(resumed, data, config)
    assert safetensors.save(resumed.tensors()) == safetensors.save(state.tensors())


def test_starts_from_balanced_natural_images(data: Targets) -> None:
    state = initial_state(data, 3, seed=1)
    assert state.labels.argmax(1).tolist() == [0, 0, 0, 1, 1, 1]
    assert all(any(torch.equal(image, other) for other in data.images) for image in state.images)
    assert not torch.equal(state.images, initial_state(data, 3, seed=2).images)
    with pytest.raises(UserError, match="--ipc 21"):
        initial_state(data, 21, seed=1)


def test_options_that_are_wrong() -> None:
    with pytest.raises(UserError, match="--lr"):
        replace(CONFIG, lr=0.0)
    with pytest.raises(UserError, match="--batch"):
        replace(CONFIG, targets=0)
