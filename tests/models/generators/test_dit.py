from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from raycond.core import files
from raycond.core.errors import ClassMismatch, UserError
from raycond.data.classes import Classes
from raycond.models.codecs.registry import open_codec
from raycond.models.generators.base import Generator, Wanted
from raycond.models.generators.class_map import imagenet_indices
from raycond.models.generators.options import GeneratorOptions
from raycond.models.generators.registry import open_generator
from tests.models.generators import tiny

SIZE = 2 * tiny.SIDE
OPTIONS = GeneratorOptions(steps=10, noise=1.0)
NETTE = (0, 217, 482)  # ImageNet's labels of tiny.ANIMALS


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, str]]:
    """A model of three classes with a classes.json, and two of ImageNet's 1,000 without."""
    made = {
        "three": (tiny.dit_pipeline(), tiny.ANIMALS),
        "imagenet": (tiny.dit_pipeline(1000), None),
        "no variance": (tiny.dit_pipeline(1000, learned=False), None),
    }
    found = {}
    for name, (pipeline, classes) in made.items():
        pipeline.set_progress_bar_config(disable=True)
        found[name] = pipeline, tiny.saved(pipeline, tmp_path_factory.mktemp("dit") / "dit", classes)
    return found


def opened(where: str, options: GeneratorOptions = OPTIONS, classes: Classes = tiny.ANIMALS, **other: Any) -> Generator:
    other = {"codec": open_codec(f"kl:{where}"), "size": SIZE, "device": "cpu"} | other
    return open_generator(f"dit:{where}", options=options, classes=classes, **other)


def wanted(labels: tuple[int, ...] = (0, 1, 2), seed: int = 0) -> Wanted:
    random = torch.Generator().manual_seed(seed)
    latents = torch.randn(len(labels), 4, tiny.SIDE, tiny.SIDE, generator=random)
    return Wanted(latents, torch.tensor(labels), tuple(100 + k for k in range(len(labels))))


def assert_close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=2e-5)


def streams(asked: Wanted) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in asked.seeds]


@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize("scheduler", [None, "ddim", "dpm", "pndm"])
@pytest.mark.parametrize("model", ["imagenet", "no variance"])
def test_noise_alone_is_diffusers_pipeline(
    model: str, scheduler: Any, guidance: float, saved: dict[str, tuple[Any, str]]
) -> None:
    import diffusers

    from raycond.models.generators.sampler import SCHEDULERS

    pipeline, where = saved[model]
    own = pipeline.scheduler
    if scheduler is not None:
        other = {"skip_prk_steps": True} if scheduler == "pndm" else {}
        config = type(own).from_pretrained(f"{where}/scheduler").config
        pipeline.scheduler = getattr(diffusers, SCHEDULERS[scheduler]).from_config(config, **other)
    try:
        expected = pipeline(
            list(NETTE), guidance_scale=guidance, generator=streams(wanted()), num_inference_steps=10, output_type="pt"
        ).images
    finally:
        pipeline.scheduler = own
    images = opened(where, replace(OPTIONS, scheduler=scheduler, guidance=guidance))(wanted())
    assert_close(images, expected)
    assert float(images.std()) > 0.05


def by_hand(pipeline: Any, asked: Wanted, labels: list[int], options: GeneratorOptions, null: int) -> torch.Tensor:
    """DDPM from the noised centroid with MGD3's pull, written down from the papers' equations, one image at a time."""
    model = pipeline.transformer
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    cumulative = (1 - betas).cumprod(0)
    jump = 1000 // options.steps
    times = [t for t in range(1000 - jump, -1, -jump) if t <= options.noise * 1000]
    found = []
    for centroid, label, seed in zip(asked.latents, labels, asked.seeds, strict=True):
        random = torch.Generator().manual_seed(seed)
        noise = torch.randn(centroid.shape, generator=random)
        if options.noise == 1:
            x = noise
        else:
            x = cumulative[times[0]].sqrt() * centroid + (1 - cumulative[times[0]]).sqrt() * noise
        x = x[None].float()
        for t in times:
            s = t - jump
            now, then = cumulative[t], cumulative[s] if s >= 0 else torch.tensor(1.0)
            with torch.no_grad():
                given, without = (
                    model(x, timestep=torch.tensor([t]), class_labels=torch.tensor([k])).sample[:, :4]
                    for k in (label, null)
                )
            noise_found = without + 4.0 * (given - without)
            clean = (x - (1 - now).sqrt() * noise_found) / now.sqrt()
            alpha = now / then
            mean = then.sqrt() * (1 - alpha) / (1 - now) * clean + alpha.sqrt() * (1 - then) / (1 - now) * x
            sigma = ((1 - then) / (1 - now) * (1 - alpha)).sqrt()
            after = mean
            if t > 0:
                after = after + sigma * torch.randn((1, *centroid.shape), generator=random)
            if t > options.mode_stop * 1000:
                after = after + options.mode_guidance * sigma * (centroid - clean)
            x = after.float()
        found.append(x)
    scaled = torch.cat(found) / 0.18215
    with torch.no_grad():
        images: torch.Tensor = (pipeline.vae.decode(scaled).sample / 2 + 0.5).clamp(0, 1)
    return images


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"noise": 0.5},
        {"mode_guidance": 0.1},
        {"mode_guidance": 0.5, "mode_stop": 0.25, "noise": 0.6},
    ],
)
def test_ddpm_and_mode_guidance_are_the_papers_equations(
    change: dict[str, Any], saved: dict[str, tuple[Any, str]]
) -> None:
    pipeline, where = saved["three"]
    options = replace(OPTIONS, scheduler="ddpm", **change)
    images = opened(where, options)(wanted())
    torch.testing.assert_close(images, by_hand(pipeline, wanted(), [0, 1, 2], options, 3), rtol=0, atol=2e-4)


def test_mode_guidance_changes_something(saved: dict[str, tuple[Any, str]]) -> None:
    options = replace(OPTIONS, scheduler="ddpm")
    without = opened(saved["three"][1], options)(wanted())
    guided = opened(saved["three"][1], replace(options, mode_guidance=0.1))(wanted())
    assert float((without - guided).abs().max()) > 1e-3


@pytest.mark.parametrize("noise", [0.5, 1.0])
@pytest.mark.parametrize("scheduler", [None, "ddpm", "dpm", "euler"])
def test_an_image_depends_on_its_own_latent_label_and_seed_only(
    scheduler: Any, noise: float, saved: dict[str, tuple[Any, str]]
) -> None:
    options = replace(OPTIONS, scheduler=scheduler, noise=noise)
    if scheduler == "ddpm":
        options = replace(options, mode_guidance=0.1, mode_stop=0.2)
    where, asked = saved["three"][1], wanted((2, 0, 1, 1, 0))
    together = opened(where, options)(asked)
    for batch in (1, 2):
        other = opened(where, replace(options, batch=batch))
        assert_close(other(asked), together)
        assert torch.equal((other(asked) * 255).round(), (together * 255).round())
        for rows in ([4, 2], [3], [1, 0]):
            assert_close(other(asked.rows(rows)), together[rows])
    assert torch.equal(opened(where, options)(asked), together)


def test_labels_and_seeds_matter(saved: dict[str, tuple[Any, str]]) -> None:
    generator = opened(saved["three"][1], replace(OPTIONS, noise=0.5))
    latents = torch.zeros(4, 4, 8, 8)
    images = generator(Wanted(latents, torch.tensor([0, 1, 0, 0]), (1, 1, 2, 1)))
    assert not torch.allclose(images[0], images[1])
    assert not torch.allclose(images[0], images[2])
    assert_close(images[0], images[3])


@pytest.mark.parametrize(
    ("noise", "first", "count"),
    [
        (1.0, 980, 50),
        (0.5, 500, 26),
        (0.49, 500, 26),
        (0.489, 480, 25),
        (0.001, 0, 1),
        (0.999, 980, 50),
        (0.511, 520, 27),
    ],
)
def test_where_the_process_starts(noise: float, first: int, count: int, saved: dict[str, tuple[Any, str]]) -> None:
    """At the nearest time, and of two the noisier: 490 lies between 480 and 500."""
    generator: Any = opened(saved["three"][1], GeneratorOptions(steps=50, noise=noise))
    times = generator._reverse._begin()
    assert (int(times[0]), len(times)) == (first, count)
    assert generator._reverse.from_noise == (noise == 1)


def test_the_centroid_shows_only_where_it_should(saved: dict[str, tuple[Any, str]]) -> None:
    asked, where = wanted(), saved["three"][1]
    other = replace(asked, latents=-asked.latents)
    assert torch.equal(opened(where, OPTIONS)(asked), opened(where, OPTIONS)(other))
    half = opened(where, replace(OPTIONS, noise=0.5))
    assert float((half(asked) - half(other)).abs().mean()) > 0.05


@pytest.mark.parametrize("dtype", ["bfloat16"])
def test_half_precision_is_close(dtype: str, saved: dict[str, tuple[Any, str]]) -> None:
    exact = opened(saved["three"][1])(wanted())
    half = opened(saved["three"][1], dtype=dtype)(wanted())
    assert 0 < float((exact - half).abs().mean()) < 0.02


# ---- which class is which


def indices(where: str, classes: Classes = tiny.ANIMALS, **options: Any) -> tuple[str, ...]:
    return opened(where, replace(OPTIONS, **options), classes).description.conditions


def test_classes_json_of_the_same_classes(saved: dict[str, tuple[Any, str]]) -> None:
    assert indices(saved["three"][1]) == ("0", "1", "2")


@pytest.mark.parametrize("change", ["order", "fewer", "others"])
def test_classes_json_of_other_classes(change: str, saved: dict[str, tuple[Any, str]]) -> None:
    ids = {
        "order": ("n02102040", "n01440764", "n02979186"),
        "fewer": ("n01440764", "n02102040"),
        "others": ("n01440764", "n02102040", "n03000684"),
    }[change]
    with pytest.raises(ClassMismatch, match=r"classes.json of dit:dit \(3\): n01440764, n02102040, n02979186"):
        indices(saved["three"][1], Classes.of(ids))


def test_a_table_larger_than_the_classes(saved: dict[str, tuple[Any, str]], tmp_path: Path) -> None:
    """As raycond's own training leaves it: "no class" is the end of the table, not the end of the classes."""
    where = Path(shutil.copytree(saved["imagenet"][1], tmp_path / "dit"))
    files.write_json(str(where / "classes.json"), list(tiny.ANIMALS.ids))
    assert indices(str(where)) == ("0", "1", "2")
    options = replace(OPTIONS, scheduler="ddpm", noise=0.5)
    images = opened(str(where), options)(wanted())
    expected = by_hand(saved["imagenet"][0], wanted(), [0, 1, 2], options, 1000)
    torch.testing.assert_close(images, expected, rtol=0, atol=2e-4)
    (where / "classes.json").unlink()
    (where / "raycond.json").write_text("{}")
    with pytest.raises(UserError, match=r"its classes\.json is missing"):
        indices(str(where))


def test_a_list_longer_than_the_table(saved: dict[str, tuple[Any, str]], tmp_path: Path) -> None:
    where = Path(shutil.copytree(saved["three"][1], tmp_path / "dit"))
    four = Classes.of(("a", "b", "c", "d"))
    files.write_json(str(where / "classes.json"), list(four.ids))
    with pytest.raises(UserError, match=r"classes\.json has 4 classes, and the model 3"):
        indices(str(where), four)


def test_imagenet_by_wordnet_id(saved: dict[str, tuple[Any, str]]) -> None:
    assert indices(saved["imagenet"][1]) == ("0", "217", "482")
    woof = Classes.of(("n02096294", "n02093754"))
    assert imagenet_indices(woof) == (193, 182)
    assert imagenet_indices(Classes.of(("n02096294", "n99999999"))) is None


@pytest.mark.parametrize("ids", [("tench", "dog"), ("n02096294", "n99999999")])
def test_a_thousand_classes_that_are_not_imagenets(ids: tuple[str, ...], saved: dict[str, tuple[Any, str]]) -> None:
    with pytest.raises(UserError, match=r"they are not WordNet ids of ImageNet-1K; give class_map"):
        indices(saved["imagenet"][1], Classes.of(ids))


def test_nothing_is_guessed_from_a_number(saved: dict[str, tuple[Any, str]], tmp_path: Path) -> None:
    where = Path(shutil.copytree(saved["three"][1], tmp_path / "dit"))
    (where / "classes.json").unlink()
    with pytest.raises(UserError, match=r"which of its 3 classes are the 3 of the data.*no classes.json; give class_m"):
        indices(str(where))
    assert indices(str(where), class_map="2+0+1") == ("2", "0", "1")


def test_class_map_from_a_file(saved: dict[str, tuple[Any, str]], tmp_path: Path) -> None:
    mapping = str(tmp_path / "map.json")
    files.write_json(mapping, [5, 3, 999])
    assert indices(saved["imagenet"][1], class_map=mapping) == ("5", "3", "999")
    files.write_json(mapping, {"n02979186": 1, "n01440764": 2, "n02102040": 3, "other": 4})
    assert indices(saved["imagenet"][1], class_map=mapping) == ("2", "3", "1")
    files.write_json(mapping, {"n02979186": 1})
    with pytest.raises(UserError, match="has no class n01440764, n02102040"):
        indices(saved["imagenet"][1], class_map=mapping)
    with pytest.raises(UserError, match=r"class_map .*none.json: cannot be read"):
        indices(saved["imagenet"][1], class_map=str(tmp_path / "none.json"))


@pytest.mark.parametrize("option", ["0+1", "0+1+3", "0+1+1", "0+1+x", "", "0+1+-1", "0+1+1.0"])
def test_class_maps_that_are_none(option: str, saved: dict[str, tuple[Any, str]]) -> None:
    with pytest.raises(UserError, match="expected 3 different numbers from 0 to 2, one for each class in order"):
        indices(saved["three"][1], class_map=option)


# ---- what does not fit


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"noise": 0.5, "mode_guidance": 0.1}, "mode_guidance would never act: the process starts at time 500, and"),
        ({"mode_guidance": 0.1, "scheduler": "pndm"}, "not with PNDMScheduler"),
        ({"steps": 1001}, "steps 1001"),
    ],
)
def test_options_that_do_not_fit(change: dict[str, Any], complaint: str, saved: dict[str, tuple[Any, str]]) -> None:
    with pytest.raises(UserError, match=complaint):
        opened(saved["three"][1], replace(OPTIONS, **change))


def test_a_size_that_does_not_fit(saved: dict[str, tuple[Any, str]]) -> None:
    with pytest.raises(
        UserError, match="works on latents of 8 × 8, and images of --size 32 have 16 × 16; give --size 1"
    ):
        opened(saved["three"][1], size=32)


def test_another_pipeline(tmp_path: Path) -> None:
    where = tiny.saved(tiny.sd_pipeline(tmp_path), tmp_path / "sd")
    with pytest.raises(UserError, match="is a StableDiffusionImg2ImgPipeline, not a DiTPipeline"):
        opened(where)


# ---- folders as older diffusers wrote them


def legacy(where: str, folder: Path, content: Any) -> str:
    """facebook/DiT-XL-2-256: its model under a former name, and weights only as torch's own file."""
    copy = Path(shutil.copytree(where, folder / "dit"))
    index = json.loads((copy / "model_index.json").read_text())
    index["transformer"] = ["diffusers", "Transformer2DModel"]
    (copy / "model_index.json").write_text(json.dumps(index))
    config = json.loads((copy / "transformer" / "config.json").read_text())
    config |= {"_class_name": "Transformer2DModel", "cross_attention_dim": None, "num_vector_embeds": None}
    (copy / "transformer" / "config.json").write_text(json.dumps(config))
    (copy / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    torch.save(content, copy / "transformer" / "diffusion_pytorch_model.bin")
    weights = copy / "vae" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(weights), weights.with_suffix(".bin"))
    weights.unlink()
    return str(copy)


def test_a_folder_of_facebooks_form(saved: dict[str, tuple[Any, str]], tmp_path: Path) -> None:
    pipeline, where = saved["imagenet"]
    old = legacy(where, tmp_path, pipeline.transformer.state_dict())
    assert torch.equal(opened(old)(wanted()), opened(where)(wanted()))
    assert open_codec(f"kl:{old}").digest == open_codec(f"kl:{where}").digest


class _Trap:
    def __reduce__(self) -> Any:
        return (print, ("unpickled",))


def test_nothing_is_unpickled(
    saved: dict[str, tuple[Any, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = legacy(saved["imagenet"][1], tmp_path, {"x": _Trap()})
    with pytest.raises(UserError, match="cannot load its transformer"):
        opened(old)
    assert "unpickled" not in capsys.readouterr().out
