from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from raycond.core.errors import UserError
from raycond.core.registry import Entry
from raycond.models.codecs.base import parse_dtype, weights_digest
from raycond.models.codecs.registry import CODECS, open_codec
from tests.models.codecs.make import photos


@pytest.mark.parametrize(("spec", "channels"), [("pixels", 3), ("pixels:3", 3), ("pixels:1", 1)])
def test_pixels_are_their_own_latents(spec: str, channels: int) -> None:
    codec = open_codec(spec)
    assert (codec.name, codec.channels, codec.latent_shape(13)) == (spec, channels, (channels, 13, 13))
    images = photos(4, 13, channels)
    latents = codec.encode(images)
    assert latents.dtype == torch.float32
    torch.testing.assert_close(latents, images / 255)
    assert torch.equal((codec.decode(latents) * 255).round().to(torch.uint8), images)


@pytest.mark.parametrize("channels", [1, 3])
def test_decoding_clips_and_leaves_the_latents_alone(channels: int) -> None:
    latents = torch.linspace(-1, 2, 8 * channels).view(2, channels, 2, 2)
    before = latents.clone()
    images = open_codec(f"pixels:{channels}").decode(latents)
    assert torch.equal(images, before.clamp(0, 1))
    assert torch.equal(latents, before)


def test_pixels_stay_float32_whatever_is_asked() -> None:
    codec = open_codec("pixels", dtype="bfloat16")
    images = photos(1, 8)
    assert torch.equal((codec.decode(codec.encode(images)) * 255).round().to(torch.uint8), images)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("pixels:2", r"--codec pixels:2: expected pixels, pixels:1 or pixels:3"),
        ("vqgan:x", r"--codec vqgan: not one of kl:NAME\|FOLDER, tiny:"),
        ("pixel:1", r"--codec pixel: not one of .*; did you mean pixels\?"),
        ("", r"--codec : not one of"),
        ("kl", r"--codec kl: expected kl:NAME\|FOLDER"),
        ("taef2:", r"--codec taef2:: expected taef2:FOLDER"),
        ("train:x", r"--codec train:x: expected train, "),
        ("train", r"--codec train: the pipeline trains this codec"),
    ],
)
def test_codecs_that_do_not_exist(spec: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_codec(spec)


def test_a_new_codec_is_one_file_and_one_entry(new_file: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    module = new_file("""
        from raycond.models.codecs.pixels import Pixels

        class Negative(Pixels):
            kind = "negative"

            def _encode(self, images, noise):
                return 1 - images

            def _decode(self, latents):
                return 1 - latents
    """)
    monkeypatch.setitem(CODECS.entries, "negative", Entry("negative", "dark is bright", f"{module}:Negative", "[N]"))
    codec = open_codec("negative:1")
    assert codec.name == "negative:1"
    assert float(codec.encode(torch.zeros(1, 1, 2, 2)).mean()) == 1


def test_dtype() -> None:
    assert parse_dtype("auto", "cpu") == torch.float32
    assert parse_dtype("auto", "cuda:1") == torch.bfloat16
    assert parse_dtype("float16", "cpu") == torch.float16
    with pytest.raises(UserError, match=r"--dtype int8: expected auto, float32, bfloat16 or float16"):
        parse_dtype("int8", "cpu")


def test_weights_digest_sees_names_types_shapes_and_values() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    digest = weights_digest(model)
    assert weights_digest(copy.deepcopy(model)) == digest
    assert weights_digest(model, model) != digest
    found = {
        digest,
        weights_digest(copy.deepcopy(model).double()),
        weights_digest(nn.Sequential(nn.Identity(), *model)),
    }
    changed = copy.deepcopy(model)
    changed.state_dict()["1.num_batches_tracked"].add_(1)
    found.add(weights_digest(changed))
    reshaped = nn.Module()
    reshaped.a = nn.Parameter(torch.ones(2, 3))
    flat = nn.Module()
    flat.a = nn.Parameter(torch.ones(3, 2))
    found |= {weights_digest(reshaped), weights_digest(flat)}
    assert len(found) == 6
