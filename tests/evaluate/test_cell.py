"""What a training of each method is given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from raycond.data.sources import open_source
from raycond.errors import RaycondError, UserError
from raycond.evaluate.cell import Cell, ImageOptions, pixels, random_images, run_cell, write_pixels
from raycond.evaluate.protocol import preset
from raycond.pipeline import quantize
from tests.pipeline.make import CLASSES, config, data

OPTIONS = ImageOptions(8, "crop", 3, 1000)


def test_pixels_come_back(tmp_path: Path) -> None:
    images = np.arange(3 * 4 * 4 * 3, dtype=np.uint8).reshape(3, 4, 4, 3)
    uri = str(tmp_path / "a" / "val.npz")
    write_pixels(uri, images, np.array([1, 0, 1]))
    found = pixels(uri, 2)
    assert found.images.tolist() == images.transpose(0, 3, 1, 2).tolist()
    assert found.labels.tolist() == [1, 0, 1]
    assert found.classes == 2


def test_random_images_are_good_ones_and_of_the_seed(tmp_path: Path) -> None:
    root = data(tmp_path / "data")
    (root / "train" / "bee" / "bee_0.png").write_bytes(b"")
    source = open_source(str(root), index_dir=str(tmp_path / "index"))
    first = random_images(source, 3, 0, OPTIONS)
    assert first.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert torch.equal(first.images, random_images(source, 3, 0, OPTIONS).images)
    assert not torch.equal(first.images, random_images(source, 3, 1, OPTIONS).images)
    assert len(random_images(source, 11, 0, OPTIONS).images.flatten(1).unique(dim=0)) == 44
    with pytest.raises(RaycondError, match="class bee: 11 usable images, random needs 12"):
        random_images(source, 12, 0, OPTIONS)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("run")
    run = quantize(config(data(root / "data"), root / "out", evaluate=True))
    assert not run.failures
    return root / "out"


def cell(out: Path, method: str, **more: object) -> Cell:
    labels = [f"{label:05d}" for label in range(len(CLASSES))]
    kind = "medoid" if method == "medoid" else "vae"
    files = {
        "images": tuple(f"{out}/work/images/{kind}/ipc3/{name}.parquet" for name in labels),
        "codebooks": tuple(f"{out}/work/codebooks/ipc3/{name}.safetensors" for name in labels),
    }
    if method == "full":
        files = {"train_pixels": f"{out}/work/pixels/train.npz"}
    test = f"{out}/work/pixels/val.npz"
    return Cell(method, 3, "convnet3-w8", 0, preset("quick"), 4, OPTIONS, test, **({"device": "cpu"} | files | more))  # type: ignore[arg-type]


def test_weights_reach_the_training(out: Path) -> None:
    plain = run_cell(cell(out, "ddoq"))
    assert run_cell(cell(out, "ddoq"))["curve"] == plain["curve"]
    assert plain["images"] == 12
    assert (plain["method"], plain["ipc"], plain["student"], plain["seed"]) == ("ddoq", 3, "convnet3-w8", 0)
    from raycond.evaluate import cell as module

    uniform, density = (module._training_set(cell(out, "ddoq", weights=w)).weights for w in ("uniform", "density"))
    assert uniform is not None
    assert density is not None
    assert uniform.tolist() == [1.0] * 12
    assert density.view(4, 3).mean(1).tolist() == pytest.approx([1.0] * 4)
    assert density.unique().numel() > 1


def test_full_data_is_all_of_it(out: Path) -> None:
    assert run_cell(cell(out, "full"))["images"] == 48


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_absent_device_is_said(out: Path) -> None:
    with pytest.raises(UserError, match="device cuda"):
        run_cell(cell(out, "ddoq", device="cuda"))
