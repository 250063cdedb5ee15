"""Coresets: real images of one class chosen by where a proxy network puts them, as the baselines of condensation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from raycond.core import files
from raycond.core.errors import UserError, named
from raycond.core.registry import Entry, Registry
from raycond.methods.quantize.quantization import quantize
from raycond.sets.class_rows import class_rows

if TYPE_CHECKING:
    from raycond.evaluate.proxy import Proxy

_HERE = "raycond.evaluate.coresets"

# each target takes the proxy, the rows of one class, how many of them to choose, and a seed; it gives their positions
CORESETS = Registry(
    "coreset",
    [
        Entry("medoid", "the images nearest to the centroids of k-means", f"{_HERE}:_by_medoids"),
        Entry("herding", "greedily those whose mean is nearest to the mean of the class", f"{_HERE}:_by_herding"),
        Entry("k-center", "those that leave no image far from all of them", f"{_HERE}:_by_k_center"),
        Entry("el2n", "those that a network learns first", f"{_HERE}:_by_el2n"),
    ],
)
RESTARTS = 5  # of k-means; the same as in the quantize pipeline
_TIE = 1e-9  # scores closer than this share of the largest squared norm are equal: rounding must not choose


def choose(kind: str, proxy: Proxy, labels: Tensor, ipc: int, seed: int) -> Tensor:
    """Rows of the training set to keep: (classes · ipc,) int64, `ipc` of every class, classes in label order.

    kind: a name in `CORESETS`. labels: (N,) int64, of the images that the proxy measured. seed moves only the k-means
    of `medoid`; the other kinds are functions of the proxy. Within a class the rows are in the order of choice, which
    makes `herding`, `k-center` and `el2n` at a smaller IPC a prefix of themselves. Raises UserError for an unknown
    kind and, naming the class, where a class has fewer than `ipc` images.
    """
    pick = CORESETS[kind].load()
    if len(labels) != len(proxy.el2n):
        raise UserError(f"the proxy measured {len(proxy.el2n)} images, and there are {len(labels)} labels")
    labels = labels.cpu()
    chosen = []
    for label, rows in enumerate(class_rows(labels, int(labels.max()) + 1)):
        with named(f"{kind}, class {label}"):
            picks = pick(proxy, rows, ipc, int(files.digest([kind, seed, label])[:15], 16))
        chosen.append(rows[picks.cpu()])
    return torch.cat(chosen)


def _by_medoids(proxy: Proxy, rows: Tensor, k: int, seed: int) -> Tensor:
    return medoids(proxy.features[rows], k, seed)


def _by_herding(proxy: Proxy, rows: Tensor, k: int, _: int) -> Tensor:
    return herding(proxy.features[rows], k)


def _by_k_center(proxy: Proxy, rows: Tensor, k: int, _: int) -> Tensor:
    return k_center(proxy.features[rows], k)


def _by_el2n(proxy: Proxy, rows: Tensor, k: int, _: int) -> Tensor:
    return easiest(proxy.el2n[rows], k)


def herding(features: Tensor, k: int) -> Tensor:
    """Greedily the samples whose mean comes closest to the mean of all: (n, d) → (k,) int64 in order of choice.

    Welling, ICML 2009, in the form of iCaRL (arXiv 1611.07725, Algorithm 4), never the same sample twice. As in the
    condensation literature the features are taken as they are; iCaRL brings them to unit length first. k·n·d
    multiply-adds, in float64.
    """
    _require(len(features), k)
    x = _centred(features)
    norms = x.square().sum(1)
    total = torch.zeros_like(x[0])  # of the picked, seen from the mean of the class: to be kept near zero
    picked: list[int] = []
    free = torch.zeros_like(norms)
    for _ in range(k):
        # |total + x|² without |total|², which is common to all
        row = _first_smallest(torch.addmv(norms, x, total, alpha=2) + free, norms)
        picked.append(row)
        free[row] = torch.inf
        total = total + x[row]
    return torch.tensor(picked)


def k_center(features: Tensor, k: int) -> Tensor:
    """Centers that leave no sample far from all of them: (n, d) → (k,) int64 in order of choice.

    The farthest-first greedy of Sener and Savarese (arXiv 1708.00489, Algorithm 1): its covering radius is at most
    twice the smallest possible. The first center is the sample nearest to the mean, as in the condensation
    literature's code; DeepCore starts at a random one. k·n·d multiply-adds, in float64.
    """
    _require(len(features), k)
    x = _centred(features)
    norms = x.square().sum(1)
    picked = [_first_smallest(norms, norms)]
    nearest = torch.full_like(norms, torch.inf)  # squared distance to the nearest center
    while len(picked) < k:
        last = picked[-1]
        nearest = torch.minimum(nearest, torch.addmv(norms + norms[last], x, x[last], alpha=-2))
        nearest[last] = -torch.inf  # never again, however many samples coincide
        picked.append(_first_smallest(-nearest, norms))
    return torch.tensor(picked)


def medoids(features: Tensor, k: int, seed: int) -> Tensor:
    """The sample nearest to each of k k-means centroids: (n, d) float → (k,) int64, all different.

    In the order of a codebook: the largest cluster first. DC-BENCH (arXiv 2207.09639) calls it k-means-emb.
    """
    _require(len(features), k)
    return quantize(features.float(), [k], kind="lloyd", seed=seed, restarts=RESTARTS)[0].medoids


def easiest(scores: Tensor, k: int) -> Tensor:
    """The k samples of lowest score, the lowest first: (n,) → (k,) int64.

    With EL2N these are the images a network learns first. So few images want the easy ones: the hard ones that
    Paul et al. keep help only where most of the data is kept (Sorscher et al., arXiv 2206.14486).
    """
    _require(len(scores), k)
    return scores.argsort(stable=True)[:k].cpu()


def _require(n: int, k: int) -> None:
    if not 1 <= k <= n:
        raise UserError(f"ipc must be from 1 to the {n} images of the class, not {k}")


def _centred(features: Tensor) -> Tensor:
    """In float64, seen from the mean: small differences between far-off points keep their digits."""
    exact = features.double()
    return exact - exact.mean(0)


def _first_smallest(values: Tensor, norms: Tensor) -> int:
    """The first row whose value is the smallest but for rounding."""
    limit = values.min() + _TIE * norms.max()
    return int((values <= limit).nonzero()[0])
