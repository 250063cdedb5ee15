"""Label Solve: the labels of a fixed support that fit all training images best, in closed form (KIP, section 2).

Of a kernel ridge regression with support images X_s the predictions K_ts (K_ss + λI)⁻¹ y_s are linear in the labels
y_s; those of least error on the training set are y_s = (K_ss + λI) (K_st K_ts + λI)⁻¹ K_st y_t. Only K_st K_ts (n, n)
and K_st y_t (n, C) are needed of the training set, and both are sums over its images: blocks of the kernel are added up
as they come, and never kept.
"""

from __future__ import annotations

import torch
from torch import Tensor

from raycond.core.errors import UserError
from raycond.methods.kernels.architecture import Architecture
from raycond.methods.kernels.blocks import BLOCK, BlockMap, in_turn, kernel_in_blocks
from raycond.methods.kernels.regression import SingularKernel, centered_labels, require_finite
from raycond.methods.kernels.scoring import kernel_rows

REG = 1e-6  # λ is this over n, not scaled by the kernel: the published code's


class NormalEquations:
    """The two sums over the training set, float64. support: images; classes: columns of the labels."""

    def __init__(self, support: int, classes: int) -> None:
        self.gram = torch.zeros(support, support, dtype=torch.float64)
        self.products = torch.zeros(support, classes, dtype=torch.float64)
        self.count = 0

    def add(self, kernel: Tensor, labels: Tensor) -> None:
        """Targets with kernel K_ts (k, n) and labels (k, C), centered. Raises UserError if the kernel is not finite."""
        require_finite(kernel, f"between targets (from {self.count}) and support")
        if kernel.shape != (len(labels), len(self.gram)) or labels.shape[1:] != self.products.shape[1:]:
            raise UserError(
                f"targets come with a kernel (k, {len(self.gram)}) and labels (k, {self.products.shape[1]}), not "
                f"{tuple(kernel.shape)} and {tuple(labels.shape)}"
            )
        kernel, labels = kernel.double().cpu(), labels.double().cpu()
        self.gram.addmm_(kernel.t(), kernel)
        self.products.addmm_(kernel.t(), labels)
        self.count += len(labels)

    def solve(self, support_kernel: Tensor, *, reg: float = REG) -> Tensor:
        """Labels (n, C), float64, of support with kernel K_ss (n, n).

        Raises UserError if the support has more images than were added, or its kernel is not finite; SingularKernel if
        the equations are singular.
        """
        n = len(self.gram)
        require_fewer(n, self.count)
        require_finite(support_kernel, "of the support with itself")
        ridge = torch.eye(n, dtype=torch.float64) * (reg / n)
        factor, info = torch.linalg.cholesky_ex(self.gram + ridge)
        if int(info):
            raise SingularKernel(
                f"label solve: the equations of {n} support images and {self.count} targets are singular with "
                f"regularization {reg:g}; look for equal images in the support, or raise it"
            )
        return (support_kernel.double().cpu() + ridge) @ torch.cholesky_solve(self.products, factor)

    # ---- to stop and go on

    def state(self) -> dict[str, Tensor]:
        return {"gram": self.gram, "products": self.products, "count": torch.tensor(self.count)}

    @classmethod
    def load(cls, state: dict[str, Tensor]) -> NormalEquations:
        sums = cls(*state["products"].shape)
        sums.gram, sums.products = state["gram"].clone(), state["products"].clone()
        sums.count = int(state["count"])
        return sums


def solve_labels(
    network: Architecture,
    support: Tensor,
    targets: Tensor,
    target_labels: Tensor,
    classes: int,
    *,
    reg: float = REG,
    block: int = BLOCK,
    device: str = "cpu",
    run: BlockMap = in_turn,
) -> Tensor:
    """Labels (n, classes), float64, of support (n, C, H, W) from targets (k, C, H, W) with labels (k,) int64.

    The condition number of the equations is the square of the kernel's: give targets in float64 where that is
    affordable. Raises as `NormalEquations` does, and UserError for a support of more images than there are targets
    before anything is computed.
    """
    require_fewer(len(support), len(targets))
    labels = centered_labels(target_labels, classes)
    sums = NormalEquations(len(support), classes)
    for rows, kernel in kernel_rows(network, targets, support, block=block, device=device, run=run):
        sums.add(kernel, labels[rows])
    return sums.solve(kernel_in_blocks(network, support.double(), block=block, device=device, run=run), reg=reg)


def require_fewer(support: int, targets: int) -> None:
    """Raises UserError if the targets do not determine the labels of the support."""
    if support > targets:
        raise UserError(
            f"label solve: {support} support images are more than the {targets} target images that determine their "
            "labels; use a smaller support or more targets"
        )
