"""The largest stable learning rate of a network, from its empirical tangent kernel (NTK)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call

INPUTS = 50  # of the published code
ITERATIONS = 30


def largest_stable_rate(net: nn.Module, images: Tensor) -> float:
    """Of gradient descent on half the mean squared error over images and outputs: 2 n C / λ, for n images, C outputs.

    λ is the largest eigenvalue of the kernel J Jᵀ (n, n) of the images' outputs summed over C and divided by √C, which
    stands for the kernel of every single output (KIP's nn_training.ipynb; `max_learning_rate` of neural-tangents). It
    is found by power iteration, so that no gradient of a single image is ever kept. images: what the network takes,
    (n, C, H, W); the first `INPUTS` of them are used. Deterministic.
    """
    images = images[:INPUTS]
    weights = {name: parameter.detach().requires_grad_() for name, parameter in net.named_parameters()}
    logits = functional_call(net, (weights, dict(net.named_buffers())), (images,))
    outputs = logits.shape[1]
    values, parameters = logits.sum(1) / outputs**0.5, list(weights.values())
    # Jᵀ v is linear in v, so that its own gradient in v, against u, is J u
    anywhere = torch.zeros_like(values, requires_grad=True)
    pulled = torch.autograd.grad(values, parameters, anywhere, create_graph=True)
    # the outputs of an untrained network are nearly the same for all images: so is the first eigenvector
    direction = torch.full_like(values, len(images) ** -0.5)
    largest = 0.0
    for _ in range(ITERATIONS):
        gradient = torch.autograd.grad(values, parameters, direction, retain_graph=True)
        (product,) = torch.autograd.grad(pulled, anywhere, gradient, retain_graph=True)
        largest = float(product.norm())
        if not largest:
            break
        direction = product / largest
    return 2 * len(images) * outputs / max(largest, 1e-12)
