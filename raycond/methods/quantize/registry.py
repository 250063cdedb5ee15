"""The quantizers by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raycond.core.registry import Entry, Registry

if TYPE_CHECKING:
    from raycond.methods.quantize.base import Quantizer

_HERE = "raycond.methods.quantize"

QUANTIZERS = Registry(
    "--quantizer",
    [
        Entry("lloyd", "exact k-means with k-means++, restarts and Hartigan's exchanges", f"{_HERE}.lloyd:Lloyd"),
        Entry("clvq", "DDOQ's one pass over a stream, for classes that do not fit in memory", f"{_HERE}.clvq:OnePass"),
        Entry("minibatch", "D4M's one pass over small batches (scikit-learn's)", f"{_HERE}.minibatch:MiniBatch"),
        Entry("faiss", "faiss' k-means, on its GPU index where there is one", f"{_HERE}.faiss_kmeans:Faiss"),
        Entry("gmm", "means of a Gaussian mixture (MGD3)", f"{_HERE}.gaussian_mixture:Mixture"),
    ],
)


def open_quantizer(kind: str, *, restarts: int = 1, expand: int = 1) -> Quantizer:
    """The quantizer of that name. Raises UserError for an unknown one."""
    quantizer: Quantizer = QUANTIZERS[kind].load()(restarts=restarts, expand=expand)
    return quantizer
