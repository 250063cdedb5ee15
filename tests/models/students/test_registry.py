from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from raycond.core.errors import UserError
from raycond.core.registry import Entry
from raycond.models.students import build, names
from raycond.models.students.registry import STUDENTS


@pytest.mark.parametrize(
    ("name", "size", "channels"),
    [
        ("convnet3", 8, 1),
        ("convnet3-w16", 28, 1),
        ("convnet4", 8, 3),
        ("convnet6-w16", 8, 3),
        ("convnet6-w16", 7, 1),
        ("mlp", 9, 2),
        ("mlp-w32", 8, 1),
        ("convnet1-w16", 8, 1),
        ("convnet7-w16-gn", 32, 1),
        ("convnet3-w16-ln-max-leaky", 12, 3),
        ("convnet3-w16-nonorm-nopool", 8, 1),
        ("resnet10-w16", 8, 1),
        ("resnet10-in", 16, 3),
        ("resnet18-in-w8", 72, 1),
        ("resnetap10", 8, 1),
        ("resnetap10-bn-w16", 19, 3),
        ("resnet18", 16, 1),
        ("mobilenet_v2", 32, 1),
        ("vit_b_32", 64, 3),
        ("timm/test_convnext", 32, 1),
    ],
)
def test_logits_for_every_class_and_images_told_apart(name: str, size: int, channels: int) -> None:
    torch.manual_seed(0)
    net = build(name, classes=7, size=size, channels=channels)
    net.eval()
    if name.startswith("vit"):  # its head starts at zero
        torch.nn.init.normal_(net.heads.head.weight)
    with torch.no_grad():
        logits = net(torch.randn(3, channels, size, size))
    assert logits.shape == (3, 7)
    # a norm over a single pixel would give every image the same logits
    assert float((logits[0] - logits[1]).norm() / logits[0].norm()) > 0.01


@pytest.mark.parametrize("name", ["convnet3-w8", "mlp", "resnetap10-w8", "resnet18-in-w8", "timm/test_resnet"])
def test_same_global_seed_same_weights(name: str) -> None:
    nets = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        nets.append(torch.cat([p.detach().flatten() for p in build(name, classes=3, size=8, channels=1).parameters()]))
    assert torch.equal(nets[0], nets[1])
    assert not torch.equal(nets[0], nets[2])


def test_options_come_in_any_order() -> None:
    one, other = (build(name, classes=2, size=8, channels=1) for name in ("convnet4-w8-bn-max", "convnet4-max-bn-w8"))
    assert str(one) == str(other)
    assert {"BatchNorm2d", "MaxPool2d"} < {type(m).__name__ for m in one.features}


def test_defaults_can_be_spelled_out() -> None:
    for short, long in (
        ("convnet3", "convnet3-w128-in-avg-relu"),
        ("resnetap10", "resnetap10-in-w32"),
        ("resnet10", "resnet10-bn-w32"),
    ):
        one, other = (build(name, classes=2, size=8, channels=1) for name in (short, long))
        assert str(one) == str(other)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("convnet3-w0", "the width after -w must be at least 1"),
        ("convnet3-swish", r"-swish is not an option of convnet; it takes -wN -in -bn .*-leaky"),
        ("resnet10-avg", r"-avg is not an option of resnet; it takes -wN -bn -in$"),
        ("mlp-bn", r"-bn is not an option of mlp; it takes -wN$"),
        ("convnet3-", "- is not an option"),
        ("convnet3-bn-in", "-in gives the norm a second time"),
        ("convnet3-w8-w8", "-w8 gives the width a second time"),
        ("convnet3-gn-w6", "-gn has 4 groups .* multiple of 4$"),
    ],
)
def test_options_that_do_not_fit_are_named(name: str, says: str) -> None:
    with pytest.raises(UserError, match=rf"student {name}: {says}"):
        build(name, classes=2, size=8, channels=1)


def test_unknown_names_get_close_matches() -> None:
    with pytest.raises(UserError, match=r"did you mean.*resnet18"):
        build("resnet-18", classes=2, size=8, channels=1)
    for name in ("convnet", "convnet8", "convnet0", "mlp3", "resnetap50", "resnet34-in"):
        with pytest.raises(UserError, match=rf"(?s)student '{name}' is not known.*convnet3.*timm/NAME"):
            build(name, classes=2, size=8, channels=1)


@pytest.mark.parametrize("name", ["convnet3", "resnet18-in", "resnetap10"])
def test_images_of_one_pixel_are_too_small(name: str) -> None:
    with pytest.raises(UserError, match=f"student {name}: images must be at least 2 pixels"):
        build(name, classes=2, size=1, channels=3)


def test_a_new_student_is_one_file_and_one_entry(
    new_file: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = new_file("""
        from torch import nn

        from raycond.models.students.base import Family

        def linear(*, classes, size, channels, width=4, bias="bias"):
            first = nn.Linear(channels * size * size, width, bias == "bias")
            return nn.Sequential(nn.Flatten(), first, nn.Linear(width, classes))

        LINEAR = Family(linear, listed=("linear",), choices={"bias": ("bias", "nobias")}, smallest=1)
    """)
    monkeypatch.setitem(STUDENTS.entries, "linear", Entry("linear", "two linear layers", f"{module}:LINEAR"))
    net = build("linear-nobias-w5", classes=2, size=1, channels=3)
    assert [tuple(p.shape) for p in net.parameters()] == [(5, 3), (2, 5), (2,)]
    assert "linear" in names()
    with pytest.raises(UserError, match=r"student linear-x: -x is not an option of linear; it takes -wN -bias -nobias"):
        build("linear-x", classes=2, size=1, channels=3)


def test_names_can_be_told_to_users() -> None:
    known = names()
    assert known[:4] == ["convnet3", "convnet4", "convnet6", "mlp"]
    assert {"kipnet3", "resnet10", "resnet10-in", "resnet18-in", "resnetap10", "resnetap10-bn"} < set(known)
    assert len(set(known)) == len(known)
    assert {"resnet18", "vit_b_16", "efficientnet_b0"} <= set(known)
    assert not {"fasterrcnn_resnet50_fpn", "raft_large"} & set(known)
