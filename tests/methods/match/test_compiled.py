from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from raycond.methods.match.gradient import GradientMatching
from raycond.methods.match.objective import ClassBatch
from tests.methods.match.make import config, network, normal


@pytest.mark.slow
@pytest.mark.slow
def test_compiled_passes_give_the_same_loss_and_gradient() -> None:
    plain = config("idc", network="convnet1-w4")
    results = []
    for settings in (plain, replace(plain, compile="default")):
        drawn, objective = network(settings), GradientMatching(settings)
        for iteration in range(2):  # the weights of another network, in the same graph
            drawn.draw(iteration)
            images = normal(2, 2, 8, 8, seed=1, dtype=torch.float32).requires_grad_()
            batch = ClassBatch(1, normal(5, 2, 8, 8, dtype=torch.float32), 2 * images)
            loss = objective.losses(drawn, [batch]).sum()
            loss.backward(inputs=[images])
            assert images.grad is not None
            results += [(loss.detach(), images.grad)]
    for one, other in zip(results[:2], results[2:], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(results[0][0], results[1][0])


def test_networks_with_batch_statistics_have_plain_second_derivatives() -> None:
    settings = config("idc", network="convnet1-w4-bn", compile="default")
    objective = GradientMatching(replace(settings, compile="none"))
    drawn = network(settings)
    drawn.forward = drawn.net  # the first derivative is compiled, which this test does not wait for
    batch = ClassBatch(1, normal(5, 2, 8, 8, dtype=torch.float32), normal(2, 2, 8, 8, seed=1, dtype=torch.float32))
    loss = objective.losses(drawn, [batch._replace(synthetic=batch.synthetic.requires_grad_())])
    assert objective._compiled is None
    assert torch.isfinite(loss).all()
