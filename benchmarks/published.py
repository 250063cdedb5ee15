"""Random real images under dc-bench beside the published rows: python -m benchmarks.published [--ipc 1 10].

The published rows are those of DC (arXiv 2006.05929, Table 1): ConvNet-3 of width 128, 100 trainings. DC's evaluation
augments MNIST only (dc-bench-mnist here; three times the steps). With --protocol dc-bench-dsa CIFAR-10's are 15.4 and
31.0 (DC-BENCH). Images are normalized by the constants of DC's code.
"""

from __future__ import annotations

import argparse
import os
import statistics
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

from benchmarks.common import KEEP, folder, print_table
from raycond.data.images import Decoding
from raycond.data.sources import open_source
from raycond.evaluate.cell import Cell, run_cell
from raycond.evaluate.protocol import recipe
from raycond.evaluate.table import Row
from raycond.evaluate.training_sets import RandomImages
from raycond.methods.match.published import DATASETS
from raycond.pipelines.stages.listing import source_digest
from raycond.pipelines.stages.splits import decode_split
from raycond.sets.normalization import Normalization

PUBLISHED = {
    "fashion-mnist": {1: "51.4 ± 3.8", 10: "73.8 ± 0.7", 50: "82.5 ± 0.7"},
    "mnist": {1: "64.9 ± 3.5", 10: "95.1 ± 0.9", 50: "97.9 ± 0.2"},
    "cifar10": {1: "14.4 ± 2.0", 10: "26.0 ± 1.2", 50: "43.4 ± 1.0"},
}


def cells(name: str, protocol: str, ipcs: list[int], seeds: list[int], precision: str) -> list[Cell]:
    uri, index = str(folder("RAYCOND_DATA", "data") / name), str(KEEP / "index")
    source, val = (open_source(uri, split=split, index_dir=index) for split in ("train", "val"))
    known, pixels = DATASETS[name], str(KEEP / f"{name}-val.npz")
    options = Decoding(known.size, "crop", known.channels, 10**6)
    decode_split("val", val, source_digest([val.fingerprint(k) for k in range(10)]), options, pixels)
    settings = recipe(protocol).override(precision=precision)
    cell = Cell(
        *(
            "random",
            None,
            "convnet3",
            0,
            settings.resolve(ipc=10, classes=10, student="convnet3", size=known.size),
            source.classes,
        ),
        *(options, RandomImages(source, 1, 0), pixels, "cpu"),
        normalization=Normalization(known.mean, known.std),
    )
    # the longest first
    return [
        replace(cell, ipc=ipc, seed=seed, train=RandomImages(source, ipc, seed))
        for ipc in sorted(ipcs, reverse=True)
        for seed in seeds
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", nargs="+", default=list(PUBLISHED), choices=list(PUBLISHED))
    parser.add_argument("--protocol", default="dc-bench")
    parser.add_argument("--ipc", type=int, nargs="+", default=[1, 10, 50])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    options = parser.parse_args()
    work = [
        (name, cell)
        for name in options.sets
        for cell in cells(name, options.protocol, options.ipc, options.seeds, options.precision)
    ]
    rows: dict[tuple[str, int | None], list[Row]] = {}
    with ProcessPoolExecutor(options.processes) as pool:
        for (name, cell), row in zip(work, pool.map(run_cell, [cell for _, cell in work]), strict=True):
            rows.setdefault((name, cell.ipc), []).append(row)
            print(f"{name} ipc{cell.ipc} seed{cell.seed}: {row.top1:.1f} %, {row.seconds:.0f} s", flush=True)
    lines = []
    for name, ipc in sorted(rows, key=str):
        found = [row.top1 for row in rows[name, ipc]]
        spread = f" ± {statistics.stdev(found):.1f}" if len(found) > 1 else ""
        lines.append([name, str(ipc), f"{statistics.mean(found):.1f}{spread}", PUBLISHED[name].get(ipc or 0, "")])
    print(f"random real images, convnet3, {options.protocol}, {options.precision}, seeds {options.seeds}")
    print_table(["set", "IPC", "raycond", "published"], lines)


if __name__ == "__main__":
    main()
