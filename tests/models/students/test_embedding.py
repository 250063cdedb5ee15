from __future__ import annotations

import pytest
import torch
from torch import nn

from raycond.core.errors import UserError
from raycond.models.students import build, embedding


@pytest.mark.parametrize(
    ("name", "size", "width"),
    [
        ("convnet3", 28, 2048),
        ("convnet3-w8", 8, 8 * 4),
        ("mlp-w12", 8, 12),
        ("resnetap10-w4", 16, 32),
        ("resnet18-in-w4", 16, 32),
        ("resnet18", 16, 512),
        ("mobilenet_v3_small", 32, 1024),
        ("timm/test_vit", 32, 64),
        ("timm/test_resnet", 32, 96),
    ],
)
def test_embedding_is_what_the_classifier_sees(name: str, size: int, width: int) -> None:
    net = build(name, classes=3, size=size, channels=1).eval()
    last = [module for module in net.modules() if isinstance(module, nn.Linear)][-1]
    nn.init.normal_(last.weight)  # some start at zero
    images = torch.randn(2, 1, size, size, requires_grad=True)
    vectors = embedding(net)(images)
    assert vectors.shape == (2, width)
    assert torch.equal(last(vectors), net(images))
    vectors.sum().backward()
    assert images.grad is not None


def test_nothing_stays_behind_in_the_network() -> None:
    net = build("resnet18", classes=3, size=16, channels=1).eval()
    embedding(net)(torch.randn(2, 1, 16, 16))
    assert not any(module._forward_hooks for module in net.modules())


def test_a_network_without_a_linear_end_says_so() -> None:
    with pytest.raises(UserError, match="SqueezeNet does not end in a linear layer"):
        embedding(build("squeezenet1_0", classes=3, size=32, channels=3))(torch.randn(2, 3, 32, 32))
