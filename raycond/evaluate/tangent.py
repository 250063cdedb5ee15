"""The largest stable learning rate of a network, from its empirical tangent kernel (NTK)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

INPUTS = 50  # of the published code
ITERATIONS = 30


def largest_stable_rate(net: nn.Module, images: Tensor) -> float:
    """Of gradient descent on half the mean squared error over images and outputs: 2 n C / λ, for n images, C outputs.

    λ is the largest eigenvalue of the kernel J Jᵀ (n, n) of the images' outputs summed over C and divided by √C, which
    stands for the kernel of every single output (KIP's nn_training.ipynb; `max_learning_rate` of neural-tangents). It
    is found by power iteration, so that no gradient of a single image is ever kept. images: what the network takes,
    (n, C, H, W); the first `INPUTS` of them are used. Deterministic; no gradient stays in the network.
    """
    images = images[:INPUTS]
    parameters = list(net.parameters())
    logits = net(images)
    reduced = logits.sum(1) / logits.shape[1] ** 0.5
    # Jᵀ v is linear in v: its derivative by v in direction w is J w
    weights = torch.zeros_like(reduced, requires_grad=True)
    pulled = torch.autograd.grad(reduced, parameters, weights, create_graph=True)
    # the outputs of an untrained network are nearly the same for all images: so is the first eigenvector
    direction = torch.full_like(reduced, len(images) ** -0.5).detach()
    largest = 0.0
    for _ in range(ITERATIONS):
        gradient = torch.autograd.grad(reduced, parameters, direction, retain_graph=True)
        (product,) = torch.autograd.grad(pulled, weights, gradient, retain_graph=True)
        largest = float(product.norm())
        if not largest:
            break
        direction = product / largest
    return 2 * logits.numel() / max(largest, 1e-12)
