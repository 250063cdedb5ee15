"""The Ray runner: Ray Data carries class jobs to a pool of class actors; plain tasks carry evaluation cells."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import ray

from raycond.core.errors import RaycondError, UserError
from raycond.pipelines.quantize.config import QuantizeConfig
from raycond.pipelines.quantize.units import ClassJob, Result, WorkerSpec
from raycond.pipelines.quantize.worker import ClassWorker
from raycond.runtime.connect import connect


class ClassActor:
    """One process of the pool: a class worker that keeps its codec loaded. Gets and gives JSON, one row per class.

    An actor that cannot work at all says so in its rows: Ray would start it again, time after time.
    """

    def __init__(self, spec: WorkerSpec, device: str) -> None:
        self.worker: ClassWorker | None = None
        self.problem = ""
        try:
            self.worker = ClassWorker(spec, device)
        except RaycondError as error:
            self.problem = f"worker on {platform.node()}: {error}"

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[str]]:
        jobs = [ClassJob.from_json(text) for text in batch["job"]]
        if self.worker is None:
            return {"result": [""] * len(jobs), "problem": [self.problem] * len(jobs)}
        return {"result": [result.to_json() for result in self.worker.run(jobs)], "problem": [""] * len(jobs)}


class RayRunner:
    """Runs on the cluster that RAY_ADDRESS or `ray start` on this machine names, else starts Ray here.

    Raises UserError if the resources that an actor asks for are nowhere in the cluster and it cannot grow.
    """

    def __init__(self, config: QuantizeConfig) -> None:
        self.config = config
        self.started = connect(config.dashboard)
        try:
            nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
            self.cpus, self.gpus = (int(sum(node.get(kind, 0) for node in nodes)) for kind in ("CPU", "GPU"))
            self.gpus_per_actor = config.gpus_per_actor if config.gpus_per_actor >= 0 else float(self.gpus >= 1)
            # not what torch sees: Ray shows every worker the GPUs of its machine, also one that was given none
            self.device = "cuda" if self.gpus_per_actor else "cpu"
            fitting = sum(actors_on(node, config.cpus_per_actor, self.gpus_per_actor) for node in nodes)
            self.actors = config.actors or fitting
            if not fitting:
                self._none_fits()
        except BaseException:
            self.close()
            raise

    def _none_fits(self) -> None:
        text = (
            f"one actor asks for {self.config.cpus_per_actor} CPUs and {self.gpus_per_actor:g} GPUs, and no node of "
            f"the cluster ({self.cpus} CPUs, {self.gpus} GPUs in all) has them"
        )
        if not self.config.actors:
            raise UserError(f"{text}: lower --cpus-per-actor or --gpus-per-actor, or give --actors N if it will grow")
        print(f"{text} yet; waiting for it to grow", file=sys.stderr)

    def classes(self, spec: WorkerSpec, jobs: Sequence[ClassJob]) -> Iterator[Result]:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        context.execution_no_progress_timeout_s = -1  # a class, or a wait for spot GPUs, may well take half an hour
        context.actor_init_retry_on_errors = True  # a node that dies while its actor starts is not the job's failure
        context.actor_init_max_retries = 3
        step = self.config.classes_at_once
        batches = -(-len(jobs) // step)
        rows = [{"job": job.to_json()} for job in jobs]
        dataset = ray.data.from_items(rows, override_num_blocks=batches).map_batches(
            ClassActor,
            batch_size=step,
            compute=ray.data.ActorPoolStrategy(size=min(self.actors, batches), max_tasks_in_flight_per_actor=2),
            num_cpus=self.config.cpus_per_actor,
            num_gpus=self.gpus_per_actor or None,
            fn_constructor_kwargs={"spec": spec, "device": self.device},
        )
        for row in dataset.iter_rows():
            if row["problem"]:
                raise UserError(row["problem"])
            yield Result.from_json(row["result"])

    def tasks(self, function: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """Plain tasks with a bounded window, so that a long list does not sit in the scheduler."""
        remote = ray.remote(num_cpus=1, num_gpus=self.gpus_per_actor, max_retries=3)(function)
        slots = max(1, int(self.gpus / self.gpus_per_actor) if self.gpus_per_actor else self.cpus)
        waiting = enumerate(items)
        running: dict[Any, int] = {}
        try:
            while True:
                while len(running) < slots + slots // 2 + 1 and (following := next(waiting, None)) is not None:
                    position, item = following
                    running[remote.remote(item)] = position
                if not running:
                    return
                (done,), _ = ray.wait(list(running), num_returns=1)
                yield running.pop(done), _outcome(done)
        finally:
            for reference in running:  # the caller has had enough
                ray.cancel(reference)

    def describe(self) -> dict[str, Any]:
        return {
            "runner": "ray",
            "nodes": sum(node["Alive"] for node in ray.nodes()),
            "cpus": self.cpus,
            "gpus": self.gpus,
            "actors": self.actors,
            "gpus_per_actor": self.gpus_per_actor,
            "cpus_per_actor": self.config.cpus_per_actor,
        }

    def close(self) -> None:
        if self.started:
            ray.shutdown()


def actors_on(node: Mapping[str, float], cpus: int, gpus: float) -> int:
    """How many actors that ask for `cpus` and `gpus` one node holds, by its resources."""
    by_cpu = int(node.get("CPU", 0) // cpus)
    return min(by_cpu, int(node.get("GPU", 0) / gpus + 1e-6)) if gpus else by_cpu


def _outcome(reference: Any) -> Any:
    """What a task returned, or the exception it raised there."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        return error.cause
    except ray.exceptions.RayError as error:  # its worker or node died once too often
        return error
