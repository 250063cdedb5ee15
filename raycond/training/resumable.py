"""A training that can stop anywhere and go on to the same bytes: draws by (seed, step), the loss curve, its state.

Every random draw of a step comes from (seed, step) alone, and is made for fixed parts of the batch of all workers: what
a step sees depends neither on where training was interrupted nor, for up to `PARTS` workers, on how many share it.
"""

from __future__ import annotations

import contextlib
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Protocol

import torch
from safetensors import torch as safetensors
from torch import Tensor, nn

from raycond.core.errors import RaycondError, UserError, parsing
from raycond.core.seeds import seed_of

PARTS = 8  # a batch is drawn in so many parts, each with a generator of its own


class Settings(Protocol):
    """The options that every training has."""

    @property
    def batch(self) -> int:
        """Examples in a step, over all workers."""
        ...

    @property
    def lr(self) -> float:
        """Learning rate after the warm-up."""
        ...

    @property
    def optimizer(self) -> str:
        """adamw or sgd."""
        ...

    @property
    def weight_decay(self) -> float:
        """Of matrices and filters; scales, offsets and biases have none."""
        ...

    @property
    def schedule(self) -> str:
        """Of the learning rate after the warm-up: cosine (to 0) or constant."""
        ...

    @property
    def warmup(self) -> int:
        """Steps in which the learning rate rises to `lr`."""
        ...

    @property
    def clip(self) -> float:
        """Largest norm of the gradient; 0 for no limit."""
        ...

    @property
    def precision(self) -> str:
        """Of matrix products: float32, bfloat16, or auto (bfloat16 on GPUs)."""
        ...

    @property
    def log_every(self) -> int:
        """Steps between two entries of the loss curve."""
        ...


class Resumable(ABC):
    """One worker's part of a training. Subclasses say what the loss is; the loop and what is saved of it are here."""

    what = "training"
    """The name of the training in messages."""

    def __init__(
        self, settings: Settings, net: nn.Module, *, total: int, seed: int, device: Any, rank: int = 0, world: int = 1
    ) -> None:
        """net: the network that learns; its parameters that require a gradient are optimized. total: steps. rank,
        world: this worker's number and how many there are, in torch's default process group if there are several.
        Raises UserError if the batch does not divide among the workers.
        """
        if settings.batch % world:
            raise UserError(f"{self.what}: batches of {settings.batch} do not divide among {world} workers")
        self.settings, self.total, self.seed, self.rank, self.world = settings, total, seed, rank, world
        self.device = torch.device(device)
        self.net = net.to(self.device)
        trainable = [(name, p) for name, p in self.net.named_parameters() if p.requires_grad]
        self.names, self.parameters = [name for name, _ in trainable], [p for _, p in trainable]
        self.optimizer = self._optimizer()
        self.wrapped = self._wrapped()
        self.step = 0
        self.curve: list[tuple[int, float]] = []
        self._loss = torch.zeros((), device=self.device)
        self._order: tuple[int, Tensor] = (-1, torch.empty(0, dtype=torch.int64))

    # ---- what subclasses give

    @abstractmethod
    def loss_of(self, rows: Tensor) -> Tensor:
        """Mean loss of this worker's share of the step's batch. rows: positions of its examples, in 0 … count − 1."""

    @property
    @abstractmethod
    def count(self) -> int:
        """How many examples there are."""

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The tensors that `state` saves and `load` writes to; by default the state dict of the network."""
        return dict(self.net.state_dict())

    def due(self) -> bool:
        """Whether the curve gets an entry after this step although `log_every` does not ask for one."""
        return False

    def reached(self) -> None:  # noqa: B027, a hook that few need
        """Called after each entry of the curve, before the loop hands out the step."""

    @property
    def stopped(self) -> bool:
        """Whether there is no step left to do."""
        return self.step >= self.total

    # ---- the loop

    def run(self) -> Iterator[int]:
        """Train to the last step. Yields the number of steps done after each entry of the curve; there, `state` may be
        called. Raises RaycondError if the loss stops being finite."""
        with deterministic(self.device):
            while not self.stopped:
                self._loss += self._advance()
                self.step += 1
                if self.step % self.settings.log_every == 0 or self.step == self.total or self.due():
                    self._log()
                    self.reached()
                    yield self.step

    @property
    def loss(self) -> float:
        """Mean over the steps of the latest entry of the curve; NaN before the first."""
        return self.curve[-1][1] if self.curve else math.nan

    @property
    def part_count(self) -> int:
        """In how many parts this worker's share of a batch is drawn."""
        parts = math.gcd(self.settings.batch, PARTS)
        return parts // self.world if parts % self.world == 0 else 1

    def parts(self, share: Tensor) -> Iterator[tuple[Tensor, torch.Generator]]:
        """The parts of this worker's share of the batch, each with the generator, on the device, for its draws in this
        step."""
        for k, part in enumerate(share.chunk(self.part_count)):
            number = self.rank * self.part_count + k
            yield part, torch.Generator(self.device).manual_seed(seed_of(self.seed, "step", self.step, number))

    def _advance(self) -> Tensor:
        """One step; the mean loss of this worker's share of the batch."""
        loss = self.loss_of(self._rows().view(self.world, -1)[self.rank])
        loss.backward()
        if self.settings.clip:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.settings.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    def _rows(self) -> Tensor:
        """Positions of the examples of this step: batches run on from one shuffle of all examples into the next."""
        position = self.step * self.settings.batch
        parts, missing = [], self.settings.batch
        while missing:
            epoch, start = divmod(position, self.count)
            if self._order[0] != epoch:
                random = torch.Generator().manual_seed(seed_of(self.seed, "epoch", epoch))
                self._order = epoch, torch.randperm(self.count, generator=random)
            parts.append(self._order[1][start : start + missing])
            position, missing = position + len(parts[-1]), missing - len(parts[-1])
        return torch.cat(parts)

    def rate(self) -> float:
        c, step = self.settings, self.step
        if step < c.warmup:
            return c.lr * (step + 1) / c.warmup
        if c.schedule == "constant":
            return c.lr
        return 0.5 * c.lr * (1 + math.cos(math.pi * (step - c.warmup) / max(1, self.total - c.warmup)))

    def precision(self) -> contextlib.AbstractContextManager[Any]:
        wanted = self.settings.precision
        half = wanted == "bfloat16" or (wanted == "auto" and self.device.type == "cuda")
        return torch.autocast(self.device.type, torch.bfloat16) if half else contextlib.nullcontext()

    def _log(self) -> None:
        if self.world > 1:
            torch.distributed.all_reduce(self._loss)
            self._loss /= self.world
        since = self.step - (self.curve[-1][0] if self.curve else 0)
        mean = float(self._loss) / since
        if not math.isfinite(mean):
            raise RaycondError(
                f"{self.what}: the loss is {mean} after {self.step} of {self.total} steps; a smaller lr than "
                f"{self.settings.lr:g}, or float32, may help"
            )
        self.curve.append((self.step, mean))
        self._loss.zero_()

    def _optimizer(self) -> torch.optim.Optimizer:
        """Weight decay acts on matrices and filters, not on scales, offsets and biases."""
        c = self.settings
        groups = [
            {"params": [p for p in self.parameters if (p.ndim > 1) == decayed], "weight_decay": decay}
            for decayed, decay in ((True, c.weight_decay), (False, 0.0))
        ]
        groups = [group for group in groups if group["params"]]
        if c.optimizer == "sgd":
            return torch.optim.SGD(groups, lr=c.lr, momentum=0.9, nesterov=True)
        return torch.optim.AdamW(groups, lr=c.lr, fused=True)

    def _wrapped(self) -> Any:
        if self.world == 1:
            return self.net
        from torch.nn.parallel import DistributedDataParallel

        devices = [self.device] if self.device.type == "cuda" else None
        # all parameters are used; saying so would let DDP regroup them after its first step, so that a training that
        # goes on would add up the gradients of three or more workers in another order than one that never stopped
        return DistributedDataParallel(self.net, device_ids=devices, find_unused_parameters=True)

    # ---- saving and going on

    def state(self) -> bytes:
        """Everything that `load` needs to go on to the same bytes, as a safetensors file. It is the same in every
        worker, except for the running statistics of BatchNorm; save that of the first worker."""
        tensors = {
            "step": torch.tensor(self.step),
            "curve": torch.tensor(self.curve, dtype=torch.float64).view(-1, 2),
            **{f"extra.{name}": value for name, value in self.extra().items()},
            **{f"tensor.{name}": value for name, value in self.tensors.items()},
        }
        for name, parameter in zip(self.names, self.parameters, strict=True):
            for key, value in self.optimizer.state[parameter].items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer.{key}.{name}"] = value
        # cloned, because safetensors refuses tensors that share memory
        return safetensors.save({key: value.detach().cpu().clone().contiguous() for key, value in tensors.items()})

    def load(self, data: bytes) -> None:
        """Go on from a `state` of a training with the same configuration, on any number of workers.

        Raises UserError if the data is damaged or of another configuration.
        """
        remedy = "delete it, and the training starts again"
        with parsing(f"{self.what}: the saved state", "one of this training", remedy), torch.no_grad():
            tensors = safetensors.load(data)
            self.step = int(tensors["step"])
            self.curve = [(int(step), loss) for step, loss in tensors["curve"].tolist()]
            here = self.tensors
            for name, value in entries_of(tensors, "tensor").items():
                here[name].copy_(value)
            self._load_optimizer(entries_of(tensors, "optimizer"))
            self.restore(entries_of(tensors, "extra"))

    def _load_optimizer(self, values: dict[str, Tensor]) -> None:
        by_name = dict(zip(self.names, self.parameters, strict=True))
        for name, value in values.items():
            key, _, parameter_name = name.partition(".")
            parameter = by_name[parameter_name]
            # laid out as the parameter is, which the fused step relies on; it counts its steps on the device
            copy = torch.empty_like(parameter) if value.shape == parameter.shape else value.to(self.device)
            self.optimizer.state[parameter][key] = copy.copy_(value).detach()

    def extra(self) -> dict[str, Tensor]:
        """Tensors that `state` must save besides; `restore` gets them back."""
        return {}

    def restore(self, extra: dict[str, Tensor]) -> None:  # noqa: B027, for those that have an `extra`
        """Take back what `extra` gave when the state was saved."""


def entries_of(tensors: dict[str, Tensor], kind: str) -> dict[str, Tensor]:
    """The entries of a saved state whose names begin with `kind.`, without that beginning."""
    return {name.removeprefix(f"{kind}."): t for name, t in tensors.items() if name.startswith(f"{kind}.")}


def steps_of(epochs: float, count: int, batch: int) -> int:
    """Steps in a number of epochs over `count` examples, rounded; at least one."""
    return max(1, round(epochs * count / batch))


@contextlib.contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
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
