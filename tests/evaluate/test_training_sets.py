"""Where training images come from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from raycond.core.errors import RaycondError, UserError
from raycond.data.encoded import encode_image
from raycond.data.images import Decoding
from raycond.data.labelled import LabelledImages, pixels, write_pixels
from raycond.data.sources import Source, open_source
from raycond.evaluate import proxy
from raycond.evaluate.training_sets import Medoids, RandomImages, SetImages, SplitImages
from raycond.sets.reader import open_set
from tests.data.make import tree
from tests.evaluate.conftest import CLASSES, OPTIONS, Made
from tests.sets.make import NORMALIZATION, tensors, whitening, write, write_optimized
from tests.support.work import work


def stacked(images: Iterator[tuple[np.ndarray, int]]) -> tuple[torch.Tensor, torch.Tensor]:
    arrays, labels = zip(*images, strict=True)
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2), torch.tensor(labels)


@pytest.fixture
def source(made: Made, tmp_path: Path) -> Source:
    return open_source(made.data, index_dir=str(tmp_path / "index"))


def test_pixels_come_back(tmp_path: Path) -> None:
    images = np.arange(3 * 4 * 4 * 3, dtype=np.uint8).reshape(3, 4, 4, 3)
    uri = str(tmp_path / "a" / "val.npz")
    write_pixels(uri, images, np.array([1, 0, 1]))
    found = pixels(uri, 2)
    assert found.images.tolist() == images.transpose(0, 3, 1, 2).tolist()
    assert found.labels.tolist() == [1, 0, 1]
    assert found.classes == 2


def test_random_images_are_good_ones_and_of_the_seed(tmp_path: Path) -> None:
    folder = tree(tmp_path / "data", dict.fromkeys(CLASSES.ids, 12))
    (folder / "bee" / "bee_0.png").write_bytes(b"")
    source = open_source(str(folder), index_dir=str(tmp_path / "index"))
    first = RandomImages(source, 3, 0).load(4, OPTIONS)
    assert first.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert torch.equal(first.images, RandomImages(source, 3, 0).load(4, OPTIONS).images)
    assert not torch.equal(first.images, RandomImages(source, 3, 1).load(4, OPTIONS).images)
    assert len(RandomImages(source, 11, 0).load(4, OPTIONS).images.flatten(1).unique(dim=0)) == 44
    with pytest.raises(RaycondError, match="class bee: 11 usable images, random needs 12"):
        RandomImages(source, 12, 0).load(4, OPTIONS)


def test_a_class_without_one_usable_image_is_named(tmp_path: Path) -> None:
    folder = tree(tmp_path / "data", {"ant": 2, "bee": 1, "cat": 2})
    source = open_source(str(folder), index_dir=str(tmp_path / "index"))
    (folder / "bee" / "bee_0.png").unlink()  # after the classes were listed
    for threads in (1, 3):
        with pytest.raises(RaycondError, match="class bee: 0 usable images, random needs 1"):
            list(RandomImages(source, 1, 0).decoded(3, OPTIONS, threads))


def test_the_next_of_the_list_takes_the_place_of_a_bad_image(tmp_path: Path) -> None:
    """Whichever image is bad, a class gets the first usable images of its shuffled list, in its order."""
    folder = tree(tmp_path / "data", {"ant": 5, "bee": 6})
    source = open_source(str(folder), index_dir=str(tmp_path / "index"))
    whole = RandomImages(source, 5, 0).load(2, OPTIONS)
    for name, label in (("ant_3.png", 0), ("bee_2.png", 1), ("bee_4.png", 1)):
        (folder / name[:3] / name).write_bytes(b"")
        source = open_source(str(folder), index_dir=str(tmp_path / f"index-{name}"))
        rest = LabelledImages(*stacked(RandomImages(source, 4, 0).decoded(2, OPTIONS, threads=3)), 2)
        for other in (0, 1):
            own = [i.tolist() for i in rest.images[rest.labels == other]]
            before = [i.tolist() for i in whole.images[whole.labels == other]]
            kept = [i for i in before if i in own]
            assert kept == [i for i in own if i in before]
            assert len(own) == 4
        assert label in rest.labels


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_number_of_threads_changes_nothing(made: Made, source: Source, threads: int) -> None:
    for images in (RandomImages(source, 3, 7), Medoids(source, made.set, 3), RandomImages(source, 3, 0, (700,) * 4)):
        one, several = (stacked(images.decoded(4, OPTIONS, count)) for count in (1, threads))
        assert torch.equal(one[0], several[0])
        assert torch.equal(one[1], several[1])


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


def test_a_set_under_each_weights_mode(made: Made) -> None:
    stored = open_set(made.set, 3)
    for weights in ("uniform", "density"):
        images = SetImages(made.set, 3, weights).load(4, OPTIONS)
        assert torch.equal(images.labels, stored.labels)
        expected = torch.stack([stored[k][0] for k in range(12)]) * 255
        assert torch.equal(images.images.float(), expected.round())
        assert images.weights is not None
        assert images.weights.view(4, 3).mean(1).tolist() == pytest.approx([1.0] * 4)
        assert (images.weights.unique().numel() == 1) == (weights == "uniform")


def test_medoids_are_the_real_images_that_the_set_names(made: Made, source: Source, tmp_path: Path) -> None:
    found = Medoids(source, made.set, 3).load(4, OPTIONS)
    assert found.labels.tolist() == sorted([0, 1, 2, 3] * 3)
    assert found.weights is None
    assert torch.equal(found.images, SetImages(made.set, 3, "uniform").load(4, OPTIONS).images)
    other = open_source(str(tree(tmp_path / "other", dict.fromkeys(CLASSES.ids, 1))), index_dir=str(tmp_path / "i"))
    with pytest.raises(UserError, match="give the source that the set was made from with --data"):
        Medoids(other, made.set, 3).load(4, OPTIONS)


def test_a_medoid_that_is_damaged_is_named(made: Made, tmp_path: Path) -> None:
    folder = tree(tmp_path / "data" / "train", dict.fromkeys(CLASSES.ids, 12)).parent
    gone = open_set(made.set, 1).source_ids[2]
    (folder / gone if (folder / gone).exists() else folder / "train" / gone).write_bytes(b"damaged")
    source = open_source(str(folder), index_dir=str(tmp_path / "index"))
    with pytest.raises(UserError, match=f"medoid: {gone}, which .* cannot be read"):
        Medoids(source, made.set, 1).load(4, OPTIONS)


def test_the_work_of_medoids_grows_with_the_images_not_with_their_square(tmp_path: Path) -> None:
    def counted(classes: int) -> int:
        ids = [f"c{k:03d}" for k in range(classes)]
        folder = tree(tmp_path / f"data-{classes}", dict.fromkeys(ids, 1))
        source = open_source(str(folder), index_dir=str(tmp_path / f"index-{classes}"))
        named = [source.refs(label)[0].id for label in range(classes)]
        from tests.sets.make import part

        def load(ipc: int, label: int):  # type: ignore[no-untyped-def]
            made = part(ipc, label)
            return type(made)(label, made.images, made.codebook, (named[label],))

        write(tmp_path / f"set-{classes}", ipcs=[1], classes=source.classes, load=load)
        medoids = Medoids(source, str(tmp_path / f"set-{classes}"), 1)
        return work(lambda: list(medoids.decoded(classes, OPTIONS, threads=1)), within="raycond.evaluate")

    assert counted(80) < 5 * counted(20)


def test_a_coreset_is_chosen_from_the_split_by_its_proxy(made: Made, tmp_path: Path) -> None:
    whole = SplitImages(made.train).load(4, OPTIONS)
    scores = torch.arange(len(whole)).float()
    uri = str(tmp_path / "proxy.npz")
    proxy.write(uri, proxy.Proxy(whole.images.flatten(1).float(), scores))
    easiest = SplitImages(made.train, "el2n", uri, 2).load(4, OPTIONS)
    expected = torch.cat([(whole.labels == label).nonzero()[:2, 0] for label in range(4)])
    assert torch.equal(easiest.images, whole.images[expected])
    assert easiest.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


@pytest.fixture
def optimized(tmp_path: Path) -> str:
    """The folder of a set of float tensors: three classes at IPC 1 and 4, 12 pixels."""
    write_optimized(tmp_path / "s")
    return str(tmp_path / "s")


FLOATS = Decoding(12, "crop", 3, 1000)


def test_float_tensors_or_8_bit_images(optimized: str) -> None:
    exact, rounded = (SetImages(optimized, 4, "uniform", exact).load(3, FLOATS) for exact in (True, False))
    assert (exact.images.dtype, rounded.images.dtype) == (torch.float32, torch.uint8)
    assert not exact.normalized
    assert torch.equal(exact.labels, rounded.labels)
    assert torch.equal(exact.weights, torch.ones(12))  # type: ignore[arg-type]
    expected = torch.cat([NORMALIZATION.invert(tensors(4, label)["images"]).float() for label in range(3)])
    assert torch.equal(exact.images, expected)


def test_whitened_tensors_are_what_the_student_sees(tmp_path: Path) -> None:
    write_optimized(tmp_path / "s", whitening())
    found = SetImages(str(tmp_path / "s"), 4, "uniform", exact=True).load(3, FLOATS)
    assert found.normalized
    assert torch.equal(found.images, torch.cat([tensors(4, label)["images"] for label in range(3)]))


@pytest.mark.parametrize("exact", [True, False])
def test_tiles_become_training_images(tmp_path: Path, exact: bool) -> None:
    write_optimized(tmp_path / "s", formation={"ipc4": {"factor": 2, "decoder": "single", "bound": 128}})
    found = SetImages(str(tmp_path / "s"), 4, "uniform", exact).load(3, FLOATS)
    assert found.labels.tolist() == [0] * 16 + [1] * 16 + [2] * 16
    assert found.weights is not None
    assert found.weights.tolist() == [1.0] * 48
    stored = open_set(str(tmp_path / "s"), 4)
    pixels_of = stored.float_pixels() if exact else torch.stack([stored[k][0] for k in range(12)])
    assert pixels_of is not None
    # the second image of class 1, and the tile in its lower left corner
    corner = pixels_of[5, :, 6:, :6]
    expected = torch.nn.functional.interpolate(corner[None], (12, 12), mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(found.images[16 + 2 * 4 + 1], expected)
