from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from raycond.evaluate import EvaluationProtocol, preset
from raycond.evaluate.optimizer import ScheduledOptimizer
from raycond.models import students


def rates(protocol: EvaluationProtocol, steps: int, per_epoch: float) -> list[float]:
    """The learning rate of every step."""
    net = nn.Linear(2, 2)
    optimizer = ScheduledOptimizer(net, protocol, steps, per_epoch)
    found = []
    for _ in range(steps):
        found.append(optimizer.lr)
        net(torch.ones(1, 2)).sum().backward()
        optimizer.step()
    return found


def test_cosine_by_step_is_torchs() -> None:
    protocol = preset("quick").override(lr=0.5)
    net = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=40)
    expected = []
    for _ in range(40):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates(protocol, 40, 4) == pytest.approx(expected)


def test_smoothing_two_ends_at_half_and_moves_by_epoch() -> None:
    protocol = preset("rded").override(epochs=30)
    found = rates(protocol, 90, 3)
    assert found == pytest.approx([1e-3 * 0.5 * (1 + math.cos(math.pi * (k // 3) / 60)) for k in range(90)])
    assert found[-1] > 0.5e-3


def test_milestones_are_shares_rounded_down() -> None:
    protocol = preset("minimax-hard").override(epochs=2000, lr=1.0)
    found = rates(protocol, 2000, 1)
    drops = [k for k in range(1, 2000) if found[k] != found[k - 1]]
    assert drops == [2 * 2000 // 3, 5 * 2000 // 6]
    assert found[-1] == pytest.approx(0.04)
    short = rates(protocol.override(epochs=300), 300, 1)
    assert [k for k in range(1, 300) if short[k] != short[k - 1]] == [200, 250]


@pytest.mark.parametrize(
    ("name", "epochs", "full"), [("dc-bench", 301, 152), ("dc-bench-dsa", 1001, 502), ("dc-bench-mnist", 1001, 502)]
)
def test_dc_bench_drops_once_and_forgets_its_momentum(name: str, epochs: int, full: int) -> None:
    """The source counts epochs from 0 to E and drops the rate after the one numbered E // 2 + 1."""
    protocol = preset(name).override(lr=1.0)
    assert protocol.epochs == epochs
    net = nn.Linear(1, 1, bias=False)
    optimizer = ScheduledOptimizer(net, protocol, epochs, 1)
    for step in range(epochs):
        net.weight.grad = torch.ones_like(net.weight)
        optimizer.step()
        assert bool(optimizer.optimizer.state) == (step != full - 1)
        assert optimizer.lr == pytest.approx(1.0 if step < full - 1 else 0.1)


def test_norms_and_biases_are_spared_decay() -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    optimizer = ScheduledOptimizer(net, preset("rded"), 10, 1)
    decay = {id(p): group["weight_decay"] for group in optimizer.optimizer.param_groups for p in group["params"]}
    assert [decay[id(p)] for p in net.parameters()] == [0.01, 0.0, 0.0, 0.0]


def decaying(name: str, size: int) -> set[str]:
    """The parameters of a student that decay under RDED's recipe."""
    net = students.build(name, classes=3, size=size, channels=3)
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    groups = ScheduledOptimizer(net, preset("rded"), 10, 1).optimizer.param_groups
    assert [group["weight_decay"] for group in groups] == [0.01, 0.0]
    assert sum(len(group["params"]) for group in groups) == len(names)
    return {names[id(parameter)] for parameter in groups[0]["params"]}


def test_no_position_embedding_and_no_class_token_decays() -> None:
    vit = decaying("vit_b_16", 32)
    assert {"conv_proj.weight", "heads.head.weight"} < vit
    assert "encoder.layers.encoder_layer_0.self_attention.in_proj_weight" in vit
    assert {"class_token", "encoder.pos_embedding"}.isdisjoint(vit)
    assert not any(name.endswith("bias") or ".ln" in name for name in vit)


def test_no_relative_position_bias_of_swin_decays() -> None:
    swin = decaying("swin_t", 64)
    assert "features.1.0.attn.qkv.weight" in swin
    assert not any("relative_position_bias_table" in name for name in swin)
