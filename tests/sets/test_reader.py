from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

import raycond
from raycond.core.errors import UserError
from raycond.methods.quantize.codebook import weights
from raycond.sets.inspect import describe
from raycond.sets.verify import verify
from tests.sets.make import CLASSES, codebook, images, write


def test_items_and_whole_tensors(tmp_path: Path) -> None:
    write(tmp_path / "s")
    opened = raycond.open(str(tmp_path / "s"))
    assert (len(opened), opened.ipc, opened.classes) == (12, 4, CLASSES)
    assert opened.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    counts = torch.cat([codebook(4, c).counts for c in range(3)])
    assert torch.equal(opened.counts, counts)
    expected = torch.cat([weights(codebook(4, c).counts, "sqrt") for c in range(3)])
    assert torch.equal(opened.weights, expected)
    image, label, weight = opened[6]
    assert (label, weight) == (1, float(expected[6]))
    assert image.dtype == torch.float32
    torch.testing.assert_close(image, torch.from_numpy(images(4, 1)[2]).permute(2, 0, 1) / 255)
    assert torch.equal(opened.latents(), torch.cat([codebook(4, c).centroids for c in range(3)]))
    with pytest.raises(IndexError):
        opened[12]


def test_one_of_several_ipcs(tmp_path: Path) -> None:
    write(tmp_path / "s", ipcs=(1, 10))
    assert len(raycond.open(str(tmp_path / "s"), 1)) == 3
    assert raycond.open(str(tmp_path / "s"), ipc=1).latents().shape == (3, 2, 3, 3)
    for ipc in (0, 2):
        with pytest.raises(UserError, match=f"has no IPC {ipc}; it has 1, 10"):
            raycond.open(str(tmp_path / "s"), ipc)


@pytest.mark.parametrize("workers", [0, 2])
def test_data_loader(tmp_path: Path, workers: int) -> None:
    write(tmp_path / "s")
    opened = raycond.open(str(tmp_path / "s"))
    batches = list(DataLoader(opened, batch_size=5, num_workers=workers))
    assert [b[0].shape for b in batches] == [(5, 3, 12, 12), (5, 3, 12, 12), (2, 3, 12, 12)]
    assert torch.equal(torch.cat([b[1] for b in batches]), opened.labels)
    assert {b[2].dtype for b in batches} == {torch.float32}  # a float64 weight would make the loss float64
    assert torch.equal(torch.cat([b[2] for b in batches]), opened.weights)
    assert (batches[0][0].mean() * batches[0][2]).dtype == torch.float32
    assert {b[1].dtype for b in batches} == {torch.int64}


def test_single_items_in_workers_do_not_share_the_weights(tmp_path: Path) -> None:
    write(tmp_path / "s")
    opened = raycond.open(str(tmp_path / "s"))
    weights = [weight for _, _, weight in DataLoader(opened, batch_size=None, num_workers=1)]
    assert torch.equal(torch.stack(weights), opened.weights)
    before = float(opened.weights[0])
    opened[0][2].fill_(9)
    assert float(opened.weights[0]) == before


def test_the_folder_of_a_run_means_its_set(tmp_path: Path) -> None:
    write(tmp_path / "run" / "set")
    for path in (tmp_path / "run", tmp_path / "run" / "set", f"{tmp_path}/run/"):
        assert raycond.open(str(path)).path == f"{tmp_path}/run/set"
        assert verify(str(path)) == []
        assert describe(str(path)).startswith("toy: DDOQ")
    remote = f"memory://test-reader{tmp_path}/run"
    write(f"{remote}/set")
    assert len(raycond.open(remote, 1)) == 3
    with pytest.raises(UserError, match=r"no manifest.json: not a condensed set"):
        raycond.open(f"{remote}/none")


@pytest.mark.parametrize("mode", ["uniform", "sqrt", "density"])
def test_weights_in_another_mode(tmp_path: Path, mode: str) -> None:
    write(tmp_path / "written", weights=mode)
    write(tmp_path / "sqrt")
    found = raycond.open(str(tmp_path / "sqrt"), weights=mode)
    assert torch.equal(found.weights, raycond.open(str(tmp_path / "written")).weights)
    assert found.weights.view(3, 4).mean(1).tolist() == pytest.approx([1, 1, 1])
    assert found[1][2] == float(found.weights[1])


def test_unknown_weights(tmp_path: Path) -> None:
    write(tmp_path / "s")
    with pytest.raises(UserError, match="'cubic' is not one of"):
        raycond.open(str(tmp_path / "s"), weights="cubic")


def test_transform_gets_the_picture(tmp_path: Path) -> None:
    write(tmp_path / "s")
    opened = raycond.open(str(tmp_path / "s"), transform=lambda picture: picture.resize((3, 3)))
    assert isinstance(opened[0][0], Image.Image)
    assert opened[0][0].size == (3, 3)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("image_format", ["png", "jpeg", "webp"])
def test_formats_and_channels(tmp_path: Path, image_format: str, channels: int) -> None:
    write(tmp_path / "s", image_format=image_format, channels=channels)
    assert verify(str(tmp_path / "s")) == []
    opened = raycond.open(str(tmp_path / "s"))
    expected = torch.from_numpy(images(4, 0, channels=channels)).permute(0, 3, 1, 2) / 255
    found = torch.stack([opened[k][0] for k in range(4)])
    assert found.shape == (4, channels, 12, 12)
    torch.testing.assert_close(found, expected, rtol=0, atol=0.03 if image_format == "jpeg" else 1e-6)
    picture = raycond.open(str(tmp_path / "s"), transform=np.asarray)[0][0]
    assert picture.shape == ((12, 12) if channels == 1 else (12, 12, 3))


def test_not_a_set(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none: no such folder; expected a condensed set"):
        raycond.open(str(tmp_path / "none"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty: no manifest.json: not a condensed set"):
        raycond.open(str(tmp_path / "empty"))
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match=r"file: is a file; expected the folder of a condensed set"):
        raycond.open(str(tmp_path / "file"))
    write(tmp_path / "s")
    manifest = tmp_path / "s" / "manifest.json"
    text = manifest.read_text()
    manifest.write_text(text[: len(text) // 2])
    with pytest.raises(UserError, match=r"manifest.json: damaged"):
        raycond.open(str(tmp_path / "s"))
    manifest.write_text(json.dumps(json.loads(text) | {"format_version": 99}))
    with pytest.raises(UserError, match=r"format version 99; this raycond reads 1"):
        raycond.open(str(tmp_path / "s"))


def test_a_home_folder_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "s")
    assert len(raycond.open("~/s", 1)) == 3
