from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydantic
import pytest
import torch

from raycond.core import files
from raycond.core.errors import UserError
from raycond.data.classes import Classes
from raycond.models.codecs.registry import open_codec
from raycond.models.generators.base import Wanted
from raycond.models.generators.options import GeneratorOptions
from raycond.models.generators.registry import GENERATORS, GeneratorEntry, describe, open_generator
from raycond.pipelines.quantize.config import load_config
from tests.models.generators import tiny

OPTIONS = GeneratorOptions(steps=4)
SIZE = 2 * tiny.SIDE


@pytest.fixture(scope="module")
def dit(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny.saved(tiny.dit_pipeline(), tmp_path_factory.mktemp("pipelines") / "dit", tiny.ANIMALS)


@pytest.fixture(scope="module")
def sd(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("pipelines")
    return tiny.saved(tiny.sd_pipeline(folder), folder / "sd")


def described(spec: str, *, vae: str, options: GeneratorOptions = OPTIONS, classes: Classes = tiny.ANIMALS) -> Any:
    return describe(spec, options=options, classes=classes, codec=open_codec(f"kl:{vae}"), size=SIZE)


def copied(source: str, folder: Path) -> str:
    return str(shutil.copytree(source, folder))


@pytest.mark.parametrize(
    "wrong",
    [
        {"strength": 0},
        {"strength": 1.1},
        {"noise": 0},
        {"steps": 0},
        {"guidance": -1},
        {"scheduler": "heun"},
        {"mode_stop": 1},
        {"batch": 0},
        {"unknown": 1},
    ],
)
def test_options_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(pydantic.ValidationError):
        GeneratorOptions(**wrong)


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ("sd", r"--generator sd: expected sd:NAME\|FOLDER, Stable Diffusion"),
        ("dit:", r"--generator dit:: expected dit:NAME\|FOLDER, "),
        ("vae:x", r"--generator vae:x: expected vae, "),
        ("medoids", r"--generator medoids: not one of vae, medoid, sd:NAME.*; did you mean medoid\?"),
        ("flux:x", r"--generator flux: not one of vae, "),
        ("", r"--generator : not one of "),
    ],
)
def test_unknown_kinds_are_listed(spec: str, complaint: str, dit: str) -> None:
    with pytest.raises(UserError, match=complaint):
        described(spec, vae=dit)
    with pytest.raises(UserError, match=complaint):
        load_config({"data": "x", "generator": spec})


def test_a_new_generator_is_one_file_and_one_entry(
    new_file: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = new_file("""
        from raycond.models.generators.base import Generator

        class Negative(Generator):
            name = "negative"

            def __call__(self, wanted):
                return 1 - self.context.codec.decode(wanted.latents)
    """)
    entry = GeneratorEntry("negative", "dark is bright", f"{module}:Negative")
    monkeypatch.setitem(GENERATORS.entries, "negative", entry)
    config = load_config({"data": "x", "generator": "negative"})
    common: dict[str, Any] = {"options": OPTIONS, "classes": tiny.ANIMALS, "codec": open_codec("pixels"), "size": 2}
    assert describe(config.generator, **common) is None
    images = open_generator(config.generator, device="cpu", **common)(
        Wanted(torch.full((1, 3, 2, 2), 0.25), torch.tensor([0]), (0,))
    )
    assert torch.equal(images, torch.full((1, 3, 2, 2), 0.75))


@pytest.mark.parametrize("kind", ["sd", "dit"])
@pytest.mark.parametrize("where", ["stable-diffusion-v1-5/stable-diffusion-v1-5", "nobody/nothing@main", "x"])
def test_hub_names_without_a_network_say_what_to_do(
    kind: str, where: str, dit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError) as caught:
        described(f"{kind}:{where}", vae=dit)
    text = str(caught.value)
    assert f"--generator {kind}:{where}" in text
    assert f"copy its folder (model_index.json and the folders that it names) here and give {kind}:FOLDER" in text


def test_a_hub_name_in_the_cache_needs_no_network(dit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "models--me--tiny"
    copied(dit, root / "snapshots" / "abc")
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    found = described("dit:me/tiny", vae=dit)
    assert found.name == "dit:me/tiny"
    assert found.digest == described(f"dit:{dit}", vae=dit).digest


def test_a_remote_folder(dit: str, tmp_path: Path) -> None:
    root = f"memory://test-generator{tmp_path}"
    for path in Path(dit).rglob("*"):
        if path.is_file():
            files.write_bytes(f"{root}/{path.relative_to(dit)}", path.read_bytes())
    codec = open_codec(f"kl:{dit}")
    wanted = Wanted(torch.zeros(1, 4, 8, 8), torch.tensor([1]), (3,))
    common: dict[str, Any] = {"options": OPTIONS, "classes": tiny.ANIMALS, "codec": codec, "size": SIZE}
    here, there = (open_generator(f"dit:{where}", device="cpu", **common) for where in (dit, root))
    assert torch.equal(here(wanted), there(wanted))
    assert here.digest == there.digest


def test_the_name_has_no_folder_of_this_machine(dit: str) -> None:
    assert described(f"dit:{dit}", vae=dit).name == "dit:dit"


def test_the_description_is_that_of_the_open_generator(dit: str, sd: str) -> None:
    for kind, where in (("dit", dit), ("sd", sd)):
        common: dict[str, Any] = {"options": OPTIONS, "classes": tiny.ANIMALS, "codec": open_codec(f"kl:{where}")}
        generator = open_generator(f"{kind}:{where}", size=SIZE, device="cpu", **common)
        assert generator.description == describe(f"{kind}:{where}", size=SIZE, **common)
        assert (generator.name, generator.digest) == (generator.description.name, generator.description.digest)


CHANGES = {
    "both": [
        {"steps": 5},
        {"guidance": 2.0},
        {"scheduler": "ddpm"},
        {"mode_guidance": 0.1, "scheduler": "ddpm", "noise": 1.0, "strength": 1.0},
    ],
    "sd": [{"strength": 0.9}, {"negative_prompt": "x"}],
    "dit": [{"noise": 0.9}],
}


@pytest.mark.parametrize("kind", ["sd", "dit"])
def test_the_digest_is_of_what_makes_an_image(kind: str, dit: str, sd: str) -> None:
    where = {"sd": sd, "dit": dit}[kind]
    first = described(f"{kind}:{where}", vae=where)
    seen = {first.digest}
    for change in CHANGES["both"] + CHANGES[kind]:
        seen.add(described(f"{kind}:{where}", vae=where, options=replace(OPTIONS, **change)).digest)
    assert len(seen) == 1 + len(CHANGES["both"]) + len(CHANGES[kind])
    other = {"sd": {"noise": 0.9}, "dit": {"strength": 0.9, "prompt": "x", "negative_prompt": "y"}}[kind]
    for change in ({"batch": 3}, {"guidance": {"sd": 8.0, "dit": 4.0}[kind]}, other):
        assert described(f"{kind}:{where}", vae=where, options=replace(OPTIONS, **change)) == first


def test_a_class_has_an_identity_of_its_own(sd: str) -> None:
    first = described(f"sd:{sd}", vae=sd)
    renamed = Classes(tiny.ANIMALS.ids, ("tench", "dog", "cassette player"))
    second = described(f"sd:{sd}", vae=sd, classes=renamed)
    assert [first.of_class(k) == second.of_class(k) for k in range(3)] == [True, False, True]
    assert len({first.of_class(k) for k in range(3)}) == 3
    assert described(f"sd:{sd}", vae=sd, classes=tiny.ANIMALS.head(2)).of_class(1) == first.of_class(1)


def test_the_digest_is_of_the_weights(dit: str, tmp_path: Path) -> None:
    first = described(f"dit:{dit}", vae=dit).digest
    assert described(f"dit:{copied(dit, tmp_path / 'copy')}", vae=dit).digest == first
    rewritten = Path(copied(dit, tmp_path / "rewritten"))
    config = json.loads((rewritten / "transformer" / "config.json").read_text())
    (rewritten / "transformer" / "config.json").write_text(json.dumps(config | {"_diffusers_version": "0.1"}))
    assert described(f"dit:{rewritten}", vae=dit).digest == first
    other = tiny.saved(tiny.dit_pipeline(seed=1), tmp_path / "other", tiny.ANIMALS)
    assert described(f"dit:{other}", vae=dit).digest != first
    # the same file, changed while the process lives
    weights = "transformer/diffusion_pytorch_model.safetensors"
    shutil.copy(Path(other) / weights, rewritten / weights)
    os.utime(rewritten / weights, ns=(1, 1))
    assert described(f"dit:{rewritten}", vae=dit).digest != first


@pytest.mark.parametrize(
    ("codec", "complaint"),
    [
        ("pixels", "works on latents of 4 channels, and codec pixels gives 3"),
        ("scaled", "made for latents with scale 0.18215 and shift 0, and codec kl:.* has 0.37 and 0.0"),
        ("shifted", "made for latents with scale 0.18215 and shift 0, and codec kl:.* has 0.18215 and 0.1"),
        ("deep", "works on latents of 4 channels, and codec kl:.* gives 8"),
    ],
)
@pytest.mark.parametrize("kind", ["sd", "dit"])
def test_codecs_of_other_latents_are_refused(
    kind: str, codec: str, complaint: str, dit: str, sd: str, tmp_path: Path
) -> None:
    where = {"sd": sd, "dit": dit}[kind]
    options = {"scaled": {"scaling_factor": 0.37}, "shifted": {"shift_factor": 0.1}, "deep": {"latent_channels": 8}}
    if codec in options:
        tiny.vae(**({"latent_channels": 4} | options[codec])).save_pretrained(tmp_path)
        codec = f"kl:{tmp_path}"
    with pytest.raises(UserError, match=complaint):
        describe(f"{kind}:{where}", options=OPTIONS, classes=tiny.ANIMALS, codec=open_codec(codec), size=SIZE)


def test_a_tiny_autoencoder_stands_for_the_pipelines_own(sd: str, tmp_path: Path) -> None:
    from tests.models.codecs.make import tiny as tiny_autoencoder

    tiny_autoencoder().save_pretrained(tmp_path)
    codec = open_codec(f"tiny:{tmp_path}")
    size = tiny.SIDE * codec.factor
    assert describe(f"sd:{sd}", options=OPTIONS, classes=tiny.ANIMALS, codec=codec, size=size).name == "sd:sd"


def test_a_vae_with_statistics_of_its_own_is_refused(sd: str, tmp_path: Path) -> None:
    where = Path(copied(sd, tmp_path / "sd"))
    config = json.loads((where / "vae" / "config.json").read_text())
    (where / "vae" / "config.json").write_text(json.dumps(config | {"latents_mean": [0, 0, 0, 0]}))
    with pytest.raises(UserError, match="normalises every channel by itself"):
        described(f"sd:{where}", vae=sd)


@pytest.mark.parametrize("damage", ["no index", "no part", "no weights", "other weights", "cut", "no vae", "not json"])
def test_damaged_folders(damage: str, dit: str, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    where = Path(copied(dit, tmp_path / "dit"))
    weights = where / "transformer" / "diffusion_pytorch_model.safetensors"
    if damage == "no index":
        (where / "model_index.json").unlink()
    elif damage == "not json":
        (where / "transformer" / "config.json").write_text("{")
    elif damage == "no part":
        shutil.rmtree(where / "transformer")
    elif damage == "no vae":
        shutil.rmtree(where / "vae")
    elif damage == "no weights":
        weights.unlink()
    elif damage == "cut":
        weights.write_bytes(weights.read_bytes()[:1000])
    else:
        save_file({"other": torch.ones(1)}, weights, {"format": "pt"})
    with pytest.raises(UserError, match=f"--generator dit:{where}: "):
        open_generator(
            f"dit:{where}",
            options=OPTIONS,
            classes=tiny.ANIMALS,
            codec=open_codec(f"kl:{dit}"),
            size=SIZE,
            device="cpu",
        )
    if damage not in ("other weights", "cut"):  # and before any work, without a model being loaded
        with pytest.raises(UserError, match=f"--generator dit:{where}: "):
            described(f"dit:{where}", vae=dit)


def test_weights_of_a_variant_alone_are_told(dit: str, tmp_path: Path) -> None:
    where = Path(copied(dit, tmp_path / "dit"))
    weights = where / "transformer" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_name("diffusion_pytorch_model.fp16.safetensors"))
    with pytest.raises(UserError, match=r"its transformer has no weights: expected .* without a variant \(fp16, ema\)"):
        described(f"dit:{where}", vae=dit)


def test_only_known_parts_are_made(dit: str, tmp_path: Path) -> None:
    where = Path(copied(dit, tmp_path / "dit"))
    index = json.loads((where / "model_index.json").read_text())
    (where / "model_index.json").write_text(json.dumps(index | {"scheduler": ["subprocess", "Popen"]}))
    with pytest.raises(UserError, match=r"its own Popen is not supported"):
        described(f"dit:{where}", vae=dit)


def test_wanted_needs_one_of_everything() -> None:
    with pytest.raises(ValueError, match="2 latents, 1 labels and 2 seeds"):
        Wanted(torch.zeros(2, 1), torch.zeros(1, dtype=torch.long), (0, 1))
    wanted = Wanted(torch.arange(3).view(3, 1), torch.tensor([4, 5, 6]), (7, 8, 9)).rows([2, 0])
    assert (wanted.latents.flatten().tolist(), wanted.labels.tolist(), wanted.seeds) == ([2, 0], [6, 4], (9, 7))
    assert wanted.reseeded(2).seeds == (11, 9)


def test_latents_of_another_shape_are_refused(dit: str) -> None:
    codec = open_codec(f"kl:{dit}")
    generator = open_generator(
        f"dit:{dit}", options=OPTIONS, classes=tiny.ANIMALS, codec=codec, size=SIZE, device="cpu"
    )
    with pytest.raises(UserError, match=r"opened for latents \(4, 8, 8\), not \(4, 4, 4\)"):
        generator(Wanted(torch.zeros(1, 4, 4, 4), torch.zeros(1, dtype=torch.long), (0,)))


@pytest.mark.gpu
@pytest.mark.usefixtures("full_float32")
@pytest.mark.parametrize("scheduler", [None, "ddpm", "dpm", "euler"])
@pytest.mark.parametrize("kind", ["sd", "dit"])
def test_an_image_is_the_same_in_every_batch_on_cuda(kind: str, scheduler: Any, dit: str, sd: str) -> None:
    where = {"sd": sd, "dit": dit}[kind]
    wanted = Wanted(
        torch.randn(4, 4, tiny.SIDE, tiny.SIDE, generator=torch.Generator().manual_seed(0)),
        torch.tensor([0, 2, 1, 2]),
        (5, 6, 7, 8),
    )

    def made(device: str, batch: int, rows: list[int]) -> torch.Tensor:
        generator = open_generator(
            f"{kind}:{where}",
            options=replace(OPTIONS, batch=batch, scheduler=scheduler),
            classes=tiny.ANIMALS,
            codec=open_codec(f"kl:{where}", device=device, dtype="float32"),
            size=SIZE,
            device=device,
            dtype="float32",
        )
        images = generator(wanted.rows(rows))
        assert images.device.type == "cpu"
        return images

    together = made("cuda", 4, [0, 1, 2, 3])
    assert torch.equal(made("cuda", 4, [0, 1, 2, 3]), together)
    torch.testing.assert_close(made("cuda", 1, [0, 1, 2, 3]), together, rtol=0, atol=1e-3)
    torch.testing.assert_close(made("cuda", 2, [3, 1, 0]), together[[3, 1, 0]], rtol=0, atol=1e-3)
    torch.testing.assert_close(made("cpu", 4, [0, 1, 2, 3]), together, rtol=0, atol=1e-3)
