from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from raycond.core.errors import UserError
from raycond.data.images import load
from raycond.data.refs import ImageRef
from raycond.models.codecs import taef2
from raycond.models.codecs.registry import open_codec


def test_taef2_reconstructs_real_images(real_data: Path, real_weights: Path) -> None:
    codec = open_codec(f"taef2:{real_weights}")
    assert (codec.channels, codec.factor, codec.latent_shape(64)) == (3, 8, (32, 8, 8))
    chosen = [f for c in sorted((real_data / "imagenette" / "val").iterdir())[:4] for f in sorted(c.iterdir())[:2]]
    images = torch.from_numpy(np.stack([load(ImageRef(f.name, 0, str(f)), size=64)[0] for f in chosen]))
    images = images.permute(0, 3, 1, 2)
    error = (codec.decode(codec.encode(images)) - images / 255).square().mean((1, 2, 3))
    assert float((-10 * error.log10()).mean()) >= 25
    with pytest.raises(UserError, match=r"--size 60: codec taef2:.* needs a multiple of 8"):
        codec.latent_shape(60)
    with pytest.raises(UserError, match="--posterior sample"):
        codec.encode(images, [0] * len(images))


def test_taef2_digest(real_weights: Path, tmp_path: Path) -> None:
    digest = open_codec(f"taef2:{real_weights}").digest
    for name in ("taef2_encoder.pth", "taef2_decoder.pth"):
        shutil.copy(real_weights / name, tmp_path / name)
    assert open_codec(f"taef2:{tmp_path}", dtype="bfloat16").digest == digest
    state = torch.load(tmp_path / "taef2_decoder.pth", weights_only=True)
    next(iter(state.values())).flatten()[0] += 1
    torch.save(state, tmp_path / "taef2_decoder.pth")
    assert open_codec(f"taef2:{tmp_path}").digest != digest


def test_taef2_of_missing_and_wrong_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"{tmp_path}/taef2_encoder.pth is not there; get taef2_encoder.pth"):
        open_codec(f"taef2:{tmp_path}")
    torch.save(taef2.encoder().state_dict(), tmp_path / "taef2_encoder.pth")
    with pytest.raises(UserError, match=f"{tmp_path}/taef2_decoder.pth is not there"):
        open_codec(f"taef2:{tmp_path}")
    torch.save(taef2.encoder().state_dict(), tmp_path / "taef2_decoder.pth")
    with pytest.raises(UserError, match=f"{tmp_path}/taef2_decoder.pth does not hold TAEF2's weights"):
        open_codec(f"taef2:{tmp_path}")
    (tmp_path / "taef2_decoder.pth").write_bytes(b"not a checkpoint")
    with pytest.raises(UserError, match="does not hold TAEF2's weights"):
        open_codec(f"taef2:{tmp_path}")


def test_taef2_runs_nothing_from_its_files(tmp_path: Path) -> None:
    target = tmp_path / "ran"

    class Bomb:
        def __reduce__(self) -> tuple:
            return Path.touch, (target,)

    torch.save({"0.weight": Bomb()}, tmp_path / "taef2_encoder.pth")
    with pytest.raises(UserError, match="does not hold TAEF2's weights"):
        open_codec(f"taef2:{tmp_path}")
    assert not target.exists()


def test_taef2_shapes() -> None:
    with torch.inference_mode():
        latents = taef2.encoder()(torch.rand(2, 3, 16, 24))
        assert latents.shape == (2, 32, 2, 3)
        assert taef2.decoder()(latents).shape == (2, 3, 16, 24)
