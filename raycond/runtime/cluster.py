"""The Ray runner: Ray Data carries class jobs to a pool of class actors; plain tasks carry evaluation cells."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import ray

from raycond.config import QuantizeConfig
from raycond.errors import UserError
from raycond.runtime.units import Job, Result, WorkerSpec
from raycond.runtime.worker import ClassWorker


class ClassActor:
    """One process of the pool: a class worker that keeps its codec loaded. Gets job records, returns result records."""

    def __init__(self, spec: WorkerSpec, device: str) -> None:
        self.worker = ClassWorker(spec, device)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[str]]:
        jobs = [_job(text) for text in batch["job"]]
        return {"result": [json.dumps(result._asdict()) for result in self.worker.run(jobs)]}


def _job(text: str) -> Job:
    job = Job(**json.loads(text))
    return job._replace(quantize={int(ipc): expected for ipc, expected in job.quantize.items()})


def _result(text: str) -> Result:
    result = Result(**json.loads(text))
    return result._replace(facts={int(ipc): facts for ipc, facts in result.facts.items()})


class RayRunner:
    """Runs on the cluster that RAY_ADDRESS or this machine's running Ray names, else starts Ray here.

    Raises UserError if the resources that an actor asks for are nowhere in the cluster and it cannot grow.
    """

    def __init__(self, config: QuantizeConfig) -> None:
        self.config = config
        self.started = not ray.is_initialized()
        if self.started:
            _connect(config)
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        self.cpus, self.gpus = (int(sum(node.get(kind, 0) for node in nodes)) for kind in ("CPU", "GPU"))
        self.gpus_per_actor = config.gpus_per_actor if config.gpus_per_actor >= 0 else float(self.gpus >= 1)
        fitting = sum(self._fitting(node) for node in nodes)
        self.actors = config.actors or fitting
        if not fitting:
            self._none_fits(config)

    def _fitting(self, node: dict[str, float]) -> int:
        """How many actors one node holds."""
        by_cpu = int(node.get("CPU", 0) // self.config.cpus_per_actor)
        return min(by_cpu, int(node.get("GPU", 0) / self.gpus_per_actor)) if self.gpus_per_actor else by_cpu

    def _none_fits(self, config: QuantizeConfig) -> None:
        text = (
            f"one actor asks for {config.cpus_per_actor} CPUs and {self.gpus_per_actor:g} GPUs, and no node of the "
            f"cluster ({self.cpus} CPUs, {self.gpus} GPUs in all) has them"
        )
        if not config.actors:
            raise UserError(f"{text}: lower --cpus-per-actor or --gpus-per-actor, or give --actors N if it will grow")
        print(f"{text} yet; waiting for it to grow", file=sys.stderr)

    def classes(self, spec: WorkerSpec, jobs: Sequence[Job]) -> Iterator[Result]:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        context.execution_no_progress_timeout_s = -1  # a class, or a wait for spot GPUs, may well take half an hour
        context.actor_init_retry_on_errors = True  # a node that dies while its actor starts is not the job's failure
        context.actor_init_max_retries = 3
        step = self.config.classes_at_once
        rows = [{"job": json.dumps(job._asdict())} for job in jobs]
        dataset = ray.data.from_items(rows, override_num_blocks=max(1, -(-len(rows) // step))).map_batches(
            ClassActor,
            batch_size=step,
            compute=ray.data.ActorPoolStrategy(
                size=min(self.actors, -(-len(rows) // step)), max_tasks_in_flight_per_actor=2
            ),
            num_cpus=self.config.cpus_per_actor,
            num_gpus=self.gpus_per_actor or None,
            fn_constructor_kwargs={"spec": spec, "device": "cuda" if self.gpus_per_actor else "cpu"},
        )
        for row in dataset.iter_rows():
            yield _result(row["result"])

    def tasks(self, function: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """Plain tasks with a bounded window, so that a long list does not sit in the scheduler."""
        remote = ray.remote(num_cpus=1, num_gpus=self.gpus_per_actor, max_retries=3)(function)
        slots = max(1, int(self.gpus / self.gpus_per_actor) if self.gpus_per_actor else self.cpus)
        waiting = list(enumerate(items))[::-1]
        running: dict[Any, int] = {}
        while waiting or running:
            while waiting and len(running) < slots + slots // 2 + 1:
                position, item = waiting.pop()
                running[remote.remote(item)] = position
            (done,), _ = ray.wait(list(running), num_returns=1)
            position = running.pop(done)
            try:
                yield position, ray.get(done)
            except Exception as error:
                yield position, error.cause if isinstance(error, ray.exceptions.RayTaskError) else error

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


def _connect(config: QuantizeConfig) -> None:
    # Ray prints an error about constructor arguments at every start of an actor pool, though nothing is wrong (#53727)
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    for chatty in ("execution.streaming_executor", "progress"):  # our own progress lines say as much
        logging.getLogger(f"ray.data._internal.{chatty}").setLevel(logging.ERROR)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "WARNING"}
    try:
        ray.init(address=os.environ.get("RAY_ADDRESS") or "auto", **quiet)
    except ConnectionError as error:
        if os.environ.get("RAY_ADDRESS"):
            raise UserError(
                f"RAY_ADDRESS={os.environ['RAY_ADDRESS']}: no Ray cluster answers there: {error}"
            ) from error
        ray.init(address="local", include_dashboard=config.dashboard, dashboard_host="127.0.0.1", **quiet)
