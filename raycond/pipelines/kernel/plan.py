"""What a run will take, before anything is computed: memory of every block and of the solver, kernel entries, hours."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from raycond.core.device import memory_bytes
from raycond.core.errors import UserError
from raycond.methods.kernels.plan import Plan, Work, measured_rate, plan
from raycond.pipelines.kernel.config import KernelConfig
from raycond.pipelines.kernel.supports import kept_steps
from raycond.runtime.runner import Runner

USABLE = 0.8  # of a machine's memory; the rest is the system's and Ray's
COPIES = 3  # of preprocessed images while they are made: float64, and two in the format of the kernels
MATRICES = 5  # (pixels, pixels) float64 while a whitening is fitted


@dataclass(frozen=True)
class Machine:
    """What the work runs on. memory: bytes for one worker; solver: for the process that assembles and solves."""

    memory: int
    solver: int
    workers: int


@dataclass(frozen=True)
class Needs:
    """Of a whole run. plans: of each number of images per class."""

    plans: dict[int, Plan]
    image_bytes: int
    """Of the images that the driver holds in memory."""

    rate: float
    """Kernel entries per second of one worker, as measured here."""

    workers: int

    @property
    def hours(self) -> float:
        return sum(one.hours or 0.0 for one in self.plans.values())

    def lines(self) -> list[str]:
        """For `--dry-run` and for the log."""
        first = next(iter(self.plans.values()))
        lines = [
            f"blocks    {first.block}×{first.block} image pairs, {_gb(first.block_bytes)} a worker, "
            f"{self.workers} at once, {self.rate:,.0f} entries/s each",
            f"images    {_gb(self.image_bytes)} in this process",
        ]
        for ipc, one in self.plans.items():
            lines.append(
                f"ipc{ipc:<6} {one.blocks_per_step:,} blocks a step, {_gb(one.solver_bytes)} to solve, "
                f"{one.entries:.3g} kernel entries, {_duration(one.hours or 0.0)}"
            )
        return [*lines, f"time      {_duration(self.hours)} for the kernels"]


def machine_of(config: KernelConfig, runner: Runner | None = None) -> Machine:
    """Of the runner's cluster, or of this machine where there is none, or no runner yet."""
    here = int(USABLE * memory_bytes())
    capacity = None if runner is None else runner.capacity
    if runner is None or capacity is None:
        slots, nodes, per_node = (os.cpu_count() or 1) // config.cpus_per_worker, 1, here
    else:
        on_gpus = runner.device(config.resources) == "cuda"
        slots = capacity.gpus if on_gpus else capacity.cpus // config.cpus_per_worker
        nodes, per_node = int(runner.describe()["nodes"]), int(USABLE * capacity.node_bytes)
    workers = 1 if config.runner == "local" else max(1, min(config.workers or slots, slots))
    return Machine(per_node // -(-workers // nodes), here, workers)


def needs_of(
    config: KernelConfig,
    machine: Machine,
    *,
    images: int,
    classes: int,
    tests: int,
    measure: Callable[[Work], float] | None = None,
) -> Needs:
    """images: of the training split; tests: validation images, 0 for none. measure: gives the kernel entries per second
    of one worker, for which it takes about a second.

    Raises UserError for what does not fit: naming the block size that does, or fewer targets or images per class.
    """
    works = {ipc: _work(config, ipc, images, classes, tests) for ipc in config.ipc}
    held = _image_bytes(config, images, tests)
    if held > machine.solver:
        raise UserError(
            f"{_targets(config, images)} targets take {_gb(held)} of this process's {_gb(machine.solver)} as images: "
            f"give --targets {max(classes, math.floor(images * machine.solver / held))} or less, or a smaller --size"
        )
    memory = {"worker_memory": machine.memory, "solver_memory": machine.solver - held}
    for work in works.values():  # what is refused is refused before the rate is measured
        plan(work, config.block_size, **memory)
    rate = (measure or measured_rate)(next(iter(works.values())))
    plans = {
        ipc: plan(work, config.block_size, **memory, rate=rate, workers=machine.workers) for ipc, work in works.items()
    }
    return Needs(plans, held, rate, machine.workers)


def _work(config: KernelConfig, ipc: int, images: int, classes: int, tests: int) -> Work:
    targets, learned = _targets(config, images), config.method == "kip"
    return Work(
        config.network,
        config.shape,
        support=ipc * classes,
        targets=min(config.batch, targets) if learned else targets,
        steps=config.steps if learned else 1,
        learned=learned,
        tests=tests * len(kept_steps(config)) if learned else tests,  # Label Solve changes no image
        classes=classes,
        dtype=getattr(torch, config.precision),
    )


def _targets(config: KernelConfig, images: int) -> int:
    return min(config.targets or images, images)


def _image_bytes(config: KernelConfig, images: int, tests: int) -> int:
    pixels = math.prod(config.shape)
    item = getattr(torch, config.precision).itemsize
    whitening = MATRICES * 8 * pixels**2 if config.preprocess == "zca" else 0
    held = _targets(config, images) if config.method == "kip" else 0
    return pixels * COPIES * item * (held + tests) + whitening


def _duration(hours: float) -> str:
    if hours >= 1:
        return f"{hours:.1f} hours"
    return f"{60 * hours:.1f} minutes"


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f} GB"


def require_supports(config: KernelConfig, counts: Sequence[int]) -> None:
    """Raises UserError for fewer targets than classes, and for supports that are larger than the targets of a class.

    counts: images of each class.
    """
    fewest = min(counts)
    if config.targets is not None and config.targets < len(counts):
        raise UserError(f"--targets {config.targets}: must be at least {len(counts)}, one image of each class")
    if config.targets is not None:
        fewest = min(fewest, config.targets // len(counts))
    if max(config.ipc) > fewest:
        raise UserError(
            f"--ipc {max(config.ipc)}: a support is drawn from the targets, and a class has only {fewest} of them; "
            f"give at most {fewest}, or more --targets"
        )
