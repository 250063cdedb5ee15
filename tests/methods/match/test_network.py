from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from raycond.core.errors import UserError
from raycond.methods.match import network as module
from raycond.methods.match.network import MatchedNetwork, largest_map, logits_and_features
from raycond.training import augment
from tests.methods.match.make import config, network, normal


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def weights(net: nn.Module) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in net.parameters()]


def test_networks_are_drawn_by_seed_and_iteration() -> None:
    one, other = network(config()), network(config())
    for iteration in (0, 1):
        one.draw(iteration)
        first = weights(one.net)
        other.draw(iteration)
        assert all(torch.equal(a, b) for a, b in zip(first, other.net.parameters(), strict=True))
    assert not torch.equal(next(iter(one.net.parameters())), network(config()).parameters[0])


def test_a_new_network_has_no_momentum_left() -> None:
    settings = config("idc")
    one, fresh = network(settings), network(settings)
    images, labels = normal(4, 2, 8, 8, dtype=torch.float32), torch.tensor([0, 1, 2, 1])
    one.learn(images, labels, generator())
    for net in (one, fresh):
        net.draw(1)
        net.learn(images, labels, generator())
    assert all(torch.equal(a, b) for a, b in zip(one.net.parameters(), fresh.net.parameters(), strict=True))


def test_learning_is_sgd_with_momentum_and_weight_decay() -> None:
    training = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "cutmix": 0.0}
    net = network(config("idc", chunk=2, training=training), exact=True)
    mine, velocity = weights(net.net), [torch.zeros_like(p) for p in net.parameters]
    reference = network(config("idc"), exact=True).net
    for step in range(3):
        images, labels = normal(5, 2, 8, 8, seed=step), torch.tensor([0, 1, 2, 1, 0])
        with torch.no_grad():
            for parameter, value in zip(reference.parameters(), mine, strict=True):
                parameter.copy_(value)
        losses = [-torch.log_softmax(reference(images), 1)[i, labels[i]] for i in range(5)]
        gradients = torch.autograd.grad(torch.stack(losses).sum() / 5, list(reference.parameters()))
        for k, gradient in enumerate(gradients):
            velocity[k] = 0.9 * velocity[k] + gradient + 0.01 * mine[k]
            mine[k] = mine[k] - 0.1 * velocity[k]
        net.learn(images, labels, generator())
    for value, parameter in zip(mine, net.parameters, strict=True):
        torch.testing.assert_close(parameter.detach(), value, rtol=1e-9, atol=1e-12)


def test_cutmix_mixes_images_and_labels_by_the_share_of_pixels() -> None:
    net = network(config("idc", training={"cutmix": 1.0, "momentum": 0.0, "weight_decay": 0.0, "lr": 1.0}), exact=True)
    images, labels = normal(6, 2, 8, 8), torch.tensor([0, 1, 2, 1, 0, 2])
    random = generator(4)
    torch.rand((), generator=random)  # the coin
    mixed = augment.cutmix(images, 1.0, random)
    assert 0 < mixed.own < 1
    logits = net.net(mixed.images)
    loss = mixed.own * F.cross_entropy(logits, labels) + (1 - mixed.own) * F.cross_entropy(
        logits, labels[mixed.partner]
    )
    expected = [p - g for p, g in zip(net.parameters, torch.autograd.grad(loss, net.parameters), strict=True)]
    net.learn(images, labels, generator(4))
    for parameter, value in zip(net.parameters, expected, strict=True):
        torch.testing.assert_close(parameter, value, rtol=1e-9, atol=1e-12)


def test_features_are_what_the_classifier_sees() -> None:
    net = network(config(chunk=3))
    images = normal(7, 2, 8, 8, dtype=torch.float32)
    features = net.features(images)
    assert features.shape == (7, 64)
    torch.testing.assert_close(net.net.classifier(features), net.net(images))  # type: ignore[operator]
    logits, seen = logits_and_features(net.net, images)
    torch.testing.assert_close(seen, features)
    torch.testing.assert_close(logits, net.net(images))


def test_features_leave_the_statistics_of_batch_norm_alone() -> None:
    net = network(config(network="convnet1-w4-bn"))
    before = {name: value.clone() for name, value in net.net.state_dict().items()}
    net.features(normal(7, 2, 8, 8, dtype=torch.float32))
    assert all(torch.equal(value, before[name]) for name, value in net.net.state_dict().items())
    assert net.net.training


def test_frozen_statistics_hold_until_the_network_learns_or_is_drawn() -> None:
    net = network(config(network="convnet1-w4-bn"))
    norm = next(m for m in net.net.modules() if isinstance(m, nn.BatchNorm2d))
    net.freeze_statistics(normal(9, 2, 8, 8, dtype=torch.float32) + 3)
    assert norm.running_mean is not None
    assert float(norm.running_mean.abs().max()) > 0
    assert not norm.training
    frozen = norm.running_mean.clone()
    net.net(normal(9, 2, 8, 8, dtype=torch.float32))
    net.features(normal(9, 2, 8, 8, dtype=torch.float32))
    assert torch.equal(norm.running_mean, frozen)
    assert not norm.training
    net.learn(normal(4, 2, 8, 8, dtype=torch.float32), torch.tensor([0, 1, 2, 0]), generator())
    assert norm.training
    net.draw(1)
    assert float(norm.running_mean.abs().max()) == 0


def test_saved_state_goes_on_to_the_same_weights() -> None:
    settings = config("idc", network="convnet1-w4-bn")
    one, other = network(settings), network(settings)
    images, labels = normal(4, 2, 8, 8, dtype=torch.float32), torch.tensor([0, 1, 2, 1])
    one.learn(images, labels, generator(1))
    other.load({name: tensor.clone() for name, tensor in one.state().items()})
    for net in (one, other):
        net.learn(images, labels, generator(2))
    state, again = one.state(), other.state()
    assert state.keys() == again.keys()
    assert any(name.startswith("momentum") for name in state)
    assert all(torch.equal(state[name], again[name]) for name in state)


def test_chunks_fill_the_cache_and_batch_statistics_forbid_them() -> None:
    net = network(config(network="convnet3-w128"), shape=(3, 32, 32))
    assert net.passes.chunk == 8  # of 128 x 32 x 32 float32
    assert len(net.passes.chunks(normal(20, 3, 32, 32), net.net)) == 3
    normed = network(config(network="convnet1-w4-bn", chunk=2))
    assert len(normed.passes.chunks(normal(20, 2, 8, 8), normed.net)) == 1
    normed.net.eval()
    assert len(normed.passes.chunks(normal(20, 2, 8, 8), normed.net)) == 10


def test_largest_map_is_that_of_the_first_block() -> None:
    net = network(config(network="convnet2-w4")).net
    assert largest_map(net, (2, 8, 8)) == 4 * 8 * 8


@pytest.mark.parametrize(
    ("precision", "hardware", "halves"),
    [("float32", True, (0, 0)), ("auto", False, (0, 0)), ("auto", True, (1, 0)), ("mixed", False, (1, 0)),
     ("bfloat16", False, (1, 1))],
)  # fmt: skip
def test_precision(precision: Any, hardware: bool, halves: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "multiplies_bfloat16", lambda _device: hardware)
    passes = network(config(precision=precision)).passes
    assert (passes.first, passes.second) == halves
    with passes.once():
        assert torch.is_autocast_enabled("cpu") == bool(halves[0])
    with passes.twice():
        assert torch.is_autocast_enabled("cpu") == bool(halves[1])


def test_mixed_precision_stays_near_float32() -> None:
    images = normal(6, 2, 8, 8, dtype=torch.float32)
    exact, half = (network(config(network="convnet2-w4", precision=p)).features(images) for p in ("float32", "mixed"))
    assert half.dtype == torch.float32
    assert 0 < float((exact - half).norm() / exact.norm()) < 0.02


def test_wrong_networks_and_images_are_errors() -> None:
    with pytest.raises(UserError, match="convnett"):
        network(config(network="convnett"))
    with pytest.raises(UserError, match="square images, not 8x6"):
        MatchedNetwork(config(), shape=(2, 8, 6), classes=3, seed=0, device=torch.device("cpu"))
