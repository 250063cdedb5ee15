from __future__ import annotations

import pytest
import torch

from raycond.errors import UserError
from raycond.networks import build, names


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
        ("resnet18", 16, 1),
        ("mobilenet_v2", 32, 1),
        ("vit_b_32", 64, 3),
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


def test_convnet3_is_the_net_of_the_field() -> None:
    net = build("convnet3", classes=10, size=32, channels=3)
    # 3 blocks of 128 filters with bias and affine instance norm, and a head on 128·4·4 = 2048 features
    expected = (3 * 9 + 1) * 128 + 2 * (128 * 9 + 1) * 128 + 3 * 256 + 2048 * 10 + 10
    assert sum(p.numel() for p in net.parameters()) == expected
    assert build("convnet3", classes=10, size=28, channels=1).classifier.in_features == 2048


def test_same_global_seed_same_weights() -> None:
    nets = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        nets.append(build("convnet3-w8", classes=3, size=8, channels=1).state_dict()["classifier.weight"])
    assert torch.equal(nets[0], nets[1])
    assert not torch.equal(nets[0], nets[2])


def test_resnet_has_the_small_stem_only_below_64_pixels() -> None:
    small, large = (build("resnet18", classes=5, size=size, channels=1) for size in (32, 64))
    assert small.conv1.weight.shape == (64, 1, 3, 3)
    assert small.conv1.stride == (1, 1)
    assert isinstance(small.maxpool, torch.nn.Identity)
    assert large.conv1.weight.shape == (64, 1, 7, 7)
    assert isinstance(large.maxpool, torch.nn.MaxPool2d)
    assert small.training  # the dry run must not leave it in eval mode


def test_unknown_names_get_close_matches() -> None:
    with pytest.raises(UserError, match=r"Did you mean.*resnet18"):
        build("resnet-18", classes=2, size=8, channels=1)
    with pytest.raises(UserError, match="convnet3"):
        build("convnet5", classes=2, size=8, channels=1)
    with pytest.raises(UserError, match="width"):
        build("convnet3-w0", classes=2, size=8, channels=1)


def test_a_network_that_cannot_take_the_images_says_so() -> None:
    with pytest.raises(UserError, match="alexnet cannot take images of 3x32x32"):
        build("alexnet", classes=2, size=32, channels=3)
    with pytest.raises(UserError, match="vit_b_32 cannot take images of 3x40x40"):
        build("vit_b_32", classes=2, size=40, channels=3)
    with pytest.raises(UserError, match="at least 2 pixels"):
        build("convnet3", classes=2, size=1, channels=3)


def test_names_can_be_told_to_users() -> None:
    known = names()
    assert known[:4] == ["convnet3", "convnet4", "convnet6", "mlp"]
    assert {"resnet18", "vit_b_16", "efficientnet_b0"} <= set(known)
    assert not {"fasterrcnn_resnet50_fpn", "raft_large"} & set(known)
