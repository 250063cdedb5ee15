"""What pulls a reverse process: classifier-free guidance towards the class, mode guidance towards the centroid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# the samplers whose state is x_t = √ᾱ x_0 + √(1−ᾱ) ε at every step, as mode guidance takes it to be
MODE_SAMPLERS = ("DDIMScheduler", "DDPMScheduler", "DPMSolverMultistepScheduler")


def classifier_free(both: Tensor, scale: float, channels: int | None = None) -> Tensor:
    """ε_∅ + scale · (ε_c − ε_∅) from outputs (2n, …), unconditional first (Ho & Salimans 2021, as diffusers has it).

    channels: how many of the first are guided; the others are those of ε_c. None for all.
    """
    without, given = both.to(torch.promote_types(both.dtype, torch.float32)).chunk(2)
    guided = without[:, :channels] + scale * (given[:, :channels] - without[:, :channels])
    return guided if channels is None else torch.cat([guided, given[:, channels:]], 1)


@dataclass(frozen=True)
class ModeGuidance:
    """MGD3's pull of the predicted clean latent towards the mode (arXiv 2505.18963, Eq. 5 and 6 and section 4.3).

    x_{t−1} ← x_{t−1} + λ σ_t (m − x̂_0), at the steps with t > stop · T. m is the centroid, x̂_0 the clean latent that
    the guided output stands for, σ_t the standard deviation of DDPM's step from t to the next time s:
    σ_t² = (1 − ᾱ_s) / (1 − ᾱ_t) · (1 − ᾱ_t / ᾱ_s).

    The paper prints the term as added to the noise prediction, which would push away from m; code that follows the
    authors' adds it to the mean of the step, and so does this. They have the σ_t that DiT learned, between this one
    and the slightly larger √β, and so has `respaced.RespacedModeGuidance`: only with it is this MGD3. With this σ_t
    the pull is defined for all models and samplers.
    """

    strength: float
    stop: float

    def __call__(
        self, scheduler: Any, time: int, following: int, state: Tensor, output: Tensor, modes: Tensor
    ) -> Tensor | float:
        """What to add to the state at time `following` (−1: the end), given the state and output at `time`."""
        if not self.acts(scheduler, time):
            return 0.0
        ends = torch.ones((), dtype=scheduler.alphas_cumprod.dtype)
        now = scheduler.alphas_cumprod[time].item()
        then = (scheduler.alphas_cumprod[following] if following >= 0 else ends).item()
        sigma = ((1 - then) / (1 - now) * (1 - now / then)) ** 0.5
        return self.strength * sigma * (modes - clean(scheduler.config.prediction_type, now, state, output))

    def acts(self, scheduler: Any, time: float) -> bool:
        return time > self.stop * scheduler.config.num_train_timesteps


def clean(prediction_type: str, cumulative: float, state: Tensor, output: Tensor) -> Tensor:
    """x̂_0 of a model output at ᾱ = cumulative, for models that predict ε, x_0 or v (Salimans & Ho 2022)."""
    signal, noise = cumulative**0.5, (1 - cumulative) ** 0.5
    if prediction_type == "sample":
        return output
    if prediction_type == "v_prediction":
        return signal * state - noise * output
    return (state - noise * output) / signal
