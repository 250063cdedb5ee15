"""The pipeline that writes a set of collages."""

from __future__ import annotations

import contextvars
import dataclasses
import json
from pathlib import Path

import pytest
import torch

from raycond.core.errors import UserError
from raycond.core.lock import locked
from raycond.data import quarantine
from raycond.data.images import Decoding
from raycond.data.sources import Source, open_source
from raycond.evaluate.training_sets import SetImages
from raycond.methods.collages.collages import CollageOptions, Collages
from raycond.methods.collages.image_update import UpdateOptions
from raycond.models import students
from raycond.pipelines.collages import write_collages
from raycond.sets.verify import verify
from tests.labels import clips
from tests.pipelines.quantize.make import CLASSES, data

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
def make(root: Path) -> Collages:
    return of(open_source(str(root / "data"), index_dir=str(root / "index")), root)


def of(source: Source, root: Path) -> Collages:
    return Collages(source, 1, 0, f"convnet3-w8@{root}/teacher.pt,mean=0.5,std=0.25", CHOICE)


def test_a_set_of_collages_is_a_condensed_set(make: Collages, tmp_path: Path) -> None:
    run = write_collages(str(tmp_path / "set"), make, OPTIONS, ipcs=(1, 2), name="toy")
    manifest = run.manifest
    assert (run.bad, manifest["source"]["quarantined"], run.computed) == ([], 0, 4)
    assert not Path(run.quarantine).exists()
    assert verify(str(tmp_path / "set")) == []
    card = (tmp_path / "set" / "README.md").read_text()
    assert "each image is a collage of `count` patches of real images" in card
    assert "latent" not in card.split("![preview]")[0]
    found = SetImages(str(tmp_path / "set"), 2, "uniform").load(4, OPTIONS)
    assert torch.equal(found.images, dataclasses.replace(make, ipc=2).load(4, OPTIONS).images)
    assert manifest["config"]["resize"] == "crop"  # a grid decodes its other images so
    assert (manifest["method"], manifest["storage_bytes"]["latents"] < 1000) == ("RDED", True)
    assert manifest["cells"]["ipc2"]["source_images"] == 4 * 2 * len(CLASSES)
    assert "/" not in manifest["config"]["teacher"]["name"] + manifest["source"]["uri"]


def test_what_is_made_is_not_made_again(make: Collages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "set"
    made = Collages.at

    def stopped(self: Collages, ipcs: list[int], label: int, *given: object) -> object:
        if label == 2:
            raise KeyboardInterrupt
        return made(self, ipcs, label, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(Collages, "at", stopped)
    with pytest.raises(KeyboardInterrupt):
        write_collages(str(place), make, OPTIONS, ipcs=(1,), name="toy")
    assert not place.exists()
    monkeypatch.undo()
    run = write_collages(str(place), make, OPTIONS, ipcs=(1,), name="toy")
    assert run.computed == 2
    whole = write_collages(str(tmp_path / "whole"), make, OPTIONS, ipcs=(1,), name="toy")
    assert whole.manifest == run.manifest
    # with more IPCs, only those are made; with other crops, all of them
    assert write_collages(str(place), make, OPTIONS, ipcs=(1, 2), name="toy").computed == 4
    other = dataclasses.replace(make, choice=dataclasses.replace(CHOICE, crops=2))
    assert write_collages(str(place), other, OPTIONS, ipcs=(1, 2), name="toy").computed == 4


def test_a_second_run_in_the_same_place_stops(make: Collages, tmp_path: Path) -> None:
    place = str(tmp_path / "set")
    with locked(f"{place}-work", "raycond collages"), pytest.raises(UserError, match="another run is at work here"):
        contextvars.Context().run(write_collages, place, make, OPTIONS, ipcs=(1,), name="toy")
    with locked(place, "raycond attach"), pytest.raises(UserError, match=r"another run is at work here \(raycond att"):
        contextvars.Context().run(write_collages, place, make, OPTIONS, ipcs=(1,), name="toy")
    assert write_collages(place, make, OPTIONS, ipcs=(1,), name="toy").computed == 0


def test_bad_images(root: Path, tmp_path: Path) -> None:
    folder = data(tmp_path / "data", train=5)
    bad = folder / "train" / "bee" / "bee_0.png"
    good = bad.read_bytes()
    bad.write_bytes(b"")
    make = of(open_source(str(folder), index_dir=str(tmp_path / "index")), root)
    with pytest.raises(UserError, match=r"1 bad images, more than --max-bad 1% allows; [\s\S]*bee_0.png"):
        write_collages(str(tmp_path / "set"), make, OPTIONS, ipcs=(1,), name="toy")
    assert not (tmp_path / "set").exists()
    run = write_collages(str(tmp_path / "set"), make, OPTIONS, ipcs=(1,), name="toy", max_bad="1")
    assert (run.computed, run.manifest["source"]["quarantined"]) == (0, 1)
    assert quarantine.read(run.quarantine) == run.bad
    assert [(one.id, one.class_id) for one in run.bad] == [(make.source.refs(1)[0].id, "bee")]
    bad.write_bytes(good)
    again = of(open_source(str(folder), index_dir=str(tmp_path / "index")), root)
    assert write_collages(str(tmp_path / "set"), again, OPTIONS, ipcs=(1,), name="toy").bad == []
    assert quarantine.read(run.quarantine) == []


def test_image_update(make: Collages, tmp_path: Path) -> None:
    updated = dataclasses.replace(make, clip=clips.saved(tmp_path / "clip", "vit"), update=UpdateOptions(steps=5))
    manifest = write_collages(str(tmp_path / "set"), updated, OPTIONS, ipcs=(1,), name="toy").manifest
    assert manifest["config"]["update"]["steps"] == 5
    assert str(tmp_path) not in str(manifest)
    found = SetImages(str(tmp_path / "set"), 1, "uniform").load(4, OPTIONS)
    assert torch.equal(found.images, updated.load(4, OPTIONS).images)


def test_a_rerun_leaves_the_set_as_it_is(make: Collages, tmp_path: Path) -> None:
    place = tmp_path / "set"
    write_collages(str(place), make, OPTIONS, ipcs=(1,), name="toy")
    manifest = place / "manifest.json"
    base = {"name": "clip", "digest": "0", "bytes": 1, "carried": False}
    projector = {"kind": "projector", "name": "toy", "digest": "0", "dtype": "float16", "parameters": 1, "base": base}
    attached = {**json.loads(manifest.read_text()), "label_generator": projector}
    manifest.write_text(json.dumps(attached))  # as `raycond attach` leaves it
    assert write_collages(str(place), make, OPTIONS, ipcs=(1,), name="toy").manifest == attached
    assert json.loads(manifest.read_text()) == attached
    assert "label_generator" not in write_collages(str(place), make, OPTIONS, ipcs=(1,), name="other").manifest
