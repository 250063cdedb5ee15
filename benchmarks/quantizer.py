"""Quantizers on real latents, side by side: raycond, scikit-learn KMeans, faiss, D4M's partial_fit.

python -m benchmarks.quantizer
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from sklearn.cluster import KMeans
from torch import Tensor

from benchmarks.common import latents, machine, print_table, side_by_side
from raycond.methods.quantize.codebook import codebook
from raycond.methods.quantize.faiss_kmeans import faiss_kmeans
from raycond.methods.quantize.minibatch import partial_fit
from raycond.methods.quantize.quantization import quantize
from raycond.methods.quantize.wasserstein import mean_rows, w2_study

IPCS = (10, 50, 100)
REPEATS = 7
Run = Callable[[Tensor], list[Tensor]]


def ours(restarts: int) -> Run:
    # everything that a run does: seeding, Lloyd, exchanges, and the exact final assignment pass of every IPC
    return lambda x: [b.centroids for b in quantize(x, IPCS, kind="lloyd", seed=0, restarts=restarts)]


def kmeans(x: Tensor) -> list[Tensor]:
    data = x.numpy()
    models = [KMeans(k, n_init=1, random_state=0).fit(data) for k in IPCS]
    return [torch.from_numpy(m.cluster_centers_).float() for m in models]


RUNS: dict[str, Run] = {
    "raycond lloyd (5 restarts)": ours(5),
    "raycond lloyd (1 restart)": ours(1),
    "scikit-learn KMeans (n_init 1)": kmeans,
    "faiss.Kmeans (20 iterations)": lambda x: [faiss_kmeans(x, k, seed=0) for k in IPCS],
    "D4M: partial_fit, batch = IPC": lambda x: [partial_fit(x, k) for k in IPCS],
}


def compare(title: str, points: Tensor) -> None:
    n, d = points.shape
    print(f"{title}: n = {n}, d = {d:,}, IPC {', '.join(map(str, IPCS))} together, median of {REPEATS}")
    seconds = side_by_side({name: lambda run=run: run(points) for name, run in RUNS.items()}, REPEATS)
    distortion = {name: [codebook([points], c, (d,)).distortion for c in run(points)] for name, run in RUNS.items()}
    first = next(iter(RUNS))
    rows = []
    for name in RUNS:
        ratio = [a / b for a, b in zip(distortion[name], distortion[first], strict=True)]
        rows.append(
            [
                name,
                f"{seconds[name]:.3f}",
                f"{seconds[name] / seconds[first]:.2f}",
                *(f"{value:.1f}" for value in distortion[name]),
                " ".join(f"{r:.4f}" for r in ratio),
            ]
        )
    head = ["quantizer", "s", "s / first", *(f"distortion {k}" for k in IPCS), "distortion / first"]
    print_table(head, rows)


def w2() -> None:
    """DDOQ's claim (weights lower W2 by 15.7 and 16.1 % at IPC 10 and 50) on real latents."""
    for size in (64, 128):
        rows = []
        for ipc in (10, 50):
            studies = []
            for label in range(10):
                x = latents(label, size)
                studies.append(w2_study(x, quantize(x, (ipc,), kind="lloyd", seed=0, restarts=5)[0].centroids))
            means = mean_rows(studies)
            for row in means:
                pair = f"{row['centroids']}, {row['weights']} weights"
                change = f"{100 * (row['w2'] / means[0]['w2'] - 1):+.1f} %"
                rows.append([str(ipc), pair, f"{row['w2']:.2f}", change, f"{row['ess']:.2f}"])
        print(f"W2 to the class's latents, {size} px, mean of 10 classes of 400, exact optimal transport")
        print_table(["IPC", "centroids, weights", "W2", "against D4M as shipped", "ESS/K"], rows)


def main() -> None:
    print(machine(), end="\n\n")
    compare("Imagenette 128 px, one class", latents(0, 128))
    pooled = torch.cat([latents(label, 128) for label in range(4)])[:1300]
    compare("Imagenette 128 px, 1,300 images of four classes as one", pooled)
    both = torch.cat([latents(0, 128), latents(0, 128, flip=True)], dim=1)
    compare("Imagenette 128 px, image and mirror image side by side", both)
    w2()


if __name__ == "__main__":
    main()
