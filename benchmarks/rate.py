"""W2 and accuracy against the number of images per class, log-log, from a run with many of them.

python pipelines/imagenet_quantize.py --preset digits --ipc 1 2 5 10 20 50 100 --out runs/rate
python -m benchmarks.rate runs/rate [--figure FILE.png]

The line is DDOQ's Corollary 1 (arXiv 2501.07681): W2 = O(K^(−1/d)), d numbers a latent. The slope is fitted by least
squares to log W2; 1/slope is the dimension that the data would have if the rate held as an equality.
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from pathlib import Path

import numpy as np

from benchmarks.common import print_table
from raycond.evaluate.method_names import kind_of
from raycond.evaluate.table import Row, read
from raycond.sets.manifest import read_manifest
from raycond.sets.reader import open_set

LOOKS = {"random": "0.6", "medoid": "#2a9d8f", "uniform": "#e09f3e", "weighted": "#3a6fd8"}


def distances(path: str) -> tuple[dict[int, float], int]:
    """IPC → W2 of the data to the weighted centroids (root of the mean squared distance); numbers in a latent."""
    manifest = read_manifest(path)
    found = {ipc: math.sqrt(np.mean(manifest.content["cells"][f"ipc{ipc}"]["distortion"])) for ipc in manifest.ipcs}
    return found, math.prod(open_set(path, manifest.ipcs[0]).latents().shape[1:])


def shown(values: list[float]) -> str:
    if len(values) < 2:
        return f"{values[0]:.1f}" if values else ""
    return f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}"


def slope(found: dict[int, float]) -> float:
    """Of log W2 over log K."""
    return float(np.polyfit(np.log(list(found)), np.log(list(found.values())), 1)[0])


def accuracies(rows: list[Row]) -> dict[str, dict[int, list[float]]]:
    """Method → IPC → top-1 of each seed."""
    found: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row.ipc is not None:
            found[row.method][row.ipc].append(row.top1)
    return found


def draw(found: dict[int, float], size: int, accuracy: dict[str, dict[int, list[float]]], file: str) -> None:
    import matplotlib

    matplotlib.use("svg" if file.endswith(".svg") else "agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    counts = np.array(list(found))
    first = next(iter(found.values()))
    left.loglog(
        counts, list(found.values()), "o-", color=LOOKS["weighted"], label=f"measured, slope {slope(found):.3f}"
    )
    left.loglog(counts, first * (counts / counts[0]) ** (-1 / size), "--", color="0.4", label=f"K^(-1/d), d = {size:,}")
    left.set(xlabel="images per class (K)", ylabel="W2 to the latents", title="distance")
    for method, by_ipc in accuracy.items():
        errors = [100 - np.mean(v) for v in by_ipc.values()]
        spread = [np.std(v, ddof=1) if len(v) > 1 else 0 for v in by_ipc.values()]
        right.errorbar(
            list(by_ipc), errors, spread, marker="o", color=LOOKS.get(kind_of(method)), label=method, capsize=2
        )
    right.set(xscale="log", yscale="log", xlabel="images per class (K)", ylabel="top-1 error, %", title="error")
    for axis in (left, right):
        axis.grid(alpha=0.25, which="both")
        axis.legend(frameon=False)
    figure.savefig(file, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="folder of a run of imagenet_quantize.py with several --ipc")
    parser.add_argument("--figure", help="also draw it here (.png or .svg)")
    args = parser.parse_args()
    found, size = distances(f"{args.run}/set")
    results = Path(args.run) / "results.csv"
    accuracy = accuracies(read(str(results))) if results.exists() else {}
    least, first = next(iter(found.items()))
    methods = list(accuracy)
    rows = []
    for ipc, distance in found.items():
        cells = [accuracy[m].get(ipc, []) for m in methods]
        told = [shown(v) for v in cells]
        bound = f"{first * (ipc / least) ** (-1 / size):.3f}"
        rows.append([str(ipc), f"{distance:.3f}", bound, f"{distance / first:.3f}", *told])
    print_table(["K", "W2", f"K^(-1/{size:,})", f"of K = {least}", *methods], rows)
    rate = slope(found)
    print(f"slope {rate:.3f}: as a rate, of {-1 / rate:.1f} dimensions; the latents have {size:,}")
    if args.figure:
        draw(found, size, accuracy, args.figure)


if __name__ == "__main__":
    main()
