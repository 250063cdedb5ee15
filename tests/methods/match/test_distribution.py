from __future__ import annotations

import numpy as np
import pytest
import torch

from raycond.methods.match.distribution import DistributionMatching
from raycond.methods.match.objective import ClassBatch
from tests.methods.match.make import config, network, normal


def batches(synthetic: torch.Tensor, reals: tuple[int, ...] = (5, 7, 4)) -> list[ClassBatch]:
    parts = synthetic.split(2)
    return [ClassBatch(c, normal(n, 2, 4, 4, seed=c), parts[c]) for c, n in enumerate(reals)]


def test_loss_is_the_squared_distance_of_the_mean_features() -> None:
    """‖1/n Σ ψ(real) − 1/m Σ ψ(synthetic)‖² (DM, eq. 5), ψ: ReLU of one convolution, and a 2x2 mean, in plain loops."""
    settings = config("dm", network="convnet1-w3-nonorm", chunk=4)
    drawn = network(settings, shape=(2, 4, 4), exact=True)
    kernel, bias = (p.detach().numpy() for p in list(drawn.net.parameters())[:2])

    def embed(image: np.ndarray) -> np.ndarray:
        padded = np.zeros((2, 6, 6))
        padded[:, 1:-1, 1:-1] = image
        maps = np.zeros((3, 2, 2))
        for o in range(3):
            for y in range(4):
                for x in range(4):
                    value = bias[o] + (kernel[o] * padded[:, y : y + 3, x : x + 3]).sum()
                    maps[o, y // 2, x // 2] += max(value, 0.0) / 4
        return maps.reshape(-1)

    def loss(images: np.ndarray, target: np.ndarray) -> float:
        mean = sum(embed(image) for image in images) / len(images)
        goal = sum(embed(image) for image in target) / len(target)
        return sum((a - b) ** 2 for a, b in zip(mean, goal, strict=True))

    stored = normal(6, 2, 4, 4, seed=9).requires_grad_()
    losses = DistributionMatching(settings).losses(drawn, batches(stored))
    losses.sum().backward(inputs=[stored])
    values = losses.tolist()
    for c, batch in enumerate(batches(stored.detach())):
        images, target = batch.synthetic.numpy(), batch.real.numpy()
        assert values[c] == pytest.approx(loss(images, target), rel=1e-10)
        for place in [(0, 0, 1, 2), (1, 1, 3, 0)]:
            up, down = images.copy(), images.copy()
            up[place] += 1e-6
            down[place] -= 1e-6
            slope = (loss(up, target) - loss(down, target)) / 2e-6
            assert stored.grad is not None
            assert float(stored.grad[(2 * c + place[0], *place[1:])]) == pytest.approx(slope, rel=1e-4, abs=1e-9)


def test_classes_in_one_pass_or_one_by_one_give_the_same() -> None:
    settings = config("dm", network="convnet2-w4")
    drawn = network(settings, shape=(2, 4, 4), exact=True)
    every = batches(normal(6, 2, 4, 4, seed=9))
    objective = DistributionMatching(settings)
    torch.testing.assert_close(
        objective.losses(drawn, every), torch.cat([objective.losses(drawn, [batch]) for batch in every])
    )


def test_small_classes_share_a_pass() -> None:
    settings = config("dm", chunk=20)
    objective, drawn = DistributionMatching(settings), network(settings)
    assert objective.together(drawn, 2) == 10
    assert objective.together(drawn, 50) == 1


def test_batch_norm_sees_all_classes_in_one_batch() -> None:
    """As VICO's code does it: the statistics are those of the images of all classes."""
    settings = config("dm", network="convnet1-w4-bn", chunk=2)
    drawn = network(settings, shape=(2, 4, 4), exact=True)
    every = batches(normal(6, 2, 4, 4, seed=9))
    objective = DistributionMatching(settings)
    assert objective.together(drawn, 2) >= 3
    losses = objective.losses(drawn, every)
    features = [drawn.net.embed(torch.cat(images)) for images in zip(*[b[1:] for b in every], strict=True)]  # type: ignore[operator]
    sizes = [[len(b.real) for b in every], [len(b.synthetic) for b in every]]
    means = [[part.mean(0) for part in f.split(size)] for f, size in zip(features, sizes, strict=True)]
    expected = torch.stack([(a - b).square().sum() for a, b in zip(*means, strict=True)])
    torch.testing.assert_close(losses, expected)
