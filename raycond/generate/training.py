"""Train a latent diffusion transformer: the noise-prediction loss, class dropout, averaged weights; resumable.

Every random draw of a step comes from (seed, step) alone and is made for the batch of all workers: which latents,
noise, times and dropped classes a step sees depends neither on where training was interrupted nor on how many workers
share it.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from typing import Any

import torch
from safetensors import torch as safetensors
from torch import Tensor

from raycond import files
from raycond.errors import RaycondError, UserError
from raycond.generate.latents import Latents
from raycond.generate.network import TRAIN_TIMES, build_dit, noise_scheduler
from raycond.generator_config import DitConfig

_MOMENTS = ("exp_avg", "exp_avg_sq")  # of AdamW


class DitTraining:
    """One worker's part of a training. `rank` and `world` are of torch's default process group if world > 1.

    latents: all of them, in every worker. Raises UserError if the batch does not divide among the workers.
    """

    def __init__(
        self,
        config: DitConfig,
        latents: Latents,
        *,
        classes: int,
        seed: int,
        device: str | torch.device,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if config.batch % world:
            raise UserError(f"--batch {config.batch}: expected a multiple of --workers {world}")
        self.config, self.latents, self.seed, self.rank, self.world = config, latents, seed, rank, world
        self.device = torch.device(device)
        self.net = build_dit(config, latent=latents.shape, classes=classes, seed=_seed(seed, "weights", 0))
        self.net.to(self.device).train()
        self.null = int(self.net.config.num_embeds_ada_norm)
        self.names = [name for name, _ in self.net.named_parameters()]
        self.parameters = list(self.net.parameters())
        self.averaged = [p.detach().clone() for p in self.parameters]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=config.lr, weight_decay=config.weight_decay, fused=True)
        self.scheduler = noise_scheduler()
        self.wrapped = self._wrapped()
        self.step = 0
        self.curve: list[tuple[int, float]] = []
        self._loss = torch.zeros((), device=self.device)
        self._order: tuple[int, Tensor] = (-1, torch.empty(0, dtype=torch.int64))

    def _wrapped(self) -> Any:
        if self.world == 1:
            return self.net
        from torch.nn.parallel import DistributedDataParallel

        devices = [self.device] if self.device.type == "cuda" else None
        # all parameters are used; saying so would let DDP regroup them after its first step, so that a training that
        # goes on would add up the gradients of three or more workers in another order than one that never stopped
        return DistributedDataParallel(self.net, device_ids=devices, find_unused_parameters=True)

    def run(self) -> Iterator[int]:
        """Train to the last step; yields the number of steps done after each entry of `curve`, where `state` may be
        asked for. Raises RaycondError if the loss stops being finite."""
        with _deterministic(self.device):
            while self.step < self.config.steps:
                self._loss += self._advance()
                self.step += 1
                if self.step % self.config.log_every == 0 or self.step == self.config.steps:
                    self._log()
                    yield self.step

    @property
    def loss(self) -> float:
        """Mean over the steps of the latest entry of the curve; NaN before the first."""
        return self.curve[-1][1] if self.curve else math.nan

    def _advance(self) -> Tensor:
        """One step; the loss of this worker's share of the batch."""
        latents, labels, noise, times = self._draw()
        with self._precision():
            noisy = self.scheduler.add_noise(latents, noise, times)
            predicted = self.wrapped(noisy, timestep=times, class_labels=labels).sample
        loss = torch.nn.functional.mse_loss(predicted.float(), noise)
        loss.backward()
        if self.config.clip:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.config.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        # the average of a short training would else be mostly its random start
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(self.averaged, [p.detach() for p in self.parameters], 1 - decay)
        return loss.detach()

    def _draw(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Latents, labels (some of them "no class"), noise and times of this worker's share."""
        batch, share = self.config.batch, self.config.batch // self.world
        mine = slice(self.rank * share, (self.rank + 1) * share)
        random = torch.Generator(self.device).manual_seed(_seed(self.seed, "step", self.step))
        options: dict[str, Any] = {"generator": random, "device": self.device}
        noise = torch.randn((batch, *self.latents.shape), **options)[mine]
        times = torch.randint(TRAIN_TIMES, (batch,), **options)[mine]
        dropped = torch.rand(batch, **options)[mine] < self.config.class_dropout
        latents, labels = self.latents.take(self._rows()[mine])
        return latents, labels.masked_fill(dropped, self.null), noise, times

    def _rows(self) -> Tensor:
        """Which latents this step takes: batches run on from one shuffle of all of them into the next."""
        count = len(self.latents)
        position = self.step * self.config.batch
        parts, missing = [], self.config.batch
        while missing:
            epoch, start = divmod(position, count)
            if self._order[0] != epoch:
                random = torch.Generator().manual_seed(_seed(self.seed, "epoch", epoch))
                self._order = epoch, torch.randperm(count, generator=random)
            parts.append(self._order[1][start : start + missing])
            position, missing = position + len(parts[-1]), missing - len(parts[-1])
        return torch.cat(parts)

    def _rate(self) -> float:
        c, step = self.config, self.step
        if step < c.warmup:
            return c.lr * (step + 1) / c.warmup
        if c.schedule == "constant":
            return c.lr
        return 0.5 * c.lr * (1 + math.cos(math.pi * (step - c.warmup) / (c.steps - c.warmup)))

    def _precision(self) -> contextlib.AbstractContextManager[Any]:
        half = self.config.precision == "bfloat16" or (self.config.precision == "auto" and self.device.type == "cuda")
        return torch.autocast(self.device.type, torch.bfloat16) if half else contextlib.nullcontext()

    def _log(self) -> None:
        if self.world > 1:
            torch.distributed.all_reduce(self._loss)
            self._loss /= self.world
        since = self.step - (self.curve[-1][0] if self.curve else 0)
        mean = float(self._loss) / since
        if not math.isfinite(mean):
            raise RaycondError(
                f"the loss is {mean} after {self.step} of {self.config.steps} steps; "
                f"a smaller --lr than {self.config.lr:g}, or --precision float32, may help"
            )
        self.curve.append((self.step, mean))
        self._loss.zero_()

    # ---- what is kept

    def state(self) -> bytes:
        """All that `load` needs to go on to the same bytes, as safetensors; the same in every worker."""
        tensors = {"step": torch.tensor(self.step), "curve": torch.tensor(self.curve, dtype=torch.float64)}
        for name, value, average in zip(self.names, self.parameters, self.averaged, strict=True):
            moments = self.optimizer.state[value]
            tensors |= {f"weight.{name}": value, f"averaged.{name}": average}
            tensors |= {f"{moment}.{name}": moments[moment] for moment in _MOMENTS}
        return safetensors.save({key: value.detach().cpu().contiguous() for key, value in tensors.items()})

    def load(self, data: bytes) -> None:
        """Go on from a `state` of a training with the same configuration, on any number of workers."""
        tensors = safetensors.load(data)
        self.step = int(tensors["step"])
        self.curve = [(int(step), loss) for step, loss in tensors["curve"].tolist()]
        with torch.no_grad():
            for name, value, average in zip(self.names, self.parameters, self.averaged, strict=True):
                value.copy_(tensors[f"weight.{name}"])
                average.copy_(tensors[f"averaged.{name}"])
                self.optimizer.state[value] = {
                    "step": torch.tensor(float(self.step), device=self.device),
                    **{moment: tensors[f"{moment}.{name}"].to(value) for moment in _MOMENTS},
                }


def _seed(seed: int, what: str, number: int) -> int:
    """A stream of its own for everything that is drawn."""
    return int(files.digest([seed, what, number])[:15], 16)


@contextlib.contextmanager
def _deterministic(device: torch.device) -> Iterator[None]:
    """GPU kernels that add in a fixed order, where there are such kernels."""
    if device.type != "cuda":
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


def finished(data: bytes) -> tuple[dict[str, Tensor], list[tuple[int, float]]]:
    """The averaged weights by name and the loss curve (step, mean since the entry before) of a `state`."""
    tensors = safetensors.load(data)
    weights = {name.removeprefix("averaged."): t for name, t in tensors.items() if name.startswith("averaged.")}
    return weights, [(int(step), loss) for step, loss in tensors["curve"].tolist()]
