from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from raycond.core import files
from raycond.core.errors import UserError
from raycond.models.codecs.base import Codec
from raycond.models.codecs.registry import open_codec
from tests.models.codecs.make import kl, photos, tiny

MODELS = {"kl": kl, "tiny": tiny}
KINDS = pytest.mark.parametrize("kind", MODELS)


def saved(model: Any, folder: Path) -> str:
    model.save_pretrained(folder, safe_serialization=True)
    return str(folder)


def as_inputs(images: torch.Tensor) -> torch.Tensor:
    return images / 127.5 - 1


@torch.inference_mode()
def latents_by_hand(kind: str, model: Any, images: torch.Tensor) -> torch.Tensor:
    found = model.encode(as_inputs(images))
    return found.latent_dist.mode() if kind == "kl" else found.latents


@KINDS
def test_equals_diffusers(tmp_path: Path, kind: str) -> None:
    model = MODELS[kind](scaling_factor=0.37, shift_factor=0.11)
    codec = open_codec(f"{kind}:{saved(model, tmp_path / 'm')}")
    images = photos()
    expected = (latents_by_hand(kind, model, images) - 0.11) * 0.37
    latents = codec.encode(images)
    assert latents.shape[1:] == codec.latent_shape(16)
    torch.testing.assert_close(latents, expected, rtol=1e-4, atol=1e-5)
    with torch.inference_mode():
        decoded = model.decode(expected / 0.37 + 0.11).sample / 2 + 0.5
    torch.testing.assert_close(codec.decode(latents), decoded.clamp(0, 1), rtol=1e-4, atol=1e-5)


@KINDS
def test_float_images_are_in_zero_to_one(tmp_path: Path, kind: str) -> None:
    codec = open_codec(f"{kind}:{saved(MODELS[kind](), tmp_path / 'm')}")
    images = photos()
    torch.testing.assert_close(codec.encode(images / 255), codec.encode(images), rtol=1e-4, atol=1e-5)


def test_kl_defaults_are_stable_diffusions(tmp_path: Path) -> None:
    codec = open_codec(f"kl:{saved(kl(), tmp_path / 'm')}")
    assert isinstance(codec, Codec)
    assert (codec.scale, codec.shift) == (0.18215, 0.0)  # type: ignore[attr-defined]
    assert (codec.channels, codec.latent_channels, codec.factor) == (3, 4, 2)


def test_shapes_come_from_the_configuration(tmp_path: Path) -> None:
    model = kl(block_out_channels=(4, 8, 8, 8), latent_channels=16, in_channels=1, out_channels=1)
    codec = open_codec(f"kl:{saved(model, tmp_path / 'm')}")
    assert (codec.channels, codec.factor, codec.latent_shape(32)) == (1, 8, (16, 4, 4))
    assert codec.decode(codec.encode(photos(2, 32, 1))).shape == (2, 1, 32, 32)
    with pytest.raises(UserError, match=r"--size 36: codec kl:.* needs a multiple of 8"):
        codec.latent_shape(36)


@pytest.mark.parametrize("layout", ["pipeline", "subfolder", "at sign", "memory"])
def test_places(tmp_path: Path, layout: str) -> None:
    model = kl(scaling_factor=0.5)
    plain = open_codec(f"kl:{saved(model, tmp_path / 'plain')}")
    where = {
        "pipeline": tmp_path / "pipe" / "vae",
        "subfolder": tmp_path / "pipe" / "other" / "first_stage",
        "at sign": tmp_path / "me@home",
        "memory": tmp_path / "local" / "vae",
    }[layout]
    saved(model, where)
    spec = {"pipeline": f"kl:{tmp_path}/pipe", "subfolder": f"kl:{tmp_path}/pipe//other/first_stage"}.get(layout)
    if layout == "memory":
        root = f"memory://test-vae{tmp_path}"
        for file in where.iterdir():
            files.write_bytes(f"{root}/vae/{file.name}", file.read_bytes())
        spec = f"kl:{root}"
        assert open_codec(f"{spec}//vae").digest == plain.digest
    codec = open_codec(spec or f"kl:{where}")
    assert codec.digest == plain.digest
    assert torch.equal(codec.encode(photos()), plain.encode(photos()))
    assert codec.scale == 0.5  # type: ignore[attr-defined]


@KINDS
def test_digest_is_that_of_the_weights(tmp_path: Path, kind: str) -> None:
    first = open_codec(f"{kind}:{saved(MODELS[kind](0), tmp_path / 'a')}").digest
    assert open_codec(f"{kind}:{tmp_path / 'a'}", dtype="bfloat16").digest == first
    assert open_codec(f"{kind}:{saved(MODELS[kind](0), tmp_path / 'copy')}").digest == first
    assert open_codec(f"{kind}:{saved(MODELS[kind](1), tmp_path / 'b')}").digest != first


def test_posterior_samples_depend_on_the_images_own_seed_only(tmp_path: Path) -> None:
    model = kl(scaling_factor=2.0)
    codec = open_codec(f"kl:{saved(model, tmp_path / 'm')}")
    images = photos(5)
    together = codec.encode(images, [10, 11, 12, 13, 14])
    for rows in ([3], [4, 0], [1, 2, 3]):
        torch.testing.assert_close(codec.encode(images[rows], [10 + r for r in rows]), together[rows])
    assert torch.equal(codec.encode(images, [10, 11, 12, 13, 14]), together)
    same = codec.encode(images[:1].repeat(2, 1, 1, 1), [1, 2])
    assert not torch.allclose(same[0], same[1])
    with torch.inference_mode():
        posterior = model.encode(as_inputs(images)).latent_dist
    noise = torch.stack([torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(10 + k)) for k in range(5)])
    torch.testing.assert_close(together, 2 * (posterior.mean + posterior.std * noise), rtol=1e-4, atol=1e-4)


def test_posterior_mean_is_the_middle_of_its_samples(tmp_path: Path) -> None:
    codec = open_codec(f"kl:{saved(kl(), tmp_path / 'm')}")
    image = photos(1)
    many = codec.encode(image.repeat(400, 1, 1, 1), range(400))
    error = (many.mean(0) - codec.encode(image)[0]).abs() / (many.std(0) / 20)
    assert float(error.mean()) < 1.2  # in standard errors; 0.8 for a normal distribution


def test_a_tiny_autoencoder_has_no_posterior(tmp_path: Path) -> None:
    codec = open_codec(f"tiny:{saved(tiny(), tmp_path / 'm')}")
    with pytest.raises(UserError, match="--posterior sample"):
        codec.encode(photos(1), [0])


@KINDS
@pytest.mark.parametrize("where", ["stabilityai/sd-vae-ft-mse", "nobody/nothing@main"])
def test_hub_names_without_a_network_say_what_to_do(kind: str, where: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError) as caught:
        open_codec(f"{kind}:{where}")
    text = str(caught.value)
    assert f"--codec {kind}" in text
    assert repr(where.partition("@")[0]) in text
    assert f"copy its folder (config.json and *.safetensors) here and give {kind}:FOLDER" in text


@KINDS
@pytest.mark.parametrize("where", ["/models/none", "./none", "~/none", "a/b/c"])
def test_a_path_that_does_not_exist_is_no_name_of_the_hub(kind: str, where: str) -> None:
    with pytest.raises(UserError, match="no such folder; give one with config.json and") as caught:
        open_codec(f"{kind}:{where}")
    assert "huggingface" not in str(caught.value)
    assert "network" not in str(caught.value)


@KINDS
def test_torch_files_are_read_and_nothing_is_unpickled(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model = MODELS[kind]()
    model.save_pretrained(tmp_path / "m", safe_serialization=False)
    (weights,) = (tmp_path / "m").glob("*.bin")
    model.save_pretrained(tmp_path / "safe")
    assert open_codec(f"{kind}:{tmp_path / 'm'}").digest == open_codec(f"{kind}:{tmp_path / 'safe'}").digest
    torch.save({"x": Trap()}, weights)
    with pytest.raises(UserError, match="cannot load"):
        open_codec(f"{kind}:{tmp_path / 'm'}")
    assert "unpickled" not in capsys.readouterr().out


class Trap:
    def __reduce__(self) -> Any:
        return (print, ("unpickled",))


def test_the_scale_of_the_latents_is_part_of_the_digest(tmp_path: Path) -> None:
    digests = set()
    for scale in (0.5, 0.9):
        model = kl()
        model.register_to_config(scaling_factor=scale)
        digests.add(open_codec(f"kl:{saved(model, tmp_path / str(scale))}").digest)
    assert len(digests) == 2


@pytest.mark.parametrize("damage", ["cut", "no configuration", "no weights", "empty weights"])
def test_damaged_folders(tmp_path: Path, damage: str) -> None:
    from safetensors.torch import save_file

    folder = Path(saved(kl(), tmp_path / "m"))
    weights = folder / "diffusion_pytorch_model.safetensors"
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif damage == "no configuration":
        (folder / "config.json").unlink()
    elif damage == "no weights":
        weights.unlink()
    else:
        save_file({"other": torch.ones(1)}, weights, {"format": "pt"})
    with pytest.raises(UserError, match=f"cannot load AutoencoderKL from '{folder}', which must hold config.json") as e:
        open_codec(f"kl:{folder}")
    assert "network" not in str(e.value)


def test_the_other_kind_of_model_is_refused(tmp_path: Path) -> None:
    """diffusers itself would only warn, and use random weights."""
    with pytest.raises(UserError, match="not those of an AutoencoderTiny"):
        open_codec(f"tiny:{saved(kl(), tmp_path / 'kl')}")
    with pytest.raises(UserError, match="cannot load AutoencoderKL"):
        open_codec(f"kl:{saved(tiny(), tmp_path / 'tiny')}")


def test_bfloat16_is_close(tmp_path: Path) -> None:
    where = saved(kl(), tmp_path / "m")
    exact, half = open_codec(f"kl:{where}"), open_codec(f"kl:{where}", dtype="bfloat16")
    a, b = exact.encode(photos()), half.encode(photos())
    assert b.dtype == torch.float32
    assert 0 < float((a - b).norm() / a.norm()) < 0.05


@pytest.mark.gpu
@pytest.mark.usefixtures("full_float32")
@KINDS
@pytest.mark.parametrize(("dtype", "allowed"), [("float32", 1e-4), ("bfloat16", 0.1)])
def test_cuda_gives_what_the_cpu_gives(tmp_path: Path, kind: str, dtype: str, allowed: float) -> None:
    spec = f"{kind}:{saved(MODELS[kind](), tmp_path / 'm')}"
    here, there = open_codec(spec), open_codec(spec, device="cuda", dtype=dtype)
    latents = here.encode(photos())
    pairs = [(there.encode(photos()), latents), (there.decode(latents), here.decode(latents))]
    if kind == "kl":
        pairs.append((there.encode(photos(), [1, 2, 3]), here.encode(photos(), [1, 2, 3])))
    for actual, expected in pairs:
        assert actual.is_cuda
        assert (actual.cpu() - expected).norm() < allowed * (expected - expected.mean()).norm()
