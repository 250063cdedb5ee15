from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from raycond.core.errors import UserError
from raycond.data.classes import Classes
from raycond.models.codecs.registry import open_codec
from raycond.models.generators.base import Generator, Wanted
from raycond.models.generators.options import GeneratorOptions
from raycond.models.generators.registry import describe, open_generator
from raycond.models.generators.sampler import SCHEDULERS
from tests.models.generators import tiny

SIZE = 2 * tiny.SIDE
OPTIONS = GeneratorOptions(steps=10)
FAMILIES = ("sd", "sdxl", "sd3")
CHANNELS = {"sd": 4, "sdxl": 4, "sd3": 16}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, str]]:
    """Family → the bare image-to-image pipeline and the folder it was saved to."""
    found = {}
    for name in FAMILIES:
        folder = tmp_path_factory.mktemp(name)
        pipeline = getattr(tiny, f"{name}_pipeline")(folder)
        pipeline.set_progress_bar_config(disable=True)
        found[name] = pipeline, tiny.saved(pipeline, folder / "pipeline")
    return found


def opened(where: str, options: GeneratorOptions = OPTIONS, classes: Classes = tiny.ANIMALS, **other: Any) -> Generator:
    other = {"codec": open_codec(f"kl:{where}"), "size": SIZE, "device": "cpu"} | other
    return open_generator(f"sd:{where}", options=options, classes=classes, **other)


def wanted(family: str = "sd", labels: tuple[int, ...] = (0, 1, 2), seed: int = 0) -> Wanted:
    random = torch.Generator().manual_seed(seed)
    latents = torch.randn(len(labels), CHANNELS[family], tiny.SIDE, tiny.SIDE, generator=random)
    return Wanted(latents, torch.tensor(labels), tuple(100 + k for k in range(len(labels))))


def bare(pipeline: Any, asked: Wanted, options: GeneratorOptions, *, guidance: float = 8.0, **other: Any) -> Any:
    """The images of diffusers' own image-to-image, which takes latents of the right channels as they are."""
    sizes = {"height": SIZE, "width": SIZE} if "StableDiffusion3" in type(pipeline).__name__ else {}
    negative = [options.negative_prompt] * len(asked)
    return pipeline(
        prompt=[tiny.ANIMALS.names[label] for label in asked.labels.tolist()],
        image=asked.latents,
        strength=options.strength,
        num_inference_steps=options.steps,
        guidance_scale=guidance,
        generator=[torch.Generator().manual_seed(seed) for seed in asked.seeds],
        output_type="pt",
        **{"negative_prompt": negative} | sizes | other,
    ).images


def assert_close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=2e-5)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("strength", [0.29, 0.7])  # of 10 steps: SD 3 starts one earlier where it is not whole
def test_equals_diffusers(family: str, strength: float, saved: dict[str, tuple[Any, str]]) -> None:
    pipeline, where = saved[family]
    options = replace(OPTIONS, strength=strength)
    images = opened(where, options)(wanted(family))
    assert (images.shape, images.dtype) == ((3, 3, SIZE, SIZE), torch.float32)
    assert float(images.std()) > 0.05
    assert_close(images, bare(pipeline, wanted(family), options))


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("strength", [0.35, 1.0])
def test_equals_diffusers_with_every_scheduler(
    scheduler: str, strength: float, saved: dict[str, tuple[Any, str]]
) -> None:
    import diffusers

    pipeline, where = saved["sd"]
    options = replace(OPTIONS, scheduler=scheduler, strength=strength)  # type: ignore[arg-type]
    kind = getattr(diffusers, SCHEDULERS[scheduler])
    other = {"clip_sample": False} if scheduler in ("ddim", "ddpm") else {}
    own = pipeline.scheduler
    pipeline.scheduler = kind.from_config(type(own).from_pretrained(f"{where}/scheduler").config, **other)
    try:
        expected = bare(pipeline, wanted(), options)
    finally:
        pipeline.scheduler = own
    assert_close(opened(where, options)(wanted()), expected)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("scheduler", [None, "ddpm"])
def test_an_image_depends_on_its_own_latent_label_and_seed_only(
    family: str, scheduler: Any, saved: dict[str, tuple[Any, str]]
) -> None:
    if family == "sd3" and scheduler:
        pytest.skip("flow matching has its own")
    where, options = saved[family][1], replace(OPTIONS, scheduler=scheduler)
    asked = wanted(family, (0, 1, 2, 1, 0))
    together = opened(where, options)(asked)
    alone = opened(where, replace(options, batch=1))(asked)
    pairs = opened(where, replace(options, batch=2))
    for images in (alone, pairs(asked)):
        assert_close(images, together)
        moved = (images * 255).round() - (together * 255).round()  # a value between two numbers may fall either way
        assert float(moved.abs().max()) <= 1
        assert float(moved.count_nonzero()) <= 1e-3 * moved.numel() + 1
    # as if other workers had made them, in another order
    for rows in ([4, 2], [3], [1, 0]):
        assert_close(pairs(asked.rows(rows)), together[rows])
    assert torch.equal(opened(where, options)(asked), together)
    reseeded = opened(where, options)(asked.reseeded(1))
    assert float((reseeded - together).abs().flatten(1).amax(1).min()) > 0.01


def test_no_stream_of_the_process_is_used(saved: dict[str, tuple[Any, str]]) -> None:
    before = torch.get_rng_state()
    opened(saved["sd"][1], replace(OPTIONS, scheduler="ddpm"))(wanted())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("guidance", [0.0, 1.0, 3.0])
def test_guidance(guidance: float, saved: dict[str, tuple[Any, str]]) -> None:
    pipeline, where = saved["sd"]
    images = opened(where, replace(OPTIONS, guidance=guidance))(wanted())
    assert_close(images, bare(pipeline, wanted(), OPTIONS, guidance=guidance))


@pytest.mark.parametrize("family", FAMILIES)
def test_no_negative_prompt_is_what_diffusers_does_without_one(family: str, saved: dict[str, tuple[Any, str]]) -> None:
    pipeline, where = saved[family]
    images = opened(where, replace(OPTIONS, negative_prompt=""))(wanted(family))
    assert_close(images, bare(pipeline, wanted(family), OPTIONS, negative_prompt=None))


def test_prompts_come_from_the_template_and_belong_to_the_class(saved: dict[str, tuple[Any, str]]) -> None:
    """Two classes of one name: keyed by their prompts, one would take the other's place."""
    cranes = Classes(("lake", "dock"), ("crane", "crane"))
    options = replace(OPTIONS, prompt="a photo of {name}, {id}")
    generator = opened(saved["sd"][1], options, cranes)
    assert generator.description.conditions == ("a photo of crane, lake", "a photo of crane, dock")
    images = generator(Wanted(torch.zeros(2, 4, 8, 8), torch.tensor([0, 1]), (1, 1)))
    assert not torch.allclose(images[0], images[1])


@pytest.mark.parametrize(
    ("names", "prompt", "says"),
    [
        (("crane", "crane"), "{name}", "the prompt of both is the same"),
        (("Crane", " crane"), "a {name}", "the prompt of both is the same"),
        (("dog", "cat"), "a photo", "the prompt of both is the same"),
        (("a" * 60 + "b", "a" * 60 + "c"), "{name}", "what the model reads of the prompt of both is the same"),
    ],
)
def test_two_classes_never_share_a_prompt(
    names: tuple[str, str], prompt: str, says: str, saved: dict[str, tuple[Any, str]]
) -> None:
    classes = Classes(("lake", "dock"), names)
    with pytest.raises(
        UserError, match=rf"classes lake \(.*\) and dock \(.*\): {says}: give the classes different names"
    ):
        opened(saved["sd"][1], replace(OPTIONS, prompt=prompt), classes)


def test_names_may_have_braces(saved: dict[str, tuple[Any, str]]) -> None:
    odd = Classes(("a",), ("{odd} {0}",))
    described = opened(saved["sd"][1], OPTIONS, odd).description
    assert described.conditions == ("{odd} {0}",)


def test_a_prompt_can_be_the_whole_line_of_synonyms(saved: dict[str, tuple[Any, str]]) -> None:
    generator = opened(saved["sd"][1], replace(OPTIONS, prompt="{synset}"))
    lines = ("tench, Tinca tinca", "English springer, English springer spaniel", "cassette player")
    assert generator.description is not None
    assert generator.description.conditions == lines


@pytest.mark.parametrize("prompt", ["{label}", "{0}", "{", "{name.x}"])
def test_wrong_templates(prompt: str, saved: dict[str, tuple[Any, str]]) -> None:
    with pytest.raises(UserError, match=r"expected text with \{name\}, \{synset\} or \{id\}"):
        opened(saved["sd"][1], replace(OPTIONS, prompt=prompt))


def test_a_prompt_is_encoded_once_a_class(saved: dict[str, tuple[Any, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    generator: Any = opened(saved["sd"][1], replace(OPTIONS, batch=2))
    asked: list[str] = []
    encode = generator._pipeline.encode_prompt
    monkeypatch.setattr(generator._pipeline, "encode_prompt", lambda **o: (asked.append(o["prompt"]), encode(**o))[1])
    generator(wanted(labels=(0, 1, 0, 1, 1)))
    generator(wanted(labels=(1, 0)))
    assert sorted(asked) == ["", "English springer", "tench"]


def test_the_safety_checker_is_never_loaded(saved: dict[str, tuple[Any, str]], tmp_path: Path) -> None:
    where = Path(shutil.copytree(saved["sd"][1], tmp_path / "sd"))
    index = json.loads((where / "model_index.json").read_text())
    checker = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    (where / "model_index.json").write_text(json.dumps(index | {"safety_checker": checker}))
    images = opened(str(where))(wanted())
    assert torch.equal(images, opened(saved["sd"][1])(wanted()))


def test_bfloat16_is_close(saved: dict[str, tuple[Any, str]]) -> None:
    exact = opened(saved["sd"][1], OPTIONS)(wanted())
    half = opened(saved["sd"][1], OPTIONS, dtype="bfloat16")(wanted())
    assert 0 < float((exact - half).abs().mean()) < 0.02


def test_little_strength_keeps_the_centroid(saved: dict[str, tuple[Any, str]]) -> None:
    where = saved["sd"][1]
    decoded = open_codec(f"kl:{where}").decode(wanted().latents)
    # a model without weights says nothing of use, so less of it is closer to what it started from
    away = [
        float((opened(where, replace(OPTIONS, strength=s, guidance=1.0))(wanted()) - decoded).abs().mean())
        for s in (0.1, 0.4, 1.0)
    ]
    assert away == sorted(away)
    assert away[0] < 0.5 * away[2]


@pytest.mark.parametrize("scheduler", ["ddpm", "ddim", "dpm"])
def test_mode_guidance_pulls(scheduler: Any, saved: dict[str, tuple[Any, str]]) -> None:
    where = saved["sd"][1]
    options = replace(OPTIONS, scheduler=scheduler, strength=1.0, guidance=1.0)
    decoded = open_codec(f"kl:{where}").decode(wanted().latents)
    away = [
        float((opened(where, replace(options, mode_guidance=m, mode_stop=0.0))(wanted()) - decoded).square().mean())
        for m in (0.0, 0.1, 0.3)
    ]
    assert away == sorted(away, reverse=True)
    assert len(set(away)) == 3


@pytest.mark.parametrize(
    ("family", "change", "complaint"),
    [
        ("sd", {"strength": 0.05}, "strength 0.05 of 10 steps leaves no step to run"),
        ("sd", {"steps": 1001}, "steps 1001: .* has 1000 times"),
        ("sd", {"mode_guidance": 0.1}, "schedulers ddpm, ddim and dpm, not with PNDMScheduler"),
        ("sd", {"mode_guidance": 0.1, "scheduler": "euler"}, "not with EulerDiscreteScheduler"),
        ("sd", {"mode_guidance": 0.1, "scheduler": "ddim", "strength": 0.4}, "mode_guidance would never act"),
        ("sd3", {"scheduler": "ddim"}, "trained by flow matching, for which there is no scheduler"),
        ("sd3", {"mode_guidance": 0.1}, "trained by flow matching, for which there is no mode_guidance"),
    ],
)
def test_options_that_do_not_fit(
    family: str, change: dict[str, Any], complaint: str, saved: dict[str, tuple[Any, str]]
) -> None:
    where = saved[family][1]
    with pytest.raises(UserError, match=complaint):
        describe(
            f"sd:{where}",
            options=replace(OPTIONS, **change),
            classes=tiny.ANIMALS,
            codec=open_codec(f"kl:{where}"),
            size=SIZE,
        )


@pytest.mark.parametrize("family", ["sd", "sd3"])
def test_sizes_that_do_not_fit(family: str, saved: dict[str, tuple[Any, str]]) -> None:
    with pytest.raises(UserError, match="--size 18: expected a multiple of 4"):
        opened(saved[family][1], size=18)


def test_a_size_beyond_the_positions(saved: dict[str, tuple[Any, str]]) -> None:
    with pytest.raises(UserError, match="cannot make images as large as --size 64"):
        opened(saved["sd3"][1], size=64)


def rewritten(where: str, folder: Path, file: str, change: dict[str, Any]) -> str:
    copy = Path(shutil.copytree(where, folder / "pipeline"))
    content = json.loads((copy / file).read_text())
    (copy / file).write_text(json.dumps(content | change))
    return str(copy)


@pytest.mark.parametrize(
    ("family", "file", "change", "complaint"),
    [
        ("sd", "model_index.json", {"_class_name": "FluxPipeline"}, "FluxPipeline is not supported: Flux packs"),
        ("sd", "model_index.json", {"_class_name": "DiTPipeline"}, "DiTPipeline is not supported; supported are"),
        ("sd", "unet/config.json", {"in_channels": 9}, "takes 9 channels: it edits or fills images"),
        ("sd", "unet/config.json", {"time_cond_proj_dim": 8}, "is a consistency model"),
        ("sdxl", "model_index.json", {"requires_aesthetics_score": True}, "is SDXL's refiner"),
        (
            "sd",
            "model_index.json",
            {"scheduler": ["diffusers", "DPMSolverSDEScheduler"]},
            "its own DPMSolverSDEScheduler is not supported; give a scheduler: ddim, ddpm",
        ),
        ("sd3", "scheduler/scheduler_config.json", {"use_dynamic_shifting": True}, "depends on the image size"),
    ],
)
def test_pipelines_that_do_not_fit(
    family: str, file: str, change: dict[str, Any], complaint: str, saved: dict[str, tuple[Any, str]], tmp_path: Path
) -> None:
    where = saved[family][1]
    with pytest.raises(UserError, match=complaint):
        opened(rewritten(where, tmp_path, file, change), codec=open_codec(f"kl:{where}"))


def test_v_prediction(saved: dict[str, tuple[Any, str]], tmp_path: Path) -> None:
    pipeline, where = saved["sd"]
    copy = rewritten(where, tmp_path, "scheduler/scheduler_config.json", {"prediction_type": "v_prediction"})
    own = pipeline.scheduler
    pipeline.scheduler = type(own).from_pretrained(f"{copy}/scheduler")
    try:
        expected = bare(pipeline, wanted(), OPTIONS)
    finally:
        pipeline.scheduler = own
    assert_close(opened(copy)(wanted()), expected)
