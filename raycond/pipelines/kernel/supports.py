"""The supports of a run: learned by KIP or solved for by Label Solve, with checkpoints that a stopped run goes on from.

What is kept of a support are snapshots: how it was at first (real images with one-hot labels), on the way, and in the
end. They are tested afterwards, so that other validation images ask for no new learning.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from raycond.core import files, records
from raycond.core.errors import RaycondError
from raycond.core.progress import Progress, TrainingProgress
from raycond.core.tensors import read_safetensors
from raycond.methods.kernels import label_solve, regression
from raycond.methods.kernels.blocks import BlockMap, kernel_in_blocks
from raycond.methods.kernels.kip import KipConfig, KipState, initial_state, kip_step
from raycond.methods.kernels.label_solve import NormalEquations
from raycond.methods.kernels.regression import LARGEST_REG, SingularKernel, centered_labels
from raycond.methods.kernels.scoring import kernel_rows
from raycond.methods.kernels.targets import support_rows
from raycond.pipelines.kernel.config import KernelConfig
from raycond.pipelines.kernel.training_images import Pool, augmentation_of
from raycond.pipelines.layout import KernelLayout

PASS_ROWS = 8  # rows of blocks that Label Solve sends to the workers together


@dataclass(frozen=True)
class Snapshot:
    """A support as it was after some steps; of Label Solve 0 is before and 1 after the labels were solved for."""

    step: int
    uri: str

    def read(self) -> tuple[Tensor, Tensor]:
        """Images (n, C, H, W) float32, preprocessed, and centered labels (n, classes) float64.

        Raises OSError, and UserError if the file is damaged.
        """
        tensors, _ = read_safetensors(self.uri)
        return tensors["images"], tensors["labels"]


@dataclass(frozen=True)
class Support:
    """What was learned for one number of images per class."""

    ipc: int
    rows: Tensor
    """(n,) int64: the rows of the decoded split whose images the support began with, class after class."""

    snapshots: tuple[Snapshot, ...]
    """In the order of their steps; the last is the result."""

    digest: str
    """Of everything that it was computed from."""

    computed: bool
    """Whether something was computed now."""


@dataclass(frozen=True)
class Work:
    """One support that is to be learned. run: how blocks are computed. device: where."""

    config: KernelConfig
    pool: Pool
    ipc: int
    layout: KernelLayout
    run: BlockMap
    device: str

    @property
    def fingerprint(self) -> str:
        return records.fingerprint(
            stage="support", images=self.pool.digest, ipc=self.ipc, config=_identity(self.config)
        )

    @property
    def folder(self) -> str:
        return self.layout.snapshots(self.ipc, self.fingerprint)

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = getattr(torch, self.config.precision)
        return dtype

    def snapshot(self, step: int) -> Snapshot:
        return Snapshot(step, files.join(self.folder, f"step{step:06d}.safetensors"))

    def keep(self, step: int, images: Tensor, labels: Tensor) -> None:
        data = save({"images": images.float().contiguous(), "labels": labels.contiguous()})
        files.write_bytes(self.snapshot(step).uri, data)

    @property
    def state(self) -> str:
        """The file of what a stopped run goes on from."""
        return files.join(self.folder, "state.safetensors")

    def saved(self) -> dict[str, Tensor] | None:
        """The state of a run that was stopped. Raises UserError if it is damaged."""
        if not files.exists(self.state):
            return None
        return {name: tensor.clone() for name, tensor in read_safetensors(self.state)[0].items()}

    def save(self, state: dict[str, Tensor]) -> None:
        files.write_bytes(self.state, save({name: tensor.contiguous() for name, tensor in state.items()}))


def make_support(work: Work) -> Support:
    """The support of one number of images per class, computed where it is not there.

    Raises UserError for a support that is larger than the data and for kernels that are not finite, RaycondError for
    singular ones.
    """
    rows = support_rows(work.pool.labels, work.pool.classes, work.ipc, work.config.seed)
    expected, output = work.fingerprint, work.layout.support(work.ipc)
    steps = kept_steps(work.config)
    facts = records.find(output, expected)
    computed = facts is None or not records.all_whole(work.folder, facts["files"])
    if computed:
        try:
            if work.config.method == "ls":
                _solve(work, rows)
            else:
                _learn(work)
        except SingularKernel as error:
            raise RaycondError(f"{error} (--reg R, or --raise-reg to raise it as far as needed)") from error
        names = [work.snapshot(step).uri.rpartition("/")[2] for step in steps]
        listed = {name: records.measured(files.join(work.folder, name)) for name in names}
        records.finish(output, expected, None, files=listed)
        files.delete(work.state)
    snapshots = tuple(work.snapshot(step) for step in steps)
    return Support(work.ipc, work.pool.rows[rows], snapshots, expected, computed)


def kept_steps(config: KernelConfig) -> list[int]:
    """The steps before which a support is kept, and its end: `--checks` of them between, growing by a factor."""
    if config.method == "ls":
        return [0, 1]
    factors = (k / (config.checks + 1) for k in range(1, config.checks + 1))
    between = (round(math.exp(factor * math.log(config.steps))) for factor in factors)
    return sorted({0, config.steps, *(step for step in between if step < config.steps)})


def kip_config(config: KernelConfig, device: str) -> KipConfig:
    return KipConfig(
        config.network,
        lr=config.lr,
        targets=config.batch,
        learn_labels=config.learn_labels,
        reg=config.reg,
        allow_raise=config.raise_reg,
        dtype=getattr(torch, config.precision),
        block=config.block_size,
        device=device,
        seed=config.seed,
    )


def _learn(work: Work) -> None:
    """KIP, from the state that a stopped run left."""
    config, kip = work.config, kip_config(work.config, work.device)
    targets = work.pool.in_memory(work.dtype, augmentation_of(config))
    saved, kept, raised = work.saved(), set(kept_steps(config)), kip.reg
    state = initial_state(targets, work.ipc, config.seed) if saved is None else KipState.load(saved)
    progress = TrainingProgress(config.steps, state.step, f"kip ipc{work.ipc}")
    with progress:
        while state.step < config.steps:
            if state.step in kept:
                work.keep(state.step, state.images, state.labels)
            state, seen = kip_step(state, targets, kip, run=work.run)
            raised = _say_raised(seen.reg, raised, progress)
            progress.show(state.step, seen.loss)
            if state.step % config.checkpoint_every == 0:
                work.save(state.tensors())
    work.keep(state.step, state.images, state.labels)


def _solve(work: Work, rows: Tensor) -> None:
    """Label Solve. The sums over the targets are kept on the way; they are small."""
    config, pool = work.config, work.pool
    label_solve.require_fewer(len(rows), len(pool.rows))
    support = pool.preprocessed(rows, torch.float32).double()  # the labels must be those of the images that are kept
    work.keep(0, support, centered_labels(pool.labels[rows], pool.classes))
    saved = work.saved()
    sums = NormalEquations(len(rows), pool.classes) if saved is None else NormalEquations.load(saved)
    with Progress(f"ls ipc{work.ipc}", len(pool.rows), "targets", done=sums.count) as progress:
        for part in _passes(work, sums.count):
            targets, labels = pool.preprocessed(part, work.dtype), centered_labels(pool.labels[part], pool.classes)
            for block, kernel in kernel_rows(
                config.network,
                targets,
                support.to(work.dtype),
                block=config.block_size,
                device=work.device,
                run=work.run,
            ):
                sums.add(kernel, labels[block])
                progress.step(len(kernel))
            work.save(sums.state())
    kernel = kernel_in_blocks(config.network, support, block=config.block_size, device=work.device, run=work.run)
    work.keep(1, support, _solved(sums, kernel, config))


def _passes(work: Work, done: int) -> Iterator[slice]:
    size = PASS_ROWS * work.config.block_size
    for start in range(done, len(work.pool.rows), size):
        yield slice(start, min(start + size, len(work.pool.rows)))


def _solved(sums: NormalEquations, kernel: Tensor, config: KernelConfig) -> Tensor:
    """The labels. Raises SingularKernel where the regularization may not be raised, or does not help."""
    reg = config.reg
    while True:
        try:
            return sums.solve(kernel, reg=reg)
        except SingularKernel:
            if not config.raise_reg or reg >= LARGEST_REG:
                raise
        reg = min(LARGEST_REG, max(10 * reg, regression.REG))
        print(f"the equations are singular: regularization raised to {reg:g}", file=sys.stderr)


def _say_raised(reg: float, before: float, progress: Progress) -> float:
    if reg > before:
        progress.say(f"the kernel is singular: regularization raised from {before:g} to {reg:g}")
    return max(reg, before)


def _identity(config: KernelConfig) -> dict[str, Any]:
    """What a support depends on beside its images. The size of blocks and the number of workers change the last bits of
    a float32 kernel alone."""
    plain, network = config.to_dict(), config.network
    names = ["method", "activation", "w_std", "b_std", "targets", "reg", "raise_reg", "seed"]
    if config.method == "kip":
        names += ["steps", "lr", "batch", "learn_labels", "checks"]
        if augmentation_of(config).active:
            names += [name for name in plain if name.startswith("augment_")]
    about = {"kernel": network.name, "head": network.head, "dtype": config.precision}
    return {name: plain[name] for name in names} | about
