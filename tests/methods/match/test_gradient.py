"""Gradient matching against a derivation of its own: convolutions, cross-entropy and distances in plain loops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from raycond.core.errors import UserError
from raycond.methods.match.gradient import DISTANCES, GradientMatching, matched_weights
from raycond.methods.match.objective import ClassBatch
from tests.methods.match.make import config, network, normal

SIDE, CHANNELS, WIDTH, CLASSES = 4, 2, 2, 3
Array = np.ndarray[Any, Any]


def weight_gradients(weights: dict[str, Array], images: Array, label: int) -> dict[str, Array]:
    """Of the mean cross-entropy of a conv3x3, ReLU, 2x2 average pool and linear layer, by the chain rule."""
    kernel, bias, matrix, offset = (weights[name] for name in ("kernel", "bias", "matrix", "offset"))
    sums = {name: np.zeros_like(value) for name, value in weights.items()}
    for image in images:
        padded = np.zeros((CHANNELS, SIDE + 2, SIDE + 2))
        padded[:, 1:-1, 1:-1] = image
        maps = np.zeros((WIDTH, SIDE, SIDE))
        for o in range(WIDTH):
            for y in range(SIDE):
                for x in range(SIDE):
                    maps[o, y, x] = bias[o] + (kernel[o] * padded[:, y : y + 3, x : x + 3]).sum()
        half = SIDE // 2
        pooled = np.zeros((WIDTH, half, half))
        for o in range(WIDTH):
            for y in range(SIDE):
                for x in range(SIDE):
                    pooled[o, y // 2, x // 2] += max(maps[o, y, x], 0.0) / 4
        feature = pooled.reshape(-1)
        logits = [offset[k] + sum(matrix[k, i] * feature[i] for i in range(len(feature))) for k in range(CLASSES)]
        total = sum(math.exp(value) for value in logits)
        error = np.array([math.exp(value) / total - (k == label) for k, value in enumerate(logits)]) / len(images)
        sums["offset"] += error
        sums["matrix"] += error[:, None] * feature[None]
        of_feature = (error @ matrix).reshape(WIDTH, half, half)
        for o in range(WIDTH):
            for y in range(SIDE):
                for x in range(SIDE):
                    if maps[o, y, x] > 0:
                        of_map = of_feature[o, y // 2, x // 2] / 4
                        sums["bias"][o] += of_map
                        sums["kernel"][o] += of_map * padded[:, y : y + 3, x : x + 3]
    return sums


def distance(name: str, real: list[Array], synthetic: list[Array]) -> float:
    if name == "global-cosine":
        a = np.concatenate([g.reshape(-1) for g in real])
        b = np.concatenate([g.reshape(-1) for g in synthetic])
        return 1 - float(a @ b) / (math.sqrt(a @ a) * math.sqrt(b @ b) + 1e-6)
    total = 0.0
    for g, h in zip(real, synthetic, strict=True):
        if name == "cosine" and g.ndim == 1:
            continue
        for row, other in zip(g.reshape(len(g), -1), h.reshape(len(h), -1), strict=True):
            difference = row - other
            if name == "cosine":
                dot = sum(p * q for p, q in zip(row, other, strict=True))
                norms = math.sqrt(sum(p * p for p in row)) * math.sqrt(sum(q * q for q in other))
                total += 1 - dot / (norms + 1e-6)
            elif name == "mse":
                total += sum(d * d for d in difference)
            else:
                total += sum(abs(d) for d in difference) / (len(difference) if name == "l1-mean" else 1)
    return total


KEYS = {"all": ("kernel", "bias", "matrix", "offset"), "matrices": ("kernel", "matrix"), "convolutions": ("kernel",)}


@pytest.fixture
def net_weights() -> tuple[Any, dict[str, Array]]:
    settings = config(network=f"convnet1-w{WIDTH}-nonorm", chunk=3)
    drawn = network(settings, shape=(CHANNELS, SIDE, SIDE), classes=CLASSES, exact=True)
    names = ("kernel", "bias", "matrix", "offset")
    values = (parameter.detach().numpy() for parameter in drawn.net.parameters())
    return drawn, dict(zip(names, values, strict=True))


@pytest.mark.parametrize("name", list(DISTANCES))
@pytest.mark.parametrize("which", ["all", "matrices", "convolutions"])
def test_loss_is_that_of_the_papers(name: Any, which: Any, net_weights: tuple[Any, dict[str, Array]]) -> None:
    drawn, weights = net_weights
    real, synthetic = normal(5, CHANNELS, SIDE, SIDE, seed=1), normal(2, CHANNELS, SIDE, SIDE, seed=2)
    objective = GradientMatching(config(distance=name, weights=which))
    loss = objective.losses(drawn, [ClassBatch(1, real, synthetic)])
    one, other = (weight_gradients(weights, images.numpy(), 1) for images in (real, synthetic))
    expected = distance(name, [one[key] for key in KEYS[which]], [other[key] for key in KEYS[which]])
    assert loss.tolist() == pytest.approx([expected], rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("name", "which"), [("cosine", "matrices"), ("mse", "convolutions"), ("l1", "convolutions")])
def test_gradient_of_the_images_is_the_slope_of_the_loss(
    name: Any, which: Any, net_weights: tuple[Any, dict[str, Array]]
) -> None:
    drawn, weights = net_weights
    real, synthetic = normal(5, CHANNELS, SIDE, SIDE, seed=1), normal(2, CHANNELS, SIDE, SIDE, seed=2)
    stored = synthetic.clone().requires_grad_()
    objective = GradientMatching(config(distance=name, weights=which))
    objective.losses(drawn, [ClassBatch(2, real, stored)]).sum().backward(inputs=[stored])
    target = weight_gradients(weights, real.numpy(), 2)

    def loss(images: Array) -> float:
        gradients = weight_gradients(weights, images, 2)
        return distance(name, [target[key] for key in KEYS[which]], [gradients[key] for key in KEYS[which]])

    step = 1e-6
    for place in [(0, 0, 0, 0), (0, 1, 2, 3), (1, 0, 3, 1), (1, 1, 1, 2)]:
        up, down = synthetic.numpy().copy(), synthetic.numpy().copy()
        up[place] += step
        down[place] -= step
        slope = (loss(up) - loss(down)) / (2 * step)
        assert stored.grad is not None
        assert float(stored.grad[place]) == pytest.approx(slope, rel=1e-4, abs=1e-7)


def test_distance_of_a_gradient_with_itself_and_its_negative() -> None:
    gradients = [normal(5, 3, 3, 3), normal(7, 4), normal(7)]
    negative = [-g for g in gradients]
    assert float(DISTANCES["cosine"](gradients, gradients)) == pytest.approx(0, abs=1e-5)
    assert float(DISTANCES["cosine"](gradients, negative)) == pytest.approx(2 * (5 + 7), abs=1e-5)
    for name in ("mse", "l1", "l1-mean"):
        assert float(DISTANCES[name](gradients, gradients)) == 0


def test_classes_are_independent_of_each_other() -> None:
    settings = config(network="convnet2-w4")
    drawn = network(settings, exact=True)
    batches = [ClassBatch(c, normal(5, 2, 8, 8, seed=c), normal(2, 2, 8, 8, seed=10 + c)) for c in range(3)]
    objective = GradientMatching(settings)
    together = objective.losses(drawn, batches)
    for c, batch in enumerate(batches):
        assert torch.equal(objective.losses(drawn, [batch])[0], together[c])


def test_chunks_of_real_images_only_change_the_rounding() -> None:
    batch = ClassBatch(1, normal(7, 2, 8, 8), normal(2, 2, 8, 8, seed=1))
    losses: list[float] = []
    for chunk in (2, 7):
        settings = config(network="convnet2-w4", chunk=chunk)
        losses += GradientMatching(settings).losses(network(settings, exact=True), [batch]).tolist()
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)


def test_mean_features_are_added_with_their_weight() -> None:
    """DREAM+: the same distance of mean features, and of the gradients."""
    batch = ClassBatch(1, normal(5, 2, 8, 8), normal(2, 2, 8, 8, seed=1))
    losses: list[float] = []
    features: list[Tensor] = []
    for weight in (0.0, 0.5):
        settings = config("idc", network="convnet1-w4", feature_weight=weight)
        drawn = network(settings, exact=True)
        losses += GradientMatching(settings).losses(drawn, [batch]).tolist()
        features = [drawn.net.embed(images).mean(0) for images in (batch.real, batch.synthetic)]  # type: ignore[operator]
    added = sum((a - b) ** 2 for a, b in zip(*(f.tolist() for f in features), strict=True))
    assert losses[1] - losses[0] == pytest.approx(0.5 * added, rel=1e-5)


def test_second_derivatives_go_through_instance_norm() -> None:
    settings = config(network="convnet2-w3", distance="mse")
    drawn = network(settings, shape=(1, 4, 4), exact=True)
    target = normal(3, 1, 4, 4, seed=5)

    def loss(images: Tensor) -> Tensor:
        return GradientMatching(settings).losses(drawn, [ClassBatch(0, target, images)])

    torch.autograd.gradcheck(loss, normal(2, 1, 4, 4).requires_grad_(), eps=1e-6, atol=1e-7)


def test_a_network_without_convolutions_cannot_match_them() -> None:
    settings = config("idc", network="mlp-w4")
    with pytest.raises(UserError, match="mlp-w4: has no convolutions"):
        matched_weights(network(settings).net, settings)
