"""What an evaluation grid costs beside its trainings: their seconds over those of all workers, on Ray and without it.

python -m benchmarks.grid [--seconds 20] [--seeds 4]

Three methods × seeds, one student, on a set made on the spot: scikit-learn's digits at 32 pixels. A short run with
every core at work sets the number of steps, so that one training takes the seconds asked for.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import torch

from benchmarks.common import machine, print_table
from raycond.data.labelled import LabelledImages
from raycond.evaluate.protocol import recipe
from raycond.evaluate.table import Check, Row
from raycond.evaluate.train import train_and_test
from raycond.pipelines.evaluate.config import load_grid_config
from raycond.pipelines.evaluate.run import evaluate_grid
from raycond.pipelines.evaluate.summary import GridRun
from raycond.pipelines.quantize.config import load_config
from raycond.pipelines.quantize.run import quantize

DATA, SIZE, IPC, STUDENT, PROTOCOL = "digits:", 32, 10, "convnet3-w32", "quick"
PROBE = 40  # steps of the short run


@dataclass(frozen=True)
class Timeline:
    """One call: its wall-clock seconds, and where those before, between and after the trainings went."""

    run: GridRun
    wall: float
    before: float  # from the call to the start of the first training
    after: float  # from the end of the last training to the end of the call
    workers: int

    @property
    def trained(self) -> float:
        return sum(row.seconds for row in self.run.rows)

    @property
    def idle(self) -> float:
        """Seconds that workers waited between the first training's start and the last one's end, all together."""
        return self.workers * (self.wall - self.before - self.after) - self.trained

    def share(self, seconds: float) -> str:
        return f"{self.trained / (seconds * self.workers):.3f}"


def make_set(out: str) -> str:
    config = load_config(
        {"data": DATA, "val": DATA, "codec": "pixels:1", "size": SIZE, "ipc": [IPC], "weights": "uniform", "out": out}
        | {"generator": "medoid", "evaluate": False, "runner": "local", "restarts": 1, "w2_classes": 0}
    )
    run = quantize(config)
    if run.failures:
        raise SystemExit(str(run.failures))
    return run.layout.condensed


def steps_for(seconds: float, workers: int) -> int:
    """Steps of one training that takes `seconds` while as many others run as there are workers."""
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        paces = list(pool.map(pace, range(workers)))
    return max(8, round(seconds * len(paces) / sum(paces)))


def pace(seed: int) -> float:
    """Seconds per step on random pixels, one thread; the first quarter of the steps warms up."""
    pixels = torch.randint(0, 256, (10 * IPC, 1, SIZE, SIZE), dtype=torch.uint8)
    data = LabelledImages(pixels, torch.arange(10 * IPC) % 10, 10)
    protocol = recipe(PROTOCOL).override(steps=PROBE, checks=4).resolve(ipc=IPC, classes=10, student=STUDENT)
    times: list[float] = []

    def note(_: Check) -> None:
        times.append(time.perf_counter())

    train_and_test(data, data, student=STUDENT, protocol=protocol, seed=seed, device="cpu", threads=1, report=note)
    return (times[-1] - times[0]) / (PROBE - PROBE // 4)


def measure(made: str, out: str, runner: str, seeds: Sequence[int], steps: int) -> Timeline:
    config = load_grid_config(
        {"sets": [made], "out": out, "data": DATA, "val": DATA, "students": [STUDENT], "ipc": [IPC], "seeds": seeds}
        | {"weights": ["uniform"], "baselines": ["random"], "protocol": PROTOCOL, "changes": {"steps": steps}}
        | {"runner": runner, "dashboard": False}
    )
    asked, started = time.time(), time.perf_counter()
    run = evaluate_grid(config)
    wall = time.perf_counter() - started
    if run.failures or len(run.rows) != 3 * len(seeds):
        raise SystemExit(f"{runner}: {len(run.rows)} of {3 * len(seeds)} trainings, {run.failures}")
    spans = [training(path) for path in (Path(out) / "work" / "cells").glob("*.done.json")]
    before = min(start for start, _ in spans) - asked
    after = asked + wall - max(end for _, end in spans)
    return Timeline(run, wall, before, after, int(run.machine.get("cpus", 1)))


def training(record: Path) -> tuple[float, float]:
    """When a training began and ended, by the record that it writes as it ends."""
    end = record.stat().st_mtime
    return end - json.loads(record.read_text())["facts"]["row"]["seconds"], end


def accuracies(run: GridRun) -> dict[tuple[str, int], tuple[float, tuple[Check, ...]]]:
    def key(row: Row) -> tuple[str, int]:
        return row.method, row.seed

    return {key(row): (row.top1, row.curve) for row in run.rows}


def line(name: str, found: Timeline) -> list[str]:
    seconds, count = found.run.seconds, len(found.run.rows)
    return [
        f"{name}, {found.workers} worker{'s' if found.workers > 1 else ''}",
        f"{found.trained / count:.1f}",
        f"{found.wall:.1f}",
        found.share(found.wall),
        f"{seconds['train']:.1f}",
        found.share(seconds["train"]),
        f"{found.before:.1f}",
        f"{found.idle / count:.2f}",
        f"{found.after:.1f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20, help="of one training")
    parser.add_argument("--seeds", type=int, default=4, help="three trainings each")
    parser.add_argument("--no-local", action="store_true", help="leave out the same grid without Ray")
    options = parser.parse_args()
    os.environ.setdefault("RAY_ADDRESS", "local")
    print(machine())
    cores = os.cpu_count() or 1
    steps = steps_for(options.seconds, cores)
    seeds = list(range(options.seeds))
    print(f"{3 * len(seeds)} trainings of {steps} steps: {STUDENT}, digits at {SIZE} px, IPC {IPC}, {PROTOCOL}")
    with tempfile.TemporaryDirectory() as folder:
        made = make_set(f"{folder}/run")
        on_ray = measure(made, f"{folder}/ray", "ray", seeds, steps)
        lines = [line("Ray Tune", on_ray)]
        stages = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in on_ray.run.seconds.items())
        same = ""
        if not options.no_local:
            local = measure(made, f"{folder}/local", "local", seeds, steps)
            lines.append(line("in-process", local))
            equal = accuracies(on_ray.run) == accuracies(local.run)
            same = f"accuracies and curves of all {len(on_ray.run.rows)}, on Ray and without: "
            same += "equal" if equal else "DIFFERENT"
    print(f"\non Ray: {stages}")
    head = ["", "s a training", "call s", "trained / workers' time", "train stage s", "trained / its workers' time"]
    print_table([*head, "s before the first", "idle s a training", "s after the last"], lines)
    print(same)


if __name__ == "__main__":
    main()
