"""A pool of actors that Ray Data feeds: each makes its worker once and is handed jobs, as texts."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import threading
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import ray
import ray.data

from raycond.core.errors import RaycondError, UserError
from raycond.core.log import carry
from raycond.runtime.resources import Resources
from raycond.runtime.runner import PoolWorker


class PoolActor:
    """One process of the pool.

    An actor that cannot work at all says so in its rows: Ray would start it again, time after time.
    """

    def __init__(self, make_worker: Callable[[str], PoolWorker], device: str) -> None:
        self.worker: PoolWorker | None = None
        self.problem = ""
        try:
            self.worker = make_worker(device)
        except RaycondError as error:
            self.problem = f"worker on {platform.node()}: {error}"

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[str]]:
        jobs = [str(text) for text in batch["job"]]
        if self.worker is None:
            return {"result": [""] * len(jobs), "problem": [self.problem] * len(jobs)}
        return {"result": self.worker.run(jobs), "problem": [""] * len(jobs)}


def run_pool(
    make_worker: Callable[[str], PoolWorker],
    jobs: Sequence[str],
    resources: Resources,
    *,
    device: str,
    workers: int,
    batch: int,
) -> Iterator[str]:
    """The results of all jobs, in the order of completion. Raises UserError if a worker cannot be made."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_no_progress_timeout_s = -1  # a class, or a wait for spot GPUs, may well take half an hour
    context.actor_init_retry_on_errors = True  # a node that dies while its actor starts is not the job's failure
    context.actor_init_max_retries = 3
    blocks = -(-len(jobs) // batch)
    dataset = ray.data.from_items([{"job": job} for job in jobs], override_num_blocks=blocks).map_batches(
        PoolActor,
        batch_size=batch,
        compute=ray.data.ActorPoolStrategy(size=min(workers, blocks), max_tasks_in_flight_per_actor=2),
        num_cpus=resources.cpus,
        num_gpus=resources.gpus or None,
        fn_constructor_kwargs={"make_worker": make_worker, "device": device},
    )
    carry("ray", "ray.data")
    with _without_line(b"issues/53727"):
        for row in dataset.iter_rows():
            if row["problem"]:
                raise UserError(row["problem"])
            yield row["result"]


@contextlib.contextmanager
def _without_line(known: bytes) -> Iterator[None]:
    """Keep lines that contain `known` off stderr, and pass on all else as it comes.

    At every start of an actor pool Ray's C++ core prints an error about the pool's constructor arguments, though
    nothing is wrong (ray issue 53727). It writes to the descriptor itself, past Python's logging.
    """
    sys.stderr.flush()
    shown = os.dup(2)
    reader, writer = os.pipe()
    os.dup2(writer, 2)
    os.close(writer)

    def forward() -> None:
        while chunk := os.read(reader, 1 << 16):
            if known in chunk:
                chunk = b"".join(line for line in chunk.splitlines(keepends=True) if known not in line)
            os.write(shown, chunk)

    thread = threading.Thread(target=forward, daemon=True)
    thread.start()
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(shown, 2)  # closes the last writer, which ends the thread
        thread.join(timeout=5)
        os.close(reader)
        os.close(shown)
