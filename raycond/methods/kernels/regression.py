"""Kernel ridge regression: labels, predictions, loss, and what the loss is by kernels and labels (KIP, section 2).

The regularized kernel of the n support images is M = K_ss + reg · tr(K_ss)/n · I, the predictions for targets are
K_ts M⁻¹ y_s, and the loss is half the mean squared error over targets and classes. Everything here is float64: kernels
of similar images are nearly singular.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from raycond.core.errors import RaycondError, UserError

REG = 1e-6  # of the published runs
LARGEST_REG = 1e-1  # a regularization is not raised beyond


class SingularKernel(RaycondError):  # noqa: N818 - reads as the thing it reports
    """A kernel matrix that cannot be factored with the regularization it has."""


@dataclass(frozen=True)
class Ridge:
    """A fitted regression. coefficients: M⁻¹ y_s (n, C); factor: lower Cholesky factor of M; reg: as it was used."""

    coefficients: Tensor
    factor: Tensor
    reg: float

    def predict(self, kernel: Tensor) -> Tensor:
        """(k, C) from the kernel between k images and the support (k, n)."""
        require_finite(kernel, "between targets and support")
        return kernel.double() @ self.coefficients


class Gradients(NamedTuple):
    """The loss and its derivatives by K_ts (k, n), K_ss (n, n) and y_s (n, C). accuracy: share of targets whose largest
    prediction is at their largest label. reg: as it was used."""

    loss: float
    accuracy: float
    k_ts: Tensor
    k_ss: Tensor
    labels: Tensor
    reg: float


def centered_labels(labels: Tensor, classes: int) -> Tensor:
    """One-hot minus 1/classes (n, classes), float64: 0.9 and −0.1 for ten classes. Raises UserError for a label that is
    not 0 … classes − 1."""
    if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise UserError(
            f"labels go from {int(labels.min())} to {int(labels.max())}: with {classes} classes they must be "
            f"0 to {classes - 1}"
        )
    return F.one_hot(labels.long(), classes).double() - 1 / classes


def fit(kernel: Tensor, labels: Tensor, *, reg: float = REG, allow_raise: bool = False) -> Ridge:
    """Regression on support with kernel (n, n) and labels (n, C).

    allow_raise: where the regularized kernel is singular, raise the regularization tenfold until it is not, up to 0.1.
    Raises UserError if the kernel is not finite or not square, SingularKernel if it is singular.
    """
    if kernel.ndim != 2 or len(kernel) != kernel.shape[1] or len(kernel) != len(labels):
        raise UserError(
            f"a kernel of the support with itself is (n, n) beside labels (n, C), not {tuple(kernel.shape)} beside "
            f"{tuple(labels.shape)}"
        )
    require_finite(kernel, "of the support with itself")
    factor, reg = _factor(kernel.double(), reg, allow_raise)
    return Ridge(torch.cholesky_solve(labels.double(), factor), factor, reg)


def gradients(
    k_ts: Tensor,
    k_ss: Tensor,
    support_labels: Tensor,
    target_labels: Tensor,
    *,
    reg: float = REG,
    allow_raise: bool = False,
) -> Gradients:
    """Loss and derivatives, in closed form: with a = M⁻¹ y_s and residuals R = (K_ts a − y_t)/(k C),

        dL/dK_ts = R aᵀ     dL/dy_s = v = M⁻¹ K_tsᵀ R     dL/dM = −v aᵀ     dL/dK_ss = dL/dM + reg/n · tr(dL/dM) · I.

    dL/dK_ss is not symmetric. Raises as `fit` does.
    """
    ridge = fit(k_ss, support_labels, reg=reg, allow_raise=allow_raise)
    k_ts, target_labels = k_ts.double(), target_labels.double()
    predictions = ridge.predict(k_ts)
    residuals = (predictions - target_labels) / target_labels.numel()
    by_labels = torch.cholesky_solve(k_ts.t() @ residuals, ridge.factor)
    by_matrix = -by_labels @ ridge.coefficients.t()
    by_matrix.diagonal().add_(by_matrix.trace() * ridge.reg / len(k_ss))
    return Gradients(
        loss(predictions, target_labels),
        accuracy(predictions, target_labels.argmax(1)),
        residuals @ ridge.coefficients.t(),
        by_matrix,
        by_labels,
        ridge.reg,
    )


def loss(predictions: Tensor, labels: Tensor) -> float:
    """Half the mean squared error over all entries (k, C)."""
    return 0.5 * float(F.mse_loss(predictions.double(), labels.double()))


def accuracy(predictions: Tensor, labels: Tensor) -> float:
    """Share of rows whose largest prediction is at the label (k,)."""
    return float((predictions.argmax(1) == labels).double().mean())


def require_finite(kernel: Tensor, which: str) -> None:
    """Raises UserError, naming the first bad entry."""
    if bool(kernel.isfinite().all()):
        return
    row, column = (~kernel.isfinite()).nonzero()[0].tolist()
    raise UserError(
        f"the kernel {which} is {kernel[row, column].item()} at row {row}, column {column}: look for pixels that are "
        "not finite, or for a learning rate that is too large"
    )


def _factor(kernel: Tensor, reg: float, allow_raise: bool) -> tuple[Tensor, float]:
    n = len(kernel)
    start = reg
    while True:
        ridge = reg * float(kernel.diagonal().sum()) / n
        factor, info = torch.linalg.cholesky_ex(kernel + ridge * torch.eye(n, dtype=kernel.dtype, device=kernel.device))
        if not int(info):
            return factor, reg
        if not allow_raise or reg >= LARGEST_REG or not math.isfinite(ridge):
            tried = f"regularization {start:g}" if reg == start else f"regularizations from {start:g} to {reg:g}"
            raise SingularKernel(
                f"the kernel of {n} support images is singular with {tried} times its mean diagonal: look for equal "
                "images in the support, use float64, or allow a larger regularization"
            )
        reg = min(LARGEST_REG, max(10 * reg, 1e-12))
