"""A training on Ray Train: one group of workers, restarted from its last checkpoint when one dies."""

from __future__ import annotations

import logging
import time
from concurrent.futures import wait
from dataclasses import dataclass, replace
from typing import Any

import ray
import ray.train
import torch
from ray.train.torch import TorchConfig, TorchTrainer, get_device
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raycond.core import files
from raycond.core.device import require_device
from raycond.core.errors import RaycondError
from raycond.core.progress import TrainingProgress
from raycond.runtime.background import in_thread
from raycond.runtime.job import TrainingJob
from raycond.runtime.resources import Resources

MAX_RESTARTS = 10  # of the group after a worker died; Ray counts nodes that it knows to be preempted apart
POLL_SECONDS = 0.5
log = logging.getLogger(__name__)


def train(job: TrainingJob, resources: Resources, *, workers: int, stage: str) -> None:
    """Train with DDP, over gloo on CPUs and over nccl on GPUs. resources: of one worker, settled.

    Raises RaycondError with what went wrong if workers die too often or the loss is not finite.
    """
    files.delete_folder(job.scratch)
    on_gpu = bool(resources.gpus)
    board = ray.remote(_Board).options(num_cpus=0, scheduling_strategy=_here()).remote()
    trainer = TorchTrainer(
        _work,
        train_loop_config={"job": job, "board": board},
        torch_config=TorchConfig(backend="nccl" if on_gpu else "gloo"),
        scaling_config=ray.train.ScalingConfig(
            num_workers=workers,
            use_gpu=on_gpu,
            resources_per_worker={"CPU": resources.cpus, **({"GPU": 1} if on_gpu else {})},
        ),
        run_config=ray.train.RunConfig(
            name=time.strftime("%Y%m%d-%H%M%S"),  # Ray Train would take up a run of the same name
            storage_path=job.scratch,
            failure_config=ray.train.FailureConfig(max_failures=MAX_RESTARTS),
            callbacks=[_Callback(board)],  # type: ignore[list-item]
        ),
    )
    try:
        _watch(trainer, TrainingProgress(job.total, stage=stage), board)
    finally:
        files.delete_folder(job.scratch)


def _watch(trainer: TorchTrainer, progress: TrainingProgress, board: Any) -> None:
    """Fit, while showing what the board says.

    In a thread of its own, because `fit` in the main thread takes Ctrl-C over, and keeps it.
    """
    fitted = in_thread(trainer.fit)
    restarts, begun = 0, False
    with progress:
        while True:
            waiting = wait([fitted], POLL_SECONDS).not_done
            news: _News = ray.get(board.read.remote())
            if news.restarts > restarts:
                restarts = news.restarts
                progress.say(f"a worker died; restart {restarts} goes on from the last checkpoint")
            if news.began is not None and not begun:  # after a restart it tells of another step
                begun = True
                progress.begin(news.began)
            if news.step:
                progress.show(news.step, news.loss)
            if not waiting:
                break
    if news.problem:
        raise RaycondError(news.problem)
    try:
        fitted.result()
    except ray.train.TrainingFailedError as error:
        log.error("training failed", exc_info=error)
        raise RaycondError(
            f"training failed, {news.restarts} restarts included; the same command goes on from the last "
            f"checkpoint. Cause: {_cause(error)}"
        ) from error


def _here() -> NodeAffinitySchedulingStrategy:
    """The node of the driver: without it there is nobody to read the board."""
    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


def _cause(error: BaseException) -> str:
    return str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__


def _work(config: dict[str, Any]) -> None:
    """The training loop of one worker."""
    job: TrainingJob = config["job"]
    context, board = ray.train.get_context(), config["board"]
    device = get_device()
    require_device(device.type)
    torch.set_num_threads(job.threads)
    training = job.start(device, context.get_world_rank(), context.get_world_size())
    _require_same_step(training.step, device)
    if context.get_world_rank() == 0:
        board.began.remote(training.step)
    problem = ""
    try:
        for step in job.steps(training):
            # past Ray Train, whose reports wait until its controller looks for them, which is every other second
            if context.get_world_rank() == 0:
                board.reached.remote(step, training.loss)
    except RaycondError as error:
        # the same in every worker, and again at every restart: an exception would have Ray try all of them
        problem = str(error)
    ray.train.report({"step": training.step, "loss": training.loss, "problem": problem})


def _require_same_step(step: int, device: torch.device) -> None:
    """Raises RuntimeError, for Ray Train to try again, where a network filesystem showed this worker an old state."""
    first = torch.tensor(step, device=device)
    torch.distributed.broadcast(first, 0)
    if int(first) != step:
        raise RuntimeError(f"the first worker goes on from step {int(first)}, and this one read the state of {step}")


@dataclass(frozen=True)
class _News:
    """How far a training is. began: the step that its workers went on from. problem: what restarts would not mend."""

    began: int | None = None
    step: int = 0
    loss: float = 0.0
    restarts: int = 0
    problem: str = ""


class _Board:
    """Where a job's first worker and its controller write how far it is, for the driver to read."""

    def __init__(self) -> None:
        self.news = _News()

    def began(self, step: int) -> None:
        self.news = replace(self.news, began=step)

    def reached(self, step: int, loss: float) -> None:
        self.news = replace(self.news, step=step, loss=loss)

    def ended(self, metrics: dict[str, Any]) -> None:
        self.news = replace(self.news, **metrics)

    def restarted(self) -> None:
        self.news = replace(self.news, restarts=self.news.restarts + 1)

    def read(self) -> _News:
        return self.news


class _Callback(ray.train.UserCallback):
    """Runs in the controller."""

    def __init__(self, board: Any) -> None:
        self.board = board

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        ray.get(self.board.ended.remote(metrics[0]))  # before `fit` can return to a driver that reads the board

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        self.board.restarted.remote()
