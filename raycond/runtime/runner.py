"""The interface of runners: where units of work are carried out, in this process or on Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

from raycond.core.errors import RaycondError
from raycond.runtime.job import TrainingJob
from raycond.runtime.resources import Capacity, Resources
from raycond.runtime.trials import Trial, Watcher


class PoolWorker(Protocol):
    """A worker of a pool: made once in its process, then handed jobs. Jobs and results are texts (JSON)."""

    def run(self, jobs: Sequence[str]) -> list[str]:
        """One result for each job. A job that fails says so in its result and does not stop the others."""
        ...


class Runner(Protocol):
    """Carries out pools, tasks, blocks, trainings and trials. Results come in the order of completion, those of blocks
    in the order of the blocks."""

    def require(self, resources: Resources, workers: int = 0, *, may_grow: bool = False) -> None:
        """Raise UserError if no node holds one such worker; say so where fewer fit than are asked for.

        workers: how many are asked for; 0 for as many as fit. may_grow: that some are asked for means that the cluster
        will grow, so that no node need hold one yet.
        """
        ...

    def device(self, resources: Resources) -> str:
        """What a worker with these resources computes on: "cuda" or "cpu"."""
        ...

    def pool(
        self,
        make_worker: Callable[[str], PoolWorker],
        jobs: Sequence[str],
        resources: Resources,
        *,
        workers: int = 0,
        batch: int = 1,
    ) -> Iterator[tuple[int, str | RaycondError]]:
        """(position, result) of all jobs; the result is an error where the job killed one worker after another.

        make_worker: takes the device. workers: 0 for as many as fit. batch: jobs that a
        worker is given at once. Raises UserError if a worker cannot be made."""
        ...

    def tasks(
        self, function: Callable[[Any], Any], items: Sequence[Any], resources: Resources, *, fresh: bool = False
    ) -> Iterator[tuple[int, Any]]:
        """(position, result) of `function(item)`; the result is the exception if it raised one.

        fresh: every item in a process of its own, on runners that have processes.
        """
        ...

    def blocks(
        self,
        function: Callable[..., Any],
        shared: tuple[Any, ...],
        items: Iterable[Any],
        resources: Resources,
        *,
        workers: int = 0,
    ) -> Iterator[Any]:
        """`function(*shared, item)` of every item, in the order of the items, which are made as they are needed.

        function: pure; with its arguments it can be pickled. shared: what all items need, such as arrays; each node
        gets it once. workers: blocks computed at once, 0 for as many as fit. Raises what the function raises.
        """
        ...

    def train(self, job: TrainingJob, resources: Resources, *, workers: int = 1, stage: str = "train") -> None:
        """Train; afterwards the job's state is that of its last step."""
        ...

    def trials(self, trials: Sequence[Trial], watcher: Watcher, *, folder: str, at_once: int = 0) -> None:
        """Run every trial. folder: for what the runner itself leaves (TensorBoard files). at_once: 0 for as many as
        their requests allow."""
        ...

    @property
    def capacity(self) -> Capacity | None:
        """What the cluster has; None where everything runs in this process, one after another."""
        ...

    def describe(self) -> dict[str, Any]:
        """What the work ran on, for the report."""
        ...

    def close(self) -> None: ...
