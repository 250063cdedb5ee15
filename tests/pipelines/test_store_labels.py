"""Labels of a condensed set, from the set to a student."""

from __future__ import annotations

import contextvars
import json
from pathlib import Path

import pytest
import torch

from raycond.core.errors import UserError
from raycond.core.lock import locked
from raycond.data.images import Decoding
from raycond.evaluate import LabelledImages, recipe, train_and_test
from raycond.evaluate.training_sets import SetImages
from raycond.labels.registry import open_labeler
from raycond.labels.stored.labels import verify_labels
from raycond.labels.stored.verify import verify_set_labels
from raycond.models import students
from raycond.pipelines.store_labels import store_set_labels
from tests.sets.make import CLASSES, write

RECIPE = recipe("rded").override(epochs=3, checks=1, batch=4, normalise="train")


@pytest.fixture
def teacher(tmp_path: Path) -> str:
    torch.manual_seed(0)
    torch.save(students.build("convnet3-w8", classes=3, size=12, channels=3).state_dict(), tmp_path / "w.pt")
    return f"teacher:convnet3-w8@{tmp_path}/w.pt,mean=0.5,std=0.25"


def test_every_ipc_gets_its_labels_and_students_find_them(tmp_path: Path, teacher: str) -> None:
    write(tmp_path / "set")
    told: list[int] = []
    found = store_set_labels(
        str(tmp_path / "labels"),
        str(tmp_path / "set"),
        labeler=teacher,
        recipe=RECIPE,
        report=lambda ipc, _: told.append(ipc),
    )
    assert told == list(found) == [1, 4]
    assert [(index["images"], index["views"]) for index in found.values()] == [(3, 3), (12, 3)]
    assert verify_labels(str(tmp_path / "labels" / "ipc4")) == []
    assert str(tmp_path) not in json.dumps(found)
    stored = open_labeler(f"stored:{tmp_path}/labels", classes=CLASSES, device="cpu")
    for ipc in (1, 4):
        train = SetImages(str(tmp_path / "set"), ipc, "uniform").load(3, Decoding(12, "crop", 3, 1000))
        test = LabelledImages(train.images, train.labels, 3)
        protocol = RECIPE.resolve(ipc=ipc, classes=3, student="convnet3-w8", size=12)
        outcome = train_and_test(
            train, test, student="convnet3-w8", protocol=protocol, seed=0, device="cpu", threads=1, labeler=stored
        )
        assert outcome.steps == protocol.total_steps(len(train))


def test_a_second_run_in_the_same_place_stops(tmp_path: Path, teacher: str) -> None:
    write(tmp_path / "set")
    place = str(tmp_path / "labels")

    def store() -> None:
        store_set_labels(place, str(tmp_path / "set"), labeler=teacher, recipe=RECIPE, ipcs=(1,))

    with locked(place, "raycond store-labels"), pytest.raises(UserError, match="another run is at work here"):
        contextvars.Context().run(store)
    store()
    assert verify_set_labels(place) == []


def test_agreement_with_hard_labels_is_told_before_any_label_is_stored(
    tmp_path: Path, teacher: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "set")
    places = str(tmp_path / "labels"), str(tmp_path / "set")
    store_set_labels(*places, labeler=teacher, recipe=RECIPE, ipcs=(4,))
    assert "labeler    teacher:convnet3-w8 agrees with the hard labels of" in capsys.readouterr().err
    state = torch.load(tmp_path / "w.pt", weights_only=True)
    torch.save({name: torch.full_like(tensor, torch.nan) for name, tensor in state.items()}, tmp_path / "w.pt")
    with pytest.raises(UserError, match="gives NaN or infinite outputs"):
        store_set_labels(str(tmp_path / "nan"), places[1], labeler=teacher, recipe=RECIPE, ipcs=(4,))
    assert not list((tmp_path / "nan").rglob("labels.json"))


def test_wrong_use_is_told(tmp_path: Path, teacher: str) -> None:
    write(tmp_path / "set")
    with pytest.raises(UserError, match=r"--ipc 3: .* has only 1, 4"):
        store_set_labels(str(tmp_path / "l"), str(tmp_path / "set"), labeler=teacher, recipe=RECIPE, ipcs=(3,))
    with pytest.raises(UserError, match="labels of views come from one that labels views"):
        store_set_labels(
            str(tmp_path / "l"), str(tmp_path / "set"), labeler=teacher.replace("teacher", "once", 1), recipe=RECIPE
        )
