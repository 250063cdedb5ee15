from __future__ import annotations

import contextvars
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from raycond.core.errors import ClassMismatch, UserError
from raycond.core.lock import locked
from raycond.data.classes import Classes
from raycond.labels.projector.delta import ABOUT, DELTA, save_projector
from raycond.labels.projector.labeler import identity, open_logits
from raycond.labels.projector.network import Projector
from raycond.labels.stored.sizes import readable
from raycond.models.clip import open_clip_model
from raycond.sets.attach import attach_projector, bytes_table, projector_problems
from raycond.sets.manifest import read_manifest
from raycond.sets.verify import verify
from tests.labels.clips import pictures, saved
from tests.labels.projectors import shaken
from tests.sets.make import CLASSES, write

PLACE = "labels/projector"


def fitted(folder: Path, classes: Classes = CLASSES, *, carried: bool = True, seed: int = 1) -> Projector:
    clip = saved(folder / "clip" if carried else folder.with_name("models"))
    projector = shaken(Projector(open_clip_model(clip, device="cpu"), classes), seed)
    save_projector(str(folder), projector, "float16", {"name": "toy"})
    return projector


def problems(path: Path) -> list[str]:
    return [*verify(str(path)), *projector_problems(str(path), read_manifest(str(path)))]


def test_a_set_carries_its_projector(tmp_path: Path) -> None:
    before = write(tmp_path / "set")
    projector = fitted(tmp_path / "fit")
    manifest = attach_projector(str(tmp_path / "set"), str(tmp_path / "fit"))
    assert manifest == json.loads((tmp_path / "set" / "manifest.json").read_text())
    assert problems(tmp_path / "set") == []
    names = {f"{PLACE}/{n}" for n in (DELTA, ABOUT, "clip/open_clip_config.json", "clip/open_clip_model.safetensors")}
    assert manifest["files"].keys() - before["files"].keys() == names
    sizes = {n: (tmp_path / "set" / n).stat().st_size for n in names}
    own = sizes[f"{PLACE}/{DELTA}"] + sizes[f"{PLACE}/{ABOUT}"]
    assert manifest["storage_bytes"] == before["storage_bytes"] | {
        "label_generator": own,
        "label_generator_base": sum(sizes.values()) - own,
    }
    noted = manifest["label_generator"]
    assert (noted["name"], noted["dtype"], noted["parameters"]) == ("toy", "float16", projector.count)
    assert noted["base"] == {
        "name": "clip",
        "digest": projector.clip.digest,
        "bytes": projector.clip.bytes,
        "carried": True,
    }
    card = (tmp_path / "set" / "README.md").read_text()
    assert f"label generator {own:,}" in card
    assert "* Soft labels: `--labeler projector:PATH`, a delta on the CLIP clip, which is carried too." in card
    text = bytes_table(manifest)
    assert "IPC 1, base model clip" in text
    assert text.count("As HeLlO counts it") == 2
    assert "300 epochs x 12 images x 3 classes" in text
    assert "not public: it goes with the delta" in text
    whole = {k: v for k, v in before.items() if k not in ("files", "storage_bytes", "labels")}
    assert whole.items() <= manifest.items()


def test_the_set_labels_by_itself(tmp_path: Path) -> None:
    write(tmp_path / "set")
    projector, x = fitted(tmp_path / "fit"), pictures(3, 20)
    found = identity(str(tmp_path / "fit"), CLASSES)
    attach_projector(str(tmp_path / "set"), str(tmp_path / "fit"))
    (tmp_path / "set").rename(tmp_path / "moved")
    (tmp_path / "fit").rename(tmp_path / "gone")
    again, logits = open_logits(str(tmp_path / "moved"), CLASSES, torch.device("cpu"))
    assert again == found
    with torch.no_grad():
        torch.testing.assert_close(logits(x), projector(x), rtol=0, atol=0.02)


def test_a_set_that_is_being_written_is_left_alone(tmp_path: Path) -> None:
    before = write(tmp_path / "set")
    fitted(tmp_path / "fit")
    paths = str(tmp_path / "set"), str(tmp_path / "fit")
    with locked(paths[0], "a run that writes this set"), pytest.raises(UserError, match="another run is at work here"):
        contextvars.Context().run(attach_projector, *paths)
    assert json.loads((tmp_path / "set" / "manifest.json").read_text()) == before
    attach_projector(*paths)
    assert problems(tmp_path / "set") == []


def test_a_public_clip_is_only_named(tmp_path: Path) -> None:
    write(tmp_path / "set")
    fitted(tmp_path / "fit", carried=False)
    manifest = attach_projector(str(tmp_path / "set"), str(tmp_path / "fit"))
    assert sorted(n for n in manifest["files"] if n.startswith("labels/")) == [f"{PLACE}/{DELTA}", f"{PLACE}/{ABOUT}"]
    assert manifest["storage_bytes"]["label_generator_base"] == 0
    base = manifest["label_generator"]["base"]
    assert base["carried"] is False
    assert base["bytes"] > 0  # which the table states, though they are not in the set
    assert f"| base model {base['name']} | {readable(base['bytes'])} |" in bytes_table(manifest)
    assert problems(tmp_path / "set") == []


def test_another_replaces_it(tmp_path: Path) -> None:
    write(tmp_path / "set")
    fitted(tmp_path / "a")
    fitted(tmp_path / "b", carried=False, seed=2)
    attach_projector(str(tmp_path / "set"), str(tmp_path / "a"))
    first = attach_projector(str(tmp_path / "set"), str(tmp_path / "b"))
    assert attach_projector(str(tmp_path / "set"), str(tmp_path / "b")) == first
    present = {p.relative_to(tmp_path / "set").as_posix() for p in (tmp_path / "set").rglob("*") if p.is_file()}
    assert present == {*first["files"], "manifest.json"}
    assert problems(tmp_path / "set") == []


def test_what_does_not_belong_together(tmp_path: Path) -> None:
    write(tmp_path / "set")
    fitted(tmp_path / "turned", Classes(CLASSES.ids[::-1], CLASSES.names[::-1]))
    before = (tmp_path / "set" / "manifest.json").read_bytes()
    with pytest.raises(ClassMismatch, match="another order"):
        attach_projector(str(tmp_path / "set"), str(tmp_path / "turned"))
    fitted(tmp_path / "fit")
    saved(tmp_path / "fit" / "clip", seed=5)
    with pytest.raises(UserError, match="the very CLIP"):
        attach_projector(str(tmp_path / "set"), str(tmp_path / "fit"))
    with pytest.raises(UserError, match="not a condensed set"):
        attach_projector(str(tmp_path / "fit"), str(tmp_path / "fit"))
    assert (tmp_path / "set" / "manifest.json").read_bytes() == before
    assert not (tmp_path / "set" / "labels").exists()


@pytest.mark.parametrize("what", ["bytes", "classes", "other", "gone", "storage"])
def test_damage_is_found(tmp_path: Path, what: str) -> None:
    write(tmp_path / "set")
    fitted(tmp_path / "fit")
    attach_projector(str(tmp_path / "set"), str(tmp_path / "fit"))
    folder, manifest = tmp_path / "set", tmp_path / "set" / "manifest.json"

    def change(**values: Any) -> None:
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | values))

    content = json.loads(manifest.read_text())
    if what == "bytes":
        data = bytearray((folder / PLACE / DELTA).read_bytes())
        data[-1] ^= 1
        (folder / PLACE / DELTA).write_bytes(bytes(data))
        expected = f"{PLACE}/{DELTA}: its SHA-256"
    elif what == "classes":
        about = json.loads((folder / PLACE / ABOUT).read_text())
        about["classes"]["ids"].reverse()
        (folder / PLACE / ABOUT).write_text(json.dumps(about))
        expected = "class lists differ"
    elif what == "other":
        change(label_generator=content["label_generator"] | {"digest": "0"})
        expected = f"{PLACE}/{ABOUT}: is of another projector"
    elif what == "gone":
        (folder / PLACE / ABOUT).unlink()
        expected = "no projector.json"
    else:
        change(storage_bytes=content["storage_bytes"] | {"label_generator": 1})
        expected = "label_generator 1 bytes, the files have"
    assert any(expected in problem for problem in problems(folder)), problems(folder)


@pytest.mark.parametrize("name", ["open_clip_pytorch_model.bin", "tok.py", "model.pt", "a\nb.json"])
def test_a_clip_with_files_that_may_run_code_does_not_go_into_a_set(tmp_path: Path, name: str) -> None:
    write(tmp_path / "set")
    fitted(tmp_path / "fit")
    (tmp_path / "fit" / "clip" / name).write_bytes(b"x")
    before = {p.relative_to(tmp_path): p.read_bytes() for p in (tmp_path / "set").rglob("*") if p.is_file()}
    with pytest.raises(UserError, match=r"cannot go into a set|CLIP|clip"):
        attach_projector(str(tmp_path / "set"), str(tmp_path / "fit"))
    assert {p.relative_to(tmp_path): p.read_bytes() for p in (tmp_path / "set").rglob("*") if p.is_file()} == before


def test_the_folder_of_a_run_means_its_set(tmp_path: Path) -> None:
    write(tmp_path / "run" / "set")
    fitted(tmp_path / "fit")
    attach_projector(str(tmp_path / "run"), str(tmp_path / "fit"))
    assert problems(tmp_path / "run" / "set") == []
