"""Where training images come from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from raycond.core.errors import RaycondError, UserError
from raycond.data.encoded import encode_image
from raycond.data.images import Decoding
from raycond.data.labelled import pixels, write_pixels
from raycond.data.sources import Source, open_source
from raycond.evaluate import proxy
from raycond.evaluate.training_sets import ClassParts, Medoids, RandomImages, SetImages, SplitImages
from raycond.pipelines.quantize.run import quantize
from raycond.sets.reader import open_set
from tests.pipelines.quantize.make import CLASSES, config, data

OPTIONS = Decoding(8, "crop", 3, 1000)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("run")
    run = quantize(config(data(root / "data"), root / "out", evaluate=True))
    assert not run.failures
    return root


@pytest.fixture
def source(root: Path, tmp_path: Path) -> Source:
    return open_source(str(root / "data"), index_dir=str(tmp_path / "index"))


def test_pixels_come_back(tmp_path: Path) -> None:
    images = np.arange(3 * 4 * 4 * 3, dtype=np.uint8).reshape(3, 4, 4, 3)
    uri = str(tmp_path / "a" / "val.npz")
    write_pixels(uri, images, np.array([1, 0, 1]))
    found = pixels(uri, 2)
    assert found.images.tolist() == images.transpose(0, 3, 1, 2).tolist()
    assert found.labels.tolist() == [1, 0, 1]
    assert found.classes == 2


def test_random_images_are_good_ones_and_of_the_seed(tmp_path: Path) -> None:
    folder = data(tmp_path / "data")
    (folder / "train" / "bee" / "bee_0.png").write_bytes(b"")
    source = open_source(str(folder), index_dir=str(tmp_path / "index"))
    first = RandomImages(source, 3, 0).load(4, OPTIONS)
    assert first.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert torch.equal(first.images, RandomImages(source, 3, 0).load(4, OPTIONS).images)
    assert not torch.equal(first.images, RandomImages(source, 3, 1).load(4, OPTIONS).images)
    assert len(RandomImages(source, 11, 0).load(4, OPTIONS).images.flatten(1).unique(dim=0)) == 44
    with pytest.raises(RaycondError, match="class bee: 11 usable images, random needs 12"):
        RandomImages(source, 12, 0).load(4, OPTIONS)


def test_random_images_of_a_budget_stay_within_it(source: Source) -> None:
    budget = (700, 10**6, 1, 1000)
    found = RandomImages(source, 3, 0, budget).load(4, OPTIONS)
    free = RandomImages(source, 12, 0).load(4, OPTIONS)
    for label, most in enumerate(budget):
        sizes = [len(encode_image(i.permute(1, 2, 0).numpy(), "png")) for i in free.images[free.labels == label]]
        count = int((found.labels == label).sum())
        assert count >= 1
        assert sum(sizes[:count]) <= most or count == 1  # one image is always there
        assert count == len(sizes) or sum(sizes[: count + 1]) > most


def test_a_set_and_the_parts_it_was_made_of_are_one(root: Path) -> None:
    labels = [f"{label:05d}" for label in range(len(CLASSES))]
    for weights in ("uniform", "density"):
        parts = ClassParts(
            tuple(f"{root}/out/work/images/vae/ipc3/{name}.parquet" for name in labels),
            tuple(f"{root}/out/work/codebooks/ipc3/{name}.safetensors" for name in labels),
            weights,
        ).load(4, OPTIONS)
        whole = SetImages(f"{root}/out/set", 3, weights).load(4, OPTIONS)
        assert torch.equal(parts.images, whole.images)
        assert torch.equal(parts.labels, whole.labels)
        assert parts.weights is not None
        assert whole.weights is not None
        assert torch.equal(parts.weights, whole.weights)
        assert whole.weights.view(4, 3).mean(1).tolist() == pytest.approx([1.0] * 4)
        assert (whole.weights.unique().numel() == 1) == (weights == "uniform")


def test_medoids_are_the_real_images_that_the_set_names(root: Path, source: Source, tmp_path: Path) -> None:
    found = Medoids(source, f"{root}/out/set", 3).load(4, OPTIONS)
    ids = open_set(f"{root}/out/set", 3).source_ids
    assert found.labels.tolist() == sorted([0, 1, 2, 3] * 3)
    assert found.weights is None
    every = RandomImages(source, 12, 0).load(4, OPTIONS).images.flatten(1)
    assert all((every == image).all(1).any() for image in found.images.flatten(1))
    assert len(set(ids)) == 12
    other = open_source(str(data(tmp_path / "other", train=1)), index_dir=str(tmp_path / "i"))
    with pytest.raises(UserError, match="give the source that the set was made from with --data"):
        Medoids(other, f"{root}/out/set", 3).load(4, OPTIONS)


def test_a_coreset_is_chosen_from_the_split_by_its_proxy(root: Path, tmp_path: Path) -> None:
    split = f"{root}/out/work/pixels/train.npz"
    whole = SplitImages(split).load(4, OPTIONS)
    scores = torch.arange(len(whole)).float()
    uri = str(tmp_path / "proxy.npz")
    proxy.write(uri, proxy.Proxy(whole.images.flatten(1).float(), scores))
    easiest = SplitImages(split, "el2n", uri, 2).load(4, OPTIONS)
    expected = torch.cat([(whole.labels == label).nonzero()[:2, 0] for label in range(4)])
    assert torch.equal(easiest.images, whole.images[expected])
    assert easiest.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
