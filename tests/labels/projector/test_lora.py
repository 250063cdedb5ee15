from __future__ import annotations

import copy
from collections.abc import Callable

import peft
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrize

from raycond.core.errors import UserError
from raycond.labels.projector import lora
from tests.labels.clips import model, pictures


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def tower(kind: str) -> nn.Module:
    found: nn.Module = model(kind).visual.requires_grad_(False)  # type: ignore[union-attr, operator]
    return found


def shake(net: nn.Module) -> None:
    draw = generator()
    with torch.no_grad():
        for p in net.parameters():
            if p.requires_grad:
                p.copy_(torch.randn(p.shape, generator=draw) * 0.1)


def deltas(net: nn.Module) -> dict[str, lora.LowRank]:
    return {
        path.split(".parametrizations")[0]: module
        for path, module in net.named_modules()
        if isinstance(module, lora.LowRank)
    }


@pytest.mark.parametrize("kind", ["resnet", "vit"])
@pytest.mark.parametrize("layout", ["3x3", "peft"])
def test_the_start_is_the_base_bit_for_bit(kind: str, layout: str) -> None:
    base, x = tower(kind), pictures(2, 32 if kind == "resnet" else 8)
    net = copy.deepcopy(base)
    lora.adapt(net, layout, 4, generator())
    with torch.no_grad():
        assert torch.equal(net(x), base(x))
        shake(net)
        assert not torch.allclose(net(x), base(x))
    assert all(name.endswith((".A", ".B")) for name, p in net.named_parameters() if p.requires_grad)


def test_every_delta_learns() -> None:
    for kind, size in (("resnet", 32), ("vit", 8)):
        net = tower(kind)
        lora.adapt(net, "peft", 2, generator())
        shake(net)
        net(pictures(2, size)).square().sum().backward()
        for name, p in net.named_parameters():
            assert (p.grad is not None and bool(p.grad.abs().sum() > 0)) == p.requires_grad, name


def test_what_is_adapted() -> None:
    net = tower("resnet")
    lora.adapt(net, "3x3", 2, generator())
    assert set(deltas(net)) == {"conv1", "conv2", "conv3", *(f"layer{k}.0.conv2" for k in range(1, 5))}
    net = tower("resnet")
    lora.adapt(net, "peft", 2, generator())
    blocks = {f"layer{k}.0.conv{c}" for k in range(1, 5) for c in range(1, 4)}
    assert set(deltas(net)) == {"conv1", "conv2", "conv3"} | blocks
    net = tower("vit")
    lora.adapt(net, "3x3", 2, generator())
    parts = ("attn", "attn.out_proj", "mlp.c_fc", "mlp.c_proj")
    assert set(deltas(net)) == {f"transformer.resblocks.{k}.{p}" for k in range(2) for p in parts}


def test_3x3_is_loralibs_conv_lora() -> None:
    """loralib ConvLoRA: conv(x, W + (B @ A).view(W.shape)), A (r·k, in·k), B (out·k, r·k)."""
    net = tower("resnet")
    lora.adapt(net, "3x3", 2, generator())
    shake(net)
    conv: nn.Conv2d = net.layer2[0].conv2  # type: ignore[assignment, index, union-attr]
    low = deltas(net)["layer2.0.conv2"]
    assert (low.A.shape, low.B.shape) == ((2 * 3, 16 * 3), (16 * 3, 2 * 3))
    weight = conv.parametrizations.weight.original  # type: ignore[union-attr]
    x = torch.randn(2, 16, 5, 5, generator=generator())
    expected = F.conv2d(x, weight + (low.B @ low.A).view(16, 16, 3, 3), padding=1)  # type: ignore[operator]
    torch.testing.assert_close(conv(x), expected)


def test_peft_gives_the_same_with_the_same_matrices() -> None:
    ours, x = tower("resnet"), pictures(2, 32)
    names = [p for p, m in ours.named_modules() if isinstance(m, nn.Conv2d) and "downsample" not in p]
    config = peft.LoraConfig(r=4, lora_alpha=4, target_modules=names)
    theirs = peft.get_peft_model(copy.deepcopy(ours), config).eval()
    lora.adapt(ours, "peft", 4, generator())
    shake(ours)
    count = 0
    for path, low in deltas(ours).items():
        layer = theirs.get_submodule(f"base_model.model.{path}")
        with torch.no_grad():
            for name, matrix in (("lora_A", low.A), ("lora_B", low.B)):
                weight = getattr(layer, name)["default"].weight
                weight.copy_(matrix.view(weight.shape))
                count += weight.numel()
    assert count == sum(p.numel() for p in theirs.parameters() if p.requires_grad)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)


def test_the_seed_decides_the_start() -> None:
    nets = [tower("vit") for _ in range(3)]
    for net, seed in zip(nets, (1, 1, 2), strict=True):
        lora.adapt(net, "peft", 2, torch.Generator().manual_seed(seed))
    first, again, other = ([low.A for low in deltas(net).values()] for net in nets)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    assert all(not low.B.any() for low in deltas(nets[0]).values())


@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_merging_keeps_every_bit(kind: str) -> None:
    net, x = tower(kind), pictures(2, 32 if kind == "resnet" else 8)
    lora.adapt(net, "peft", 2, generator())
    shake(net)
    with torch.no_grad():
        expected = net(x)
        lora.merge(net)
        assert torch.equal(net(x), expected)
    assert not any(parametrize.is_parametrized(m) for m in net.modules())
    assert not any(p.requires_grad for p in net.parameters())


def test_the_sum_is_float32_under_autocast() -> None:
    """A delta far below bfloat16's steps must not be lost in the sum."""
    net = nn.Linear(4, 4, bias=False).requires_grad_(False)
    lora.add(lora.Target(net, "weight", 4, 4), 2, generator())
    with torch.no_grad():
        net.parametrizations.weight[0].B.fill_(1e-4)  # type: ignore[union-attr, index]
    with torch.autocast("cpu", torch.bfloat16):
        inside = net.weight
    assert inside.dtype == torch.float32
    assert torch.equal(inside, net.weight)


@pytest.mark.parametrize(
    ("make", "layout", "text"),
    [(nn.Identity, "3x3", "neither convolutions nor matrices"), (nn.Identity, "5x5", r"layout '5x5': expected one of")],
)
def test_what_cannot_be_adapted(make: Callable[[], nn.Module], layout: str, text: str) -> None:
    with pytest.raises(UserError, match=text):
        lora.adapt(make(), layout, 2, generator())


def test_rank_0_is_no_delta() -> None:
    net = tower("resnet")
    lora.adapt(net, "3x3", 0, generator())
    assert not deltas(net)
