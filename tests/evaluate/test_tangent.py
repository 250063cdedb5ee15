from __future__ import annotations

import pytest
import torch
from torch import nn

from raycond.evaluate.tangent import INPUTS, largest_stable_rate
from raycond.models.students import build


def test_rate_of_a_linear_network_is_that_of_its_gram_matrix() -> None:
    torch.manual_seed(0)
    images = torch.randn(7, 1, 3, 3)
    net = nn.Sequential(nn.Flatten(), nn.Linear(9, 4))
    gram = images.flatten(1) @ images.flatten(1).t() + 1  # 1 by the bias
    expected = 2 * 7 * 4 / torch.linalg.eigvalsh(gram)[-1].item()
    assert largest_stable_rate(net, images) == pytest.approx(expected, rel=1e-2)


def test_rate_of_a_network_is_that_of_its_jacobian() -> None:
    torch.manual_seed(0)
    net, images = build("kipnet2-w6", classes=3, size=8, channels=1), torch.randn(INPUTS + 5, 1, 8, 8)
    rows = []
    for image in images[:INPUTS]:
        output = net(image[None]).sum() / 3**0.5
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(output, list(net.parameters()))]))
    jacobian = torch.stack(rows)
    expected = 2 * INPUTS * 3 / torch.linalg.eigvalsh(jacobian @ jacobian.t())[-1].item()
    assert largest_stable_rate(net, images) == pytest.approx(expected, rel=1e-2)
    assert all(p.grad is None for p in net.parameters())


def test_descent_is_stable_below_the_rate_and_not_above() -> None:
    torch.manual_seed(0)
    images, targets = torch.randn(20, 1, 2, 2), torch.randn(20, 2)
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    rate = largest_stable_rate(net, images)
    for factor, stable in ((0.9, True), (1.1, False)):
        torch.manual_seed(1)
        net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
        optimizer = torch.optim.SGD(net.parameters(), lr=factor * rate)
        for _ in range(200):
            optimizer.zero_grad()
            loss = 0.5 * (net(images) - targets).square().mean()
            loss.backward()
            optimizer.step()
        assert (loss.item() < 10) is stable
