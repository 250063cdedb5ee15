"""The reverse process: a sampler by name, the step it starts from, and the loop over batches of images."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from raycond.core.errors import UserError
from raycond.models.generators.diffusers_folder import PipelineFolder
from raycond.models.generators.guidance import MODE_SAMPLERS, ModeGuidance
from raycond.models.generators.options import GeneratorOptions
from raycond.models.generators.respaced import Respaced, RespacedModeGuidance

SCHEDULERS = {
    "ddim": "DDIMScheduler",
    "ddpm": "DDPMScheduler",
    "dpm": "DPMSolverMultistepScheduler",
    "pndm": "PNDMScheduler",
    "euler": "EulerDiscreteScheduler",
}
FLOW = "FlowMatchEulerDiscreteScheduler"
# (state (n, …) float32 scaled for the model, time () on the device) → guided output (n, …) float32
Predict = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Reverse:
    """Steps `start` to the end of a schedule of `steps`, from the noised centroid, or from noise alone.

    η is 0 throughout. All noise of an image, the first and that of a sampler's steps (ddpm), comes from a CPU stream
    of its own, so that neither the batch nor the device changes it.
    """

    scheduler: Any
    steps: int
    start: int
    from_noise: bool
    pull: ModeGuidance | None

    def run(self, centroids: Tensor, seeds: Sequence[int], predict: Predict) -> Tensor:
        """Clean latents (n, *latent) float32 from centroids on the device."""
        times = self._begin()
        streams = [torch.Generator().manual_seed(seed) for seed in seeds]
        noise = torch.stack([torch.randn(centroids.shape[1:], generator=s) for s in streams]).to(centroids)
        state = noise * self.scheduler.init_noise_sigma if self.from_noise else self._noised(centroids, noise, times)
        extra = {"generator": streams} if "generator" in inspect.signature(self.scheduler.step).parameters else {}
        places = times.to(centroids.device)
        for k, time in enumerate(times):  # on the CPU: a sampler that reads its time would stop the device otherwise
            scaled = self.scheduler.scale_model_input(state, time) if self._scales else state
            output = predict(scaled, places[k])
            after = self.scheduler.step(output, time, state, **extra).prev_sample
            if self.pull is not None:
                following = int(times[k + 1]) if k + 1 < len(times) else -1
                after = after + self.pull(self.scheduler, int(time), following, state, output, centroids)
            state = after
        return state

    @property
    def _scales(self) -> bool:
        return hasattr(self.scheduler, "scale_model_input")

    def _begin(self) -> Tensor:
        """The times still to come; forgets what the sampler kept of the batch before."""
        self.scheduler.set_timesteps(self.steps)
        if hasattr(self.scheduler, "set_begin_index"):
            self.scheduler.set_begin_index(self.start)
        times: Tensor = self.scheduler.timesteps[self.start :]
        return times

    def _noised(self, centroids: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        first = times[:1].repeat(len(centroids))
        if type(self.scheduler).__name__ == FLOW:
            noised: Tensor = self.scheduler.scale_noise(centroids, first, noise)
        else:
            noised = self.scheduler.add_noise(centroids, noise, first)
        return noised


def by_strength(folder: PipelineFolder, options: GeneratorOptions) -> Reverse:
    """The last int(steps · strength) steps, as StableDiffusionImg2ImgPipeline and so D4M count them.

    Raises UserError where no step is left.
    """
    scheduler = open_scheduler(folder, options)
    share = min(options.steps * options.strength, options.steps)
    # StableDiffusion3Img2ImgPipeline rounds the first step down where the others round the number of steps
    flow = type(scheduler).__name__ == FLOW
    start = int(options.steps - share) if flow else options.steps - int(share)
    if start >= options.steps:
        raise UserError(f"generator: strength {options.strength:g} of {options.steps} steps leaves no step to run")
    return _reverse(scheduler, options, start, from_noise=False)


def by_noise(folder: PipelineFolder, options: GeneratorOptions) -> Reverse:
    """From the step whose time is nearest to the share `noise` of the schedule (the noisier of two); 1: from noise."""
    scheduler = open_scheduler(folder, options)
    if options.noise == 1:
        return _reverse(scheduler, options, 0, from_noise=True)
    away = (scheduler.timesteps.double() - options.noise * scheduler.config.num_train_timesteps).abs()
    return _reverse(scheduler, options, int(away.argmin()), from_noise=False)


def open_scheduler(folder: PipelineFolder, options: GeneratorOptions) -> Any:
    """The named sampler on the pipeline's noise schedule, or its own, set to the number of steps.

    Raises UserError for one that is not known to keep images apart (some draw from a common stream).
    """
    name = str(folder.index["scheduler"][1])
    if options.scheduler is None and name not in (FLOW, *SCHEDULERS.values()):
        raise UserError(f"{folder}: its own {name} is not supported; give a scheduler: {', '.join(SCHEDULERS)}")
    own = folder.load("scheduler")
    if options.recipe == "published":
        own = _respaced(folder, own, options)
    elif name == FLOW:
        if options.scheduler is not None or options.mode_guidance:
            what = "scheduler" if options.scheduler is not None else "mode_guidance"
            raise UserError(f"{folder}: is trained by flow matching, for which there is no {what}; leave it out")
        if own.config.use_dynamic_shifting:
            raise UserError(f"{folder}: its schedule depends on the image size, which is not supported")
    elif options.scheduler is not None:
        own = _converted(own, options.scheduler)
    if options.steps > own.config.num_train_timesteps:
        raise UserError(f"generator: steps {options.steps}: {folder} has {own.config.num_train_timesteps} times")
    own.set_timesteps(options.steps)
    return own


def _respaced(folder: PipelineFolder, own: Any, options: GeneratorOptions) -> Respaced:
    if options.scheduler not in (None, "ddpm", "ddim"):
        raise UserError(f"generator: recipe published samples by ddpm or ddim, not by {options.scheduler}")
    if not hasattr(own, "betas"):
        raise UserError(f"{folder}: has no DDPM noise schedule, which recipe published needs")
    return Respaced(own, noisy=options.scheduler != "ddim")


def _converted(own: Any, name: str) -> Any:
    import diffusers

    kind = getattr(diffusers, SCHEDULERS[name])
    # made for pixels in [-1, 1], and on in some samplers unless the configuration says otherwise; PNDM's Runge-Kutta
    # steps cannot be entered half way
    wanted = {"clip_sample": False, "thresholding": False, "skip_prk_steps": True}
    known = inspect.signature(kind.__init__).parameters
    # as diffusers converts: what the folder does not say is the new sampler's own default
    return kind.from_config(own.config, **{k: v for k, v in wanted.items() if k in known})


def _reverse(scheduler: Any, options: GeneratorOptions, start: int, *, from_noise: bool) -> Reverse:
    pull = None
    if options.mode_guidance:
        name = type(scheduler).__name__
        published = isinstance(scheduler, Respaced)
        if not published and name not in MODE_SAMPLERS:
            raise UserError(f"generator: mode_guidance works with the schedulers ddpm, ddim and dpm, not with {name}")
        pull = (RespacedModeGuidance if published else ModeGuidance)(options.mode_guidance, options.mode_stop)
        first = float(scheduler.timesteps[start])
        if not pull.acts(scheduler, first):
            raise UserError(
                f"generator: mode_guidance would never act: the process starts at time {first:g}, and mode_stop "
                f"{options.mode_stop:g} ends it at {options.mode_stop * scheduler.config.num_train_timesteps:g}; "
                "start from more noise (MGD3 starts from noise alone: noise 1), or lower mode_stop"
            )
    return Reverse(scheduler, options.steps, start, from_noise, pull)
