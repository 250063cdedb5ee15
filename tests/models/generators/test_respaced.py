"""The published samplers of DiT, written down again from their definitions and compared in float64."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from raycond.core.errors import UserError
from raycond.models.codecs.registry import open_codec
from raycond.models.generators.base import Wanted
from raycond.models.generators.dit import guidance_channels
from raycond.models.generators.guidance import classifier_free
from raycond.models.generators.options import GeneratorOptions
from raycond.models.generators.registry import open_generator
from raycond.models.generators.respaced import Respaced, RespacedModeGuidance
from raycond.models.generators.sampler import Reverse
from tests.models.generators import tiny

STEPS, NULL, LABEL, SEED = 50, 3, 1, 7
RECIPES: dict[str, dict[str, Any]] = {
    "DiT and Minimax": {},
    "MGD3": {"mode_guidance": 0.1},
    "DDIM": {"scheduler": "ddim"},
    "DDIM with the pull": {"scheduler": "ddim", "mode_guidance": 0.1},
}


@pytest.fixture(scope="module", params=[True, False], ids=["learned variance", "no variance"])
def pipeline(request: pytest.FixtureRequest) -> Any:
    return tiny.dit_pipeline(learned=request.param)


def options_of(**change: Any) -> GeneratorOptions:
    return replace(GeneratorOptions(recipe="published", noise=1.0), **change)


def reverse(pipeline: Any, options: GeneratorOptions, start: int) -> Reverse:
    scheduler = Respaced(pipeline.scheduler, noisy=options.scheduler != "ddim")
    scheduler.set_timesteps(STEPS)
    pull = RespacedModeGuidance(options.mode_guidance, options.mode_stop) if options.mode_guidance else None
    return Reverse(scheduler, STEPS, start, from_noise=False, pull=pull)


def ours(pipeline: Any, options: GeneratorOptions, centroid: torch.Tensor, start: int) -> torch.Tensor:
    model = pipeline.transformer.double()
    labels = torch.tensor([NULL, LABEL])

    @torch.no_grad()
    def predict(state: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        both = model(torch.cat([state, state]), timestep=time.expand(2), class_labels=labels).sample
        return classifier_free(both, 4.0, guidance_channels(options))

    return reverse(pipeline, options, start).run(centroid, [SEED], predict)


def by_hand(pipeline: Any, options: GeneratorOptions, centroid: torch.Tensor, start: int) -> torch.Tensor:
    """The same steps. The posterior comes from the product of its two Gaussians instead of its usual coefficients."""
    model = pipeline.transformer.double()
    share = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)
    times = [round(k * 999 / (STEPS - 1)) for k in range(STEPS)]
    random = torch.Generator().manual_seed(SEED)
    noise = torch.randn(centroid.shape[1:], generator=random).double()
    first = STEPS - 1 - start
    x = share[times[first]].sqrt() * centroid + (1 - share[times[first]]).sqrt() * noise
    for k in range(first, -1, -1):
        now, then = share[times[k]], share[times[k - 1]] if k else torch.ones((), dtype=torch.float64)
        with torch.no_grad():
            given, without = (
                model(x, timestep=torch.tensor([times[k]]), class_labels=torch.tensor([label])).sample
                for label in (LABEL, NULL)
            )
        epsilon = given[:, :4].clone()
        epsilon[:, :3] = without[:, :3] + 4.0 * (given[:, :3] - without[:, :3])
        clean = (x - (1 - now).sqrt() * epsilon) / now.sqrt()
        deviation = sigma(share, times, k, given)
        if options.scheduler == "ddim":
            mean = then.sqrt() * clean + (1 - then).sqrt() * epsilon
        elif k:
            alpha = now / then
            precision = 1 / (1 - then) + alpha / (1 - alpha)
            mean = (then.sqrt() * clean / (1 - then) + alpha.sqrt() * x / (1 - alpha)) / precision
        else:
            mean = clean
        x = mean
        if options.mode_guidance and k > 25:
            x = x + options.mode_guidance * deviation * (centroid - clean)
        if k and options.scheduler != "ddim":
            x = x + deviation * torch.randn(centroid.shape[1:], generator=random).double()
    return x


def sigma(share: torch.Tensor, times: list[int], k: int, given: torch.Tensor) -> torch.Tensor:
    """Between the deviation of the posterior and √β on a logarithmic scale, as the model says."""
    beta = 1 - share[times[k]] / (share[times[k - 1]] if k else 1)
    j = max(k, 1)  # at the last time the posterior has no variance, and that of the time before is taken
    alpha = share[times[j]] / share[times[j - 1]]
    smallest = 1 / (1 / (1 - share[times[j - 1]]) + alpha / (1 - alpha))
    if given.shape[1] == 4:
        return smallest.sqrt()
    at = (given[:, 4:] + 1) / 2
    return smallest ** ((1 - at) / 2) * beta ** (at / 2)


@pytest.mark.parametrize("change", RECIPES.values(), ids=RECIPES)
@pytest.mark.parametrize("start", [0, 24, 49])
def test_published_steps_are_those_of_their_definitions(change: dict[str, Any], start: int, pipeline: Any) -> None:
    options = options_of(**change)
    centroid = torch.randn(1, 4, tiny.SIDE, tiny.SIDE, generator=torch.Generator().manual_seed(1)).double()
    found, expected = (one(pipeline, options, centroid, start) for one in (ours, by_hand))
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_times_go_from_0_to_999() -> None:
    scheduler = Respaced(tiny.dit_pipeline().scheduler, noisy=True)
    scheduler.set_timesteps(50)
    assert scheduler.timesteps[:3].tolist() == [999, 979, 958]
    assert scheduler.timesteps[-3:].tolist() == [41, 20, 0]


def test_of_four_channels_three_are_guided_as_published() -> None:
    both = torch.arange(2 * 8.0).view(2, 8, 1, 1)
    guided = classifier_free(both, 2.0, guidance_channels(options_of()))
    assert guided.flatten().tolist() == [16, 17, 18, 11, 12, 13, 14, 15]
    assert guidance_channels(GeneratorOptions()) is None
    assert guidance_channels(options_of(guidance_channels=4)) == 4


def test_a_generator_of_the_recipe(tmp_path: Path) -> None:
    where = tiny.saved(tiny.dit_pipeline(), tmp_path / "dit", tiny.ANIMALS)
    codec = open_codec(f"kl:{where}")

    def opened(options: GeneratorOptions) -> Any:
        kwargs = {"classes": tiny.ANIMALS, "codec": codec, "size": 2 * tiny.SIDE, "device": "cpu"}
        return open_generator(f"dit:{where}", options=options, **kwargs)

    asked = Wanted(torch.randn(2, 4, tiny.SIDE, tiny.SIDE), torch.tensor([0, 2]), (1, 2))
    pipeline, published = opened(GeneratorOptions(steps=4)), opened(GeneratorOptions(steps=4, recipe="published"))
    images = published(asked)
    assert images.shape == (2, 3, 2 * tiny.SIDE, 2 * tiny.SIDE)
    torch.testing.assert_close(images[1:], published(asked.rows([1])), rtol=0, atol=2e-5)
    assert float((images - pipeline(asked)).abs().max()) > 1e-3
    assert published.digest != pipeline.digest
    with pytest.raises(UserError, match="recipe published samples by ddpm or ddim, not by euler"):
        opened(GeneratorOptions(recipe="published", scheduler="euler"))


def test_models_that_predict_something_else_have_no_published_sampler() -> None:
    own = SimpleNamespace(config=SimpleNamespace(prediction_type="v_prediction"))
    with pytest.raises(UserError, match="recipe published is for models that predict noise"):
        Respaced(own, noisy=True)
