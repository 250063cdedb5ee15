"""Collages of the crops that a teacher is surest of."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from raycond.core.errors import RaycondError, UserError
from raycond.data.images import Decoding
from raycond.data.sources import Source, open_source
from raycond.methods.collages.collages import CollageOptions, Collages, collages, confidence_loss, cropped, random_boxes
from raycond.methods.collages.image_update import UpdateOptions, enlarged
from raycond.models import students
from tests.labels import clips
from tests.pipelines.quantize.make import data

OPTIONS = Decoding(8, "crop", 3, 1000)
CHOICE = CollageOptions(pool=12, crops=3, factor=2)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("collages")
    data(root / "data")
    torch.manual_seed(0)
    net = students.build("convnet3-w8", classes=4, size=8, channels=3)
    torch.save(net.state_dict(), root / "teacher.pt")
    return root


@pytest.fixture
def source(root: Path) -> Source:
    return open_source(str(root / "data"), index_dir=str(root / "index"))


@pytest.fixture
def teacher(root: Path) -> str:
    return f"convnet3-w8@{root}/teacher.pt,mean=0.5,std=0.25"


def brightness(images: torch.Tensor) -> torch.Tensor:
    """Surest of class 0 where the picture is brightest."""
    mean = images.mean((1, 2, 3))
    return torch.stack([10 * mean, torch.zeros_like(mean)], 1)


def test_patches_fill_the_picture_in_the_order_of_the_source_code() -> None:
    patches = torch.arange(8.0).view(8, 1, 1, 1).expand(8, 1, 3, 3)
    made = collages(patches, side=7, factor=2)
    assert made.shape == (2, 1, 7, 7)
    assert made[0, 0, 0].tolist() == [0, 0, 0, 0, 2, 2, 2]  # 0 and 1 are the surest: one for each of two collages
    assert made[1, 0, 6].tolist() == [5, 5, 5, 5, 7, 7, 7]
    assert (made[0] == 0).sum() == 16  # the first row and column have the odd pixel
    assert torch.equal(collages(patches, side=3, factor=1), patches)
    with pytest.raises(UserError, match="8 patches do not make collages of 3x3"):
        collages(patches, side=9, factor=3)


def test_crops_are_squares_within_the_image() -> None:
    images = torch.rand(2000, 1, 20, 20)
    top, left, edge = random_boxes(images, torch.Generator().manual_seed(0)).unbind(1)
    assert bool((torch.stack([top, left]) >= 0).all())
    assert bool((torch.maximum(top, left) + edge <= 20).all())
    share = (edge / 20).square()
    assert (float(share.min()), float(share.max())) == pytest.approx((0.08, 1.0), abs=0.03)
    assert float(share.mean()) == pytest.approx(0.54, abs=0.02)
    ramp = torch.linspace(0, 1, 20).expand(1, 1, 20, 20)
    whole, right = torch.tensor([[0, 0, 20]]), torch.tensor([[5, 10, 10]])
    assert torch.equal(cropped(ramp, whole, 20), ramp)
    assert torch.equal(cropped(ramp, right, 10), ramp[..., 5:15, 10:])


def test_a_patch_is_scored_alone_on_the_teachers_mean() -> None:
    seen: list[torch.Tensor] = []

    class Mean(torch.nn.Module):
        mean = torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(images)
            return brightness(images)

    patches = torch.ones(2, 3, 3, 3)
    loss = confidence_loss(patches, 1, Mean(), 8)
    assert torch.equal(seen[0][:, :, 2:5, 2:5], patches)
    assert seen[0][1, :, 0, 0].tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert torch.allclose(loss, F.cross_entropy(brightness(seen[0]), torch.tensor([1, 1]), reduction="none"))


def test_the_surest_crop_of_the_surest_images(source: Source, teacher: str) -> None:
    make = Collages(source, 1, 0, teacher, CollageOptions(pool=12, crops=8, factor=2))
    sure = make.of_class(0, OPTIONS, brightness).images.mean()
    doubtful = make.of_class(0, OPTIONS, lambda x: -brightness(x)).images.mean()
    assert sure > doubtful + 10
    one = dataclasses.replace(make, choice=CollageOptions(pool=12, crops=1, factor=2))
    assert sure >= one.of_class(0, OPTIONS, brightness).images.mean()


def test_several_ipcs_are_what_each_is_alone(source: Source, teacher: str) -> None:
    seen: list[int] = []

    def counted(images: torch.Tensor) -> torch.Tensor:
        seen.append(len(images))
        return brightness(images)

    make = Collages(source, 1, 0, teacher, CollageOptions(pool=8, crops=3, factor=2))
    made = make.at([1, 2, 3], 1, OPTIONS, counted)
    assert sum(seen) == 3 * (8 + 12)  # the third needs more images than the pool has
    for ipc, found in made.items():
        alone = dataclasses.replace(make, ipc=ipc).of_class(1, OPTIONS, brightness)
        assert np.array_equal(found.images, alone.images)
        assert (found.ids, found.good) == (alone.ids, alone.good)


def test_ids_are_of_the_images_in_each_collage(source: Source, teacher: str) -> None:
    made = Collages(source, 3, 0, teacher, CHOICE).of_class(1, OPTIONS, brightness)
    ids = [i for some in made.ids for i in some.split(" ")]
    assert [len(some.split(" ")) for some in made.ids] == [4, 4, 4]
    assert sorted(ids) == sorted(ref.id for ref in source.refs(1))  # all twelve, each once


def test_of_the_seed_and_of_the_teacher(source: Source, teacher: str) -> None:
    found = Collages(source, 2, 0, teacher, CHOICE).load(4, OPTIONS)
    assert found.images.shape == (8, 3, 8, 8)
    assert found.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert found.weights is None
    assert torch.equal(found.images, Collages(source, 2, 0, teacher, CHOICE).load(4, OPTIONS).images)
    assert not torch.equal(found.images, Collages(source, 2, 1, teacher, CHOICE).load(4, OPTIONS).images)


def test_factor_one_is_a_crop_and_grey_stays_grey(source: Source, root: Path) -> None:
    torch.manual_seed(0)
    torch.save(students.build("mlp", classes=4, size=8, channels=1).state_dict(), root / "grey.pt")
    make = Collages(source, 2, 0, f"mlp@{root}/grey.pt,mean=0.5,std=0.25", CollageOptions(6, 2, 1))
    assert make.load(4, Decoding(8, "crop", 1, 1000)).images.shape == (8, 1, 8, 8)


def test_bad_images_are_left_out_and_too_few_are_an_error(teacher: str, tmp_path: Path) -> None:
    folder = data(tmp_path / "data", train=5)
    (folder / "train" / "bee" / "bee_0.png").write_bytes(b"")
    source = open_source(str(folder), index_dir=str(tmp_path / "index"))
    made = Collages(source, 1, 0, teacher, CHOICE).of_class(1, OPTIONS, brightness)
    assert "bee_0" not in made.ids[0]
    assert [(one.id, one.class_id) for one in made.bad] == [(source.refs(1)[0].id, "bee")]
    few = "class bee: 4 usable images, and 2 collages need 8, one a patch; 1 cannot be read, the first is .*bee_0.png"
    with pytest.raises(RaycondError, match=few):
        Collages(source, 2, 0, teacher, CHOICE).of_class(1, OPTIONS, brightness)
    with pytest.raises(UserError, match="8 pixels cannot have 9x9 patches"):
        Collages(source, 1, 0, teacher, CollageOptions(factor=9)).of_class(1, OPTIONS, brightness)
    with pytest.raises(UserError, match="crops must be at least 1"):
        CollageOptions(crops=0)
    with pytest.raises(UserError, match="ipc must be at least 1, not 0"):
        Collages(source, 0, 0, teacher, CHOICE)
    with pytest.raises(UserError, match="nothing to update: take factor 2"):
        Collages(source, 1, 0, teacher, CollageOptions(factor=1), clip="RN50:openai")


def test_image_update_brings_patches_closer_for_clip(source: Source, teacher: str, tmp_path: Path) -> None:
    plain = Collages(source, 1, 0, teacher, CHOICE)
    spec = clips.saved(tmp_path / "clip", "vit")
    updated = dataclasses.replace(plain, clip=spec, update=UpdateOptions(steps=5))
    a, b = plain.load(4, OPTIONS), updated.load(4, OPTIONS)
    assert a.images.shape == b.images.shape
    assert not torch.equal(a.images, b.images)
    assert float((a.images.float() - b.images.float()).abs().mean()) < 20  # still the same pictures
    _, features = updated.models()
    assert features is not None
    with torch.no_grad():
        assert features(enlarged(b.images[:, :, :4, :4].float() / 255, 8)).shape == (4, 12)
