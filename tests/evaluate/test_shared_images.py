"""The images of a baseline, decoded once for all its trainings."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from raycond.core.errors import RaycondError
from raycond.data.sources import open_source
from raycond.evaluate import training_sets
from raycond.evaluate.shared_images import SelectionTask
from raycond.evaluate.training_sets import Medoids, RandomImages
from tests.evaluate.conftest import OPTIONS, Made


@pytest.fixture
def task(made: Made, tmp_path: Path) -> SelectionTask:
    source = open_source(made.data, index_dir=str(tmp_path / "index"))
    return SelectionTask(RandomImages(source, 3, 0), 4, OPTIONS, "of the source", str(tmp_path / "shared"))


def test_trainings_get_what_they_would_have_decoded(task: SelectionTask, made: Made) -> None:
    for images in (task.images, Medoids(task.images.source, made.set, 3)):
        one = replace(task, images=images)
        assert one.finished() is None
        shared = one.carry_out()
        found, expected = shared.load(4, OPTIONS), images.load(4, OPTIONS)
        assert torch.equal(found.images, expected.images)
        assert torch.equal(found.labels, expected.labels)
        assert found.weights is None


def test_it_is_decoded_once(task: SelectionTask, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = task.carry_out()
    monkeypatch.setattr(training_sets, "load_many", None)  # no image can be decoded from here on
    assert task.carry_out() == shared == task.finished()
    assert pickle.loads(pickle.dumps(task)).finished() == shared
    Path(shared.uri).write_bytes(b"damaged")
    assert task.finished() is None


def test_each_selection_has_its_own_file(task: SelectionTask, made: Made) -> None:
    random = task.images
    assert isinstance(random, RandomImages)
    others = [
        replace(task, images=replace(random, ipc=2)),
        replace(task, images=replace(random, seed=1)),
        replace(task, images=replace(random, budget=(900,) * 4)),
        replace(task, images=replace(random, budget=(900,) * 4, image_format="jpeg")),
        replace(task, images=Medoids(random.source, made.set, 3)),
        replace(task, classes=3),
        replace(task, options=replace(OPTIONS, size=9)),
        replace(task, options=replace(OPTIONS, resize="squash")),
        replace(task, options=replace(OPTIONS, channels=1)),
        replace(task, digest="of another source"),
    ]
    assert len({one.output for one in (task, *others)}) == 1 + len(others)
    assert replace(task, images=replace(random, image_format="jpeg")).output == task.output  # it counts no bytes


def test_too_few_images_are_said_and_leave_nothing_finished(task: SelectionTask) -> None:
    many = replace(task, images=replace(task.images, ipc=13))
    with pytest.raises(RaycondError, match="class ant: 12 usable images, random needs 13"):
        many.carry_out()
    assert many.finished() is None
