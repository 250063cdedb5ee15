"""A pool of actors that Ray Data feeds: each makes its worker once and is handed jobs, as texts."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import ray
import ray.data

from raycond.core.errors import RaycondError, UserError
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
    for row in dataset.iter_rows():
        if row["problem"]:
            raise UserError(row["problem"])
        yield row["result"]
