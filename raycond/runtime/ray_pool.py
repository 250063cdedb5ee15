"""A pool of actors that Ray Data feeds: each makes its worker once and is handed jobs, as texts."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import ray
import ray.data
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raycond.core.errors import RaycondError, UserError
from raycond.core.log import carry
from raycond.runtime.resources import Resources
from raycond.runtime.runner import PoolWorker

MAX_DEATHS = 3  # of the workers that had begun a job, before it is given up
DIED = f"its worker died {MAX_DEATHS} times, probably for want of memory: lower --batch or --max-pixels"


class _Ledger:
    """Counts, outside the workers, what they begin: a worker that is killed cannot say what killed it."""

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.starts = 0  # of workers since a job was last finished
        self.open: set[int] = set()
        self.deaths: Counter[int] = Counter()

    def starting(self) -> bool:
        """A worker is about to be made; whether to try, after so many that finished nothing."""
        self.starts += 1
        return self.starts <= self.patience

    def begin(self, numbers: list[int]) -> list[int]:
        """For each of these jobs, how many workers have died over it. One that is begun again was not finished."""
        self.deaths.update(self.open.intersection(numbers))
        self.open.update(numbers)
        return [self.deaths[number] for number in numbers]

    def leave(self, numbers: list[int], finished: bool) -> None:
        """Nobody works on these jobs now."""
        self.open.difference_update(numbers)
        if finished:
            self.starts = 0


class PoolActor:
    """One process of the pool.

    A worker that cannot be made at all, and a job that kills its worker time after time, are told in rows: Ray itself
    would start them again for ever.
    """

    def __init__(self, make_worker: Callable[[str], PoolWorker], device: str, ledger: Any) -> None:
        self.worker: PoolWorker | None = None
        self.ledger, self.problem = ledger, ""
        if not ray.get(ledger.starting.remote()):
            self.problem = (
                f"worker on {platform.node()}: one worker after another died before it had finished anything, probably "
                "for want of memory: lower --batch or the number of workers, or take a machine with more"
            )
            return
        try:
            self.worker = make_worker(device)
        except RaycondError as error:
            self.problem = f"worker on {platform.node()}: {error}"

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[Any]]:
        numbers, jobs = [int(number) for number in batch["number"]], [str(text) for text in batch["job"]]
        outcomes = [("", "")] * len(jobs) if self.worker is None else self._outcomes(self.worker, numbers, jobs)
        results, failures = zip(*outcomes, strict=True)
        return {
            "number": numbers,
            "result": list(results),
            "failure": list(failures),
            "problem": [self.problem] * len(jobs),
        }

    def _outcomes(self, worker: PoolWorker, numbers: list[int], jobs: list[str]) -> list[tuple[str, str]]:
        """(result, "") or ("", failure) of each job."""
        if not any(ray.get(self.ledger.begin.remote(numbers))):
            results = worker.run(jobs)
            ray.get(self.ledger.leave.remote(numbers, True))
            return [(result, "") for result in results]
        # a worker has died over this batch: one by one, so that only the job that does it is given up
        ray.get(self.ledger.leave.remote(numbers, False))
        outcomes = []
        for number, job in zip(numbers, jobs, strict=True):
            (deaths,) = ray.get(self.ledger.begin.remote([number]))
            given_up = deaths >= MAX_DEATHS
            outcomes.append(("", DIED) if given_up else (worker.run([job])[0], ""))
            ray.get(self.ledger.leave.remote([number], not given_up))
        return outcomes


def run_pool(
    make_worker: Callable[[str], PoolWorker],
    jobs: Sequence[str],
    resources: Resources,
    *,
    device: str,
    workers: int,
    batch: int,
) -> Iterator[tuple[int, str | RaycondError]]:
    """(position, result) of all jobs, in the order of completion; a job that kills every worker gives an error.

    Raises UserError if a worker cannot be made.
    """
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_no_progress_timeout_s = -1  # a class, or a wait for spot GPUs, may well take half an hour
    context.actor_init_retry_on_errors = True  # a node that dies while its actor starts is not the job's failure
    context.actor_init_max_retries = 3
    blocks = -(-len(jobs) // batch)
    actors = min(workers, blocks)
    # on the driver's node: a worker's node may be lost, and the counts with it; without the driver there is no run
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    ledger = ray.remote(_Ledger).options(num_cpus=0, scheduling_strategy=here).remote(actors + 2 * MAX_DEATHS)
    rows = [{"number": number, "job": job} for number, job in enumerate(jobs)]
    dataset = ray.data.from_items(rows, override_num_blocks=blocks).map_batches(
        PoolActor,
        batch_size=batch,
        # one task at a time, so that no job waits behind a long one while another actor is idle
        compute=ray.data.ActorPoolStrategy(size=actors, max_tasks_in_flight_per_actor=1),
        num_cpus=resources.cpus,
        num_gpus=resources.gpus or None,
        fn_constructor_kwargs={"make_worker": make_worker, "device": device, "ledger": ledger},
    )
    carry("ray", "ray.data")
    with _without_line(b"issues/53727"):
        for row in dataset.iter_rows():
            if row["problem"]:
                raise UserError(row["problem"])
            yield row["number"], RaycondError(row["failure"]) if row["failure"] else row["result"]


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
