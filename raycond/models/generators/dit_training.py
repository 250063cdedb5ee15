"""Train a latent diffusion transformer: the noise-prediction loss, class dropout, averaged weights; resumable.

All that a step draws is drawn for the batch of all workers: which latents, noise, times and dropped classes it sees
does not depend on how many workers share it.
"""

from __future__ import annotations

from typing import Any

import torch
from safetensors import torch as safetensors
from torch import Tensor

from raycond.core.errors import UserError
from raycond.core.seeds import seed_of
from raycond.data.class_arrays import Latents
from raycond.models.generators.dit_network import TRAIN_TIMES, build_dit, noise_scheduler
from raycond.models.generators.options import DitConfig
from raycond.training.resumable import Resumable, entries_of


class DitTraining(Resumable):
    """One worker's part of a training. latents: all of them, in every worker.

    Raises UserError if the batch does not divide among the workers.
    """

    what = "generator"

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
        net = build_dit(config, latent=latents.shape, classes=classes, seed=seed_of(seed, "weights", 0)).train()
        super().__init__(config, net, total=config.steps, seed=seed, device=device, rank=rank, world=world)
        self.config, self.latents = config, latents
        self.null = int(net.config.num_embeds_ada_norm)
        self.averaged = [p.detach().clone() for p in self.parameters]
        self.scheduler = noise_scheduler()

    @property
    def count(self) -> int:
        return len(self.latents)

    def loss_of(self, rows: Tensor) -> Tensor:
        latents, labels, noise, times = self._draw(rows)
        with self.precision():
            noisy = self.scheduler.add_noise(latents, noise, times)
            predicted = self.wrapped(noisy, timestep=times, class_labels=labels).sample
        return torch.nn.functional.mse_loss(predicted.float(), noise)

    def _draw(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Latents, labels (some of them "no class"), noise and times of this worker's share."""
        batch = self.config.batch
        mine = slice(self.rank * len(rows), (self.rank + 1) * len(rows))
        random = torch.Generator(self.device).manual_seed(seed_of(self.seed, "step", self.step))
        options: dict[str, Any] = {"generator": random, "device": self.device}
        noise = torch.randn((batch, *self.latents.shape), **options)[mine]
        times = torch.randint(TRAIN_TIMES, (batch,), **options)[mine]
        dropped = torch.rand(batch, **options)[mine] < self.config.class_dropout
        latents, labels = self.latents.take(rows)
        return latents, labels.masked_fill(dropped, self.null), noise, times

    def _advance(self) -> Tensor:
        loss = super()._advance()
        # the average of a short training would else be mostly its random start
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(self.averaged, [p.detach() for p in self.parameters], 1 - decay)
        return loss

    def extra(self) -> dict[str, Tensor]:
        return dict(zip(self.names, self.averaged, strict=True))

    def restore(self, extra: dict[str, Tensor]) -> None:
        for name, average in zip(self.names, self.averaged, strict=True):
            average.copy_(extra[name])


def finished(data: bytes) -> tuple[dict[str, Tensor], list[tuple[int, float]]]:
    """The averaged weights by name and the loss curve (step, mean since the entry before) of a `state`."""
    tensors = safetensors.load(data)
    return entries_of(tensors, "extra"), [(int(step), loss) for step, loss in tensors["curve"].tolist()]
