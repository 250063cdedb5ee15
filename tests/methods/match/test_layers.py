from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from raycond.methods.match.layers import AveragePool, quick
from raycond.models import students
from tests.methods.match.make import normal


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", [(3, 2, 8, 12), (2, 1, 7, 6), (1, 1, 2, 2)], ids=str)
def test_it_is_the_average_pool_of_torch(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = normal(*shape).to(dtype)
    tolerance = {torch.float32: 1e-6, torch.float64: 1e-15, torch.bfloat16: 0.02}[dtype]
    torch.testing.assert_close(AveragePool()(x), F.avg_pool2d(x, 2), rtol=0, atol=tolerance)


def test_channels_last_gives_the_same() -> None:
    x = normal(2, 3, 8, 8).to(memory_format=torch.channels_last)
    torch.testing.assert_close(AveragePool()(x), F.avg_pool2d(x, 2), rtol=0, atol=1e-15)


def test_first_and_second_derivatives() -> None:
    x = normal(1, 2, 4, 6).requires_grad_()
    pool = AveragePool()
    torch.autograd.gradcheck(pool, x)
    torch.autograd.gradgradcheck(lambda x: pool(x).sin(), x)


def test_only_pools_that_halve_are_exchanged() -> None:
    net = nn.Sequential(nn.AvgPool2d(2), nn.AvgPool2d(3), nn.AvgPool2d(2, padding=1), nn.Sequential(nn.AvgPool2d(2, 2)))
    kinds = [type(module) for module in quick(net).modules()]
    assert kinds.count(AveragePool) == 2
    assert kinds.count(nn.AvgPool2d) == 2


def test_a_network_gives_the_same_logits_and_keeps_its_weights() -> None:
    torch.manual_seed(0)
    net = students.build("convnet2-w4", classes=3, size=8, channels=2)
    x = normal(4, 2, 8, 8, dtype=torch.float32)
    before, names = net(x), list(net.state_dict())
    torch.testing.assert_close(quick(net)(x), before, rtol=0, atol=1e-5)
    assert list(net.state_dict()) == names
