"""Modes of a Gaussian mixture, in place of k-means centroids."""

from __future__ import annotations

import warnings

import numpy as np
from torch import Tensor, from_numpy

from raycond.methods.quantize.base import SingleQuantizer
from raycond.methods.quantize.codebook import nearest
from raycond.methods.quantize.lloyd import lloyd

FLOOR = 1e-3  # of the variances, as a share of the mean variance: a component of one image would have none


class Mixture(SingleQuantizer):
    """Means of a Gaussian mixture, from one start of Lloyd's."""

    def centroids(self, points: Tensor, count: int, seed: int) -> Tensor:
        return gmm_means(points, count, seed=seed)


def gmm_means(points: Tensor, count: int, *, seed: int, restarts: int = 1, iterations: int = 100) -> Tensor:
    """Means (K, d) float32 of a mixture of Gaussians with diagonal covariances, fitted to points (n, d) by EM.

    MGD3 (arXiv 2505.18963) has it beside k-means as a way to find modes (66.9 against 66.4 % on ImageNette at IPC 10);
    its settings are not printed. EM starts from Lloyd's centroids, by scikit-learn on the CPU in float64. Raises
    ValueError if K exceeds n.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    start = lloyd(points[None].float(), [count], seeds=[seed], restarts=restarts)[count][0]
    if count == len(points):
        return start
    labels, _ = nearest(points.float(), start)
    data = points.double().cpu().numpy()
    floor = max(FLOOR * float(data.var(0).mean()), 1e-12)
    within = (points - start[labels]).double().square().mean(0).cpu().numpy() + floor
    model = GaussianMixture(
        count,
        covariance_type="diag",
        reg_covar=floor,
        max_iter=iterations,
        weights_init=np.full(count, 1 / count),
        means_init=start.double().cpu().numpy(),
        precisions_init=np.tile(1 / within, (count, 1)),
        random_state=seed % 2**32,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the last means are still means
        model.fit(data)
    return from_numpy(model.means_).float().to(points.device)
