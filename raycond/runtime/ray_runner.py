"""The Ray runner: a pool of actors by Ray Data, plain tasks, trainings by Ray Train and trials by Ray Tune."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import ray

from raycond.core.errors import RaycondError, UserError
from raycond.runtime.connect import connect
from raycond.runtime.job import TrainingJob
from raycond.runtime.ray_blocks import run_blocks
from raycond.runtime.ray_pool import run_pool
from raycond.runtime.resources import Capacity, Resources
from raycond.runtime.runner import PoolWorker
from raycond.runtime.trials import Trial, Watcher

log = logging.getLogger(__name__)


class RayRunner:
    """Runs on the cluster that RAY_ADDRESS or `ray start` on this machine names, else on a Ray started here.

    Raises UserError if the cluster cannot be reached.
    """

    def __init__(self, dashboard: bool = True) -> None:
        self._started_here = connect(dashboard)

    @property
    def capacity(self) -> Capacity:
        nodes = self._nodes()
        cpus, gpus = (int(sum(node.get(kind, 0) for node in nodes)) for kind in ("CPU", "GPU"))
        return Capacity(cpus, gpus, int(max((node.get("memory", 0) for node in nodes), default=0)))

    def _nodes(self) -> list[dict[str, float]]:
        return [node["Resources"] for node in ray.nodes() if node["Alive"]]

    def _settled(self, resources: Resources) -> Resources:
        """With a number of GPUs in place of "one where there are GPUs"."""
        if resources.gpus >= 0:
            return resources
        return replace(resources, gpus=float(self.capacity.gpus >= 1))

    def device(self, resources: Resources) -> str:
        # not what torch sees: Ray shows every worker the GPUs of its machine, also one that was given none
        return "cuda" if self._settled(resources).gpus else "cpu"

    def require(self, resources: Resources, workers: int = 0, *, may_grow: bool = False) -> None:
        settled, capacity = self._settled(resources), self.capacity
        fitting = sum(settled.fits_on(node) for node in self._nodes())
        asked = f"{settled.cpus} CPUs and {settled.gpus:g} GPUs"
        has = f"{capacity.cpus} CPUs, {capacity.gpus} GPUs in all"
        if not fitting:
            text = f"one {settled.unit} asks for {asked}, and no node of the cluster ({has}) has them"
            if not (may_grow and workers):
                growth = f", or give --{settled.unit}s N if the cluster will grow" if may_grow else ""
                raise UserError(f"{text}: lower --cpus-per-{settled.unit} or --gpus-per-{settled.unit}{growth}")
            print(f"{text} yet; waiting for it to grow", file=sys.stderr)
        elif fitting < workers:
            text = f"{workers} {settled.unit}s with {asked} each: {fitting} fit"
            print(f"{text}; waiting for the cluster to grow", file=sys.stderr)

    def pool(
        self,
        make_worker: Callable[[str], PoolWorker],
        jobs: Sequence[str],
        resources: Resources,
        *,
        workers: int = 0,
        batch: int = 1,
    ) -> Iterator[tuple[int, str | RaycondError]]:
        settled = self._settled(resources)
        count = workers or self._slots(settled)
        return run_pool(make_worker, jobs, settled, device=self.device(settled), workers=count, batch=batch)

    def tasks(
        self, function: Callable[[Any], Any], items: Sequence[Any], resources: Resources, *, fresh: bool = False
    ) -> Iterator[tuple[int, Any]]:
        """Plain tasks with a bounded window, so that a long list does not sit in the scheduler."""
        settled = self._settled(resources)
        options: dict[str, Any] = {"num_cpus": settled.cpus, "num_gpus": settled.gpus, "max_retries": 3}
        if fresh:
            options["max_calls"] = 1
        remote = ray.remote(**options)(function)
        slots = self._slots(settled)
        waiting = enumerate(items)
        running: dict[Any, int] = {}
        try:
            while True:
                while len(running) < _ahead_of(slots) and (following := next(waiting, None)) is not None:
                    position, item = following
                    running[remote.remote(item)] = position
                if not running:
                    return
                (done,), _ = ray.wait(list(running), num_returns=1)
                yield running.pop(done), _outcome(done)
        finally:
            for reference in running:  # the caller has had enough
                ray.cancel(reference)

    def blocks(
        self,
        function: Callable[..., Any],
        shared: tuple[Any, ...],
        items: Iterable[Any],
        resources: Resources,
        *,
        workers: int = 0,
    ) -> Iterator[Any]:
        settled = self._settled(resources)
        slots = self._slots(settled)
        at_once = workers if 0 < workers < slots else _ahead_of(slots)
        return run_blocks(function, shared, items, settled, at_once=at_once)

    def _slots(self, settled: Resources) -> int:
        """How many such workers the cluster holds."""
        return max(1, sum(settled.fits_on(node) for node in self._nodes()))

    def train(self, job: TrainingJob, resources: Resources, *, workers: int = 1, stage: str = "train") -> None:
        """Raises RaycondError with what went wrong if workers die too often or the loss is not finite."""
        from raycond.runtime.ray_train import train

        train(job, self._settled(resources), workers=workers, stage=stage)

    def trials(self, trials: Sequence[Trial], watcher: Watcher, *, folder: str, at_once: int = 0) -> None:
        from raycond.runtime.ray_tune import run_trials

        run_trials(trials, watcher, folder=folder, at_once=at_once)

    def describe(self) -> dict[str, Any]:
        capacity = self.capacity
        nodes = sum(node["Alive"] for node in ray.nodes())
        return {"runner": "ray", "nodes": nodes, "cpus": capacity.cpus, "gpus": capacity.gpus}

    def close(self) -> None:
        if self._started_here:
            ray.shutdown()


def _ahead_of(slots: int) -> int:
    """Tasks in the hands of Ray, so that a worker that has finished one finds the next there."""
    return slots + slots // 2 + 1


def _outcome(reference: Any) -> Any:
    """What a task returned, or the exception it raised there."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        log.debug("a task failed:\n%s", error)  # with the traceback of the worker, which its cause does not have
        return error.cause
    except ray.exceptions.RayError as error:  # its worker or node died once too often
        return error
