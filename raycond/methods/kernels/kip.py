"""Kernel Inducing Points: support images, and labels if wanted, learned by Adam on the loss of kernel ridge regression.

KIP, arXiv 2011.00050 and 2107.13034. One step: kernel blocks between support and a fresh batch of targets and of the
support with itself; the loss and dL/dK in closed form; vector-Jacobian products of the same blocks, added up to the
gradient by the support images. It is the exact gradient of the batch, whatever the size of the blocks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from raycond.errors import UserError
from raycond.methods.kernels import regression
from raycond.methods.kernels.architecture import Architecture
from raycond.methods.kernels.blocks import BLOCK, BlockMap, gradient_in_blocks, in_turn, kernel_in_blocks
from raycond.methods.kernels.targets import Targets, support_rows

BETAS, EPSILON = (0.9, 0.999), 1e-8


@dataclass(frozen=True)
class KipConfig:
    """Defaults are those of the published code. lr: Adam's, of images and labels. targets: images of a step's batch.
    reg: times the mean diagonal of the kernel. allow_raise: of reg, where the kernel is singular. dtype: of kernels
    with targets, float32 or float64; support_dtype: of the support with itself, which is factored. block: images a
    side. device: that blocks are computed on."""

    network: Architecture
    lr: float = 4e-2
    targets: int = 5000
    learn_labels: bool = False
    reg: float = regression.REG
    allow_raise: bool = False
    dtype: torch.dtype = torch.float32
    support_dtype: torch.dtype = torch.float64
    block: int = BLOCK
    device: str = "cpu"
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.lr > 0:
            raise UserError(f"--lr must be above 0, not {self.lr}")
        if self.targets < 1:
            raise UserError(f"--batch must be at least 1, not {self.targets}")


@dataclass(frozen=True)
class KipState:
    """All that the next step depends on, float64. images: (n, C, H, W), preprocessed; labels: (n, classes), centered;
    *_moments: Adam's (2, …); step: number of steps done."""

    images: Tensor
    labels: Tensor
    image_moments: Tensor
    label_moments: Tensor
    step: int = 0

    def tensors(self) -> dict[str, Tensor]:
        """For a file; `load` reads them."""
        arrays = {name: getattr(self, name) for name in ("images", "labels", "image_moments", "label_moments")}
        return {**arrays, "step": torch.tensor(self.step)}

    @classmethod
    def load(cls, tensors: dict[str, Tensor]) -> KipState:
        arrays = {name: value for name, value in tensors.items() if name != "step"}
        return cls(**arrays, step=int(tensors["step"]))


class Progress(NamedTuple):
    """Of the support before a step, on the batch of the step. reg: as it was used."""

    loss: float
    accuracy: float
    reg: float


def initial_state(targets: Targets, per_class: int, seed: int) -> KipState:
    """A class-balanced random subset of the training images. Raises UserError if a class has too few."""
    rows = support_rows(targets.labels, targets.classes, per_class, seed)
    images = targets.images[rows].double()
    labels = regression.centered_labels(targets.labels[rows], targets.classes)
    return KipState(images, labels, torch.zeros(2, *images.shape).double(), torch.zeros(2, *labels.shape).double())


def kip_step(
    state: KipState, targets: Targets, config: KipConfig, *, run: BlockMap = in_turn
) -> tuple[KipState, Progress]:
    """The state after one more step. Raises as `regression.gradients` does."""
    images, labels = targets.batch(config.targets, config.seed, state.step)
    progress, by_images, by_labels = gradient(
        config, state, images, regression.centered_labels(labels, targets.classes), run=run
    )
    step = state.step + 1
    new_images, image_moments = adam(state.images, by_images, state.image_moments, step, config.lr)
    state = replace(state, images=new_images, image_moments=image_moments, step=step)
    if config.learn_labels:
        new_labels, label_moments = adam(state.labels, by_labels, state.label_moments, step, config.lr)
        state = replace(state, labels=new_labels, label_moments=label_moments)
    return state, progress


def gradient(
    config: KipConfig, state: KipState, targets: Tensor, target_labels: Tensor, *, run: BlockMap = in_turn
) -> tuple[Progress, Tensor, Tensor]:
    """Loss, and its gradients by support images and labels, float64, on targets (k, C, H, W) with centered labels."""
    support, targets = state.images.to(config.dtype), targets.to(config.dtype)
    support_alone = state.images.to(config.support_dtype)
    # the support comes first: derivatives are taken by the first argument
    kernel = partial(kernel_in_blocks, config.network, block=config.block, device=config.device, run=run)
    k_st, k_ss = kernel(support, targets), kernel(support_alone)
    by = regression.gradients(
        k_st.t(), k_ss, state.labels, target_labels, reg=config.reg, allow_raise=config.allow_raise
    )
    vjp = partial(gradient_in_blocks, config.network, block=config.block, device=config.device, run=run)
    by_images = vjp(support, targets, by.k_ts.t()) + vjp(support_alone, None, by.k_ss)
    return Progress(by.loss, by.accuracy, by.reg), by_images, by.labels


def adam(value: Tensor, grad: Tensor, moments: Tensor, step: int, lr: float) -> tuple[Tensor, Tensor]:
    """Value and moments (2, …) after Adam's update number `step`, from 1."""
    first = torch.lerp(grad, moments[0], BETAS[0])
    second = torch.lerp(grad.square(), moments[1], BETAS[1])
    scale = (second / (1 - BETAS[1] ** step)).sqrt() + EPSILON
    return value - lr * (first / (1 - BETAS[0] ** step)) / scale, torch.stack((first, second))
