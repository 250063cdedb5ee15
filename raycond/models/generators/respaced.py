"""The sampler of DiT's code, which Minimax Diffusion, IGD and MGD3 took over (facebookresearch/DiT, diffusion/).

It differs from what diffusers makes of the same model in the times, the variance, and the channels that are guided.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from raycond.core.errors import UserError
from raycond.models.generators.guidance import ModeGuidance

GUIDED_CHANNELS = 3  # of the four of the latents, "for exact reproducibility" (models.py, forward_with_cfg)


class Step(NamedTuple):
    """As diffusers' samplers answer."""

    prev_sample: Tensor


class Respaced:
    """DDPM, or DDIM without noise, on times that are spread evenly from 0 to the last.

    The process is Ho et al.'s on the ᾱ of the kept times alone (Nichol & Dhariwal 2021). x̂_0 is not clipped. A step of
    DDPM adds noise of the variance that the model learned, between the posterior's and β (their equation 15), or of the
    posterior's where the model gives as many channels as it takes. All factors are computed in float64.
    """

    init_noise_sigma = 1.0

    def __init__(self, own: Any, *, noisy: bool) -> None:
        """own: the sampler of the model's folder, for its noise schedule. noisy: DDPM rather than DDIM.

        Raises UserError for a model that predicts something else than noise.
        """
        if own.config.prediction_type != "epsilon":
            raise UserError(
                f"generator: recipe published is for models that predict noise, as DiT does, not "
                f"{own.config.prediction_type}"
            )
        self.config, self.noisy = own.config, noisy
        self.alphas_cumprod = torch.from_numpy(np.cumprod(1 - _betas(own)))
        self.set_timesteps(len(self.alphas_cumprod))

    def set_timesteps(self, steps: int) -> None:
        stride = (len(self.alphas_cumprod) - 1) / max(1, steps - 1)
        self.times = [round(k * stride) for k in range(steps)]
        self.timesteps = torch.tensor(self.times[::-1])
        kept = self.alphas_cumprod[self.times].numpy()
        before = np.append(1.0, kept[:-1])
        self._kept, self._before = kept, before
        self._betas = 1 - kept / before
        posterior = self._betas * (1 - before) / (1 - kept)
        # at time 0 it is 0, and its logarithm that of the time after
        self._log_posterior = np.log(np.append(posterior[1:2], posterior[1:]) if steps > 1 else self._betas)

    def index(self, time: float) -> int:
        """How many kept times come before this one."""
        return self.times.index(int(time))

    def add_noise(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        share = float(self.alphas_cumprod[int(times[0])])
        return share**0.5 * latents + (1 - share) ** 0.5 * noise

    def clean(self, output: Tensor, time: float, state: Tensor) -> Tensor:
        """x̂_0 of a model output."""
        share = float(self._kept[self.index(time)])
        return (state - (1 - share) ** 0.5 * output[:, : state.shape[1]]) / share**0.5

    def deviation(self, output: Tensor, time: float, channels: int) -> Tensor | float:
        """σ_t of the step from this time."""
        k = self.index(time)
        if output.shape[1] == channels:
            return float(np.exp(0.5 * self._log_posterior[k]))
        # the model's answer is −1 for the posterior's variance and 1 for β
        share = (output[:, channels:] + 1) / 2
        log_variance = share * float(np.log(self._betas[k])) + (1 - share) * float(self._log_posterior[k])
        return torch.exp(0.5 * log_variance)

    def step(self, output: Tensor, time: Any, state: Tensor, *, generator: list[torch.Generator]) -> Step:
        k, clean = self.index(time), self.clean(output, time, state)
        kept, before, beta = self._kept[k], self._before[k], self._betas[k]
        if not self.noisy:
            noise = (state - kept**0.5 * clean) / (1 - kept) ** 0.5
            return Step(float(before**0.5) * clean + float((1 - before) ** 0.5) * noise)
        mean = float(beta * before**0.5 / (1 - kept)) * clean
        mean = mean + float((1 - before) * (1 - beta) ** 0.5 / (1 - kept)) * state
        if k == 0:
            return Step(mean)
        noise = torch.stack([torch.randn(state.shape[1:], generator=stream) for stream in generator]).to(state)
        return Step(mean + self.deviation(output, time, state.shape[1]) * noise)


class RespacedModeGuidance(ModeGuidance):
    """MGD3's pull as its authors have it: λ σ_t (m − x̂_0) with the σ_t of the step, at the steps k > stop · steps."""

    def __call__(
        self, scheduler: Any, time: int, following: int, state: Tensor, output: Tensor, modes: Tensor
    ) -> Tensor | float:
        if not self.acts(scheduler, time):
            return 0.0
        sigma = scheduler.deviation(output, time, state.shape[1])
        return self.strength * sigma * (modes - scheduler.clean(output, time, state))

    def acts(self, scheduler: Any, time: float) -> bool:
        return bool(scheduler.index(time) > self.stop * len(scheduler.times))


def _betas(own: Any) -> np.ndarray:
    """The β of every time, in float64 where the schedule is DiT's."""
    config = own.config
    if config.beta_schedule == "linear" and config.trained_betas is None:
        return np.linspace(config.beta_start, config.beta_end, config.num_train_timesteps, dtype=np.float64)
    return np.asarray(own.betas.double())
