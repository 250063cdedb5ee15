"""The pipeline's images per second against a bare loop (read, decode, encode, nothing else) on the same cores.

python -m benchmarks.throughput [--limit 200] [--size 128]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time

import numpy as np
import torch

from benchmarks.common import imagenette, machine, print_table, taef2
from raycond.data.images import load
from raycond.data.quarantine import Limit
from raycond.data.refs import ImageRef
from raycond.data.sources import open_source
from raycond.models.codecs.registry import open_codec
from raycond.pipelines.layout import Layout
from raycond.pipelines.quantize.condense import condense_classes
from raycond.pipelines.quantize.config import load_config
from raycond.pipelines.quantize.units import Result, WorkerSpec
from raycond.pipelines.stages.listing import class_fingerprints
from raycond.runtime.ray_runner import RayRunner

BATCH = 32


def bare_loop(refs: list[ImageRef], size: int, threads: int, ready: object, go: object) -> None:
    """What a script does: read a batch, decode it, encode it."""
    torch.set_num_threads(threads)
    codec = open_codec(taef2())
    codec.encode(torch.zeros(BATCH, 3, size, size, dtype=torch.uint8))
    ready.release()  # type: ignore[attr-defined]
    go.wait()  # type: ignore[attr-defined]
    for start in range(0, len(refs), BATCH):
        images = [load(ref, size=size, resize="crop", channels=3)[0] for ref in refs[start : start + BATCH]]
        codec.encode(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2))


def time_bare(refs: list[ImageRef], size: int, processes: int, threads: int) -> float:
    """Images per second of bare loops in parallel, from the moment that all have loaded their codec."""
    context = multiprocessing.get_context("spawn")
    ready, go = context.Semaphore(0), context.Event()
    shares = [refs[i::processes] for i in range(processes)]
    pool = [context.Process(target=bare_loop, args=(share, size, threads, ready, go)) for share in shares]
    for process in pool:
        process.start()
    for _ in pool:
        ready.acquire()
    started = time.perf_counter()
    go.set()
    for process in pool:
        process.join()
    return len(refs) / (time.perf_counter() - started)


def time_pipeline(runner: RayRunner, size: int, limit: int, out: str) -> tuple[float, float]:
    """Images per second from the first class's start to the last class's end, and the seconds before that start.

    The work is what a run does to make its codebooks: read, decode, encode, quantize at IPC 1, 10 and 50, write.
    """
    options = {"data": imagenette(), "codec": taef2(), "size": size, "limit": limit, "out": out, "w2_classes": 0}
    config = load_config(options | {"ipc": [1, 10, 50], "evaluate": False, "dashboard": False})
    source = open_source(config.data, index_dir=Layout(out).index, limit=limit)
    codec = open_codec(config.codec)
    spec = WorkerSpec(config, source, config.codec, codec.digest, codec.channels, Layout(out))
    first_start, images = [], []

    class Watch:
        def classes(self, spec: WorkerSpec, jobs: list) -> object:
            for result in runner.classes(spec, jobs):
                note(result)
                yield result

    def note(result: Result) -> None:
        first_start.append(time.perf_counter() - result.seconds)
        images.append(result.images)

    fingerprints = class_fingerprints(source)
    asked = time.perf_counter()
    outcome = condense_classes(Watch(), spec, fingerprints, [], limit=Limit())  # type: ignore[arg-type]
    ended = time.perf_counter()
    if outcome.errors:
        raise SystemExit(str(outcome.errors))
    return sum(images) / (ended - min(first_start)), min(first_start) - asked


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, default=200, help="images per class")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=2)
    args = parser.parse_args()
    cores = os.cpu_count() or 1
    print(machine())
    source = open_source(imagenette(), index_dir="", limit=args.limit)
    refs = [ref for label in range(len(source.classes)) for ref in source.refs(label)]
    bare, one, pipe, start = [], [], [], []
    for _ in range(args.repeats):
        bare.append(time_bare(refs, args.size, cores, 1))
        one.append(time_bare(refs, args.size, 1, cores))
        with tempfile.TemporaryDirectory() as out:
            began = time.perf_counter()
            runner = RayRunner(load_config({"data": "x", "evaluate": False, "dashboard": False}))
            up = time.perf_counter() - began
            try:
                rate, before = time_pipeline(runner, args.size, args.limit, out)
            finally:
                runner.close()
            pipe.append(rate)
            start.append(up + before)
    best = max(float(np.median(bare)), float(np.median(one)))
    print(f"{len(refs)} images, {args.size} px, TAEF2 float32, batches of {BATCH}, median of {args.repeats}")
    rows = [
        [f"bare loop, {cores} processes × 1 thread", f"{np.median(bare):.2f}", f"{np.median(bare) / best:.3f}"],
        [f"bare loop, 1 process × {cores} threads", f"{np.median(one):.2f}", f"{np.median(one) / best:.3f}"],
        [f"raycond on Ray, {cores} actors × 1 thread", f"{np.median(pipe):.2f}", f"{np.median(pipe) / best:.3f}"],
    ]
    print_table(["", "images/s", "against the faster loop"], rows)
    print(f"start-up apart: Ray, actors and their first import {np.median(start):.1f} s")


if __name__ == "__main__":
    main()
