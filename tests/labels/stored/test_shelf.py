"""One folder of stored labels or several, as a labeler."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from raycond.core.errors import ClassMismatch, UserError
from raycond.data.classes import Classes
from raycond.labels import registry
from raycond.labels.registry import open_labeler
from raycond.labels.stored import shelf
from raycond.labels.stored.labels import Encoding, StoredLabels, write_labels

CLASSES = Classes.of(("a", "b"))


def write(folder: Path, ids: tuple[int, ...], value: float = 1.0, **options: object) -> None:
    write_labels(
        str(folder),
        torch.tensor(ids),
        CLASSES,
        label=lambda view: torch.full((len(ids), 2), value + view),
        **{"views": 3, "about": {"labeler": {"name": "teacher:x", "digest": "1"}}, **options},  # type: ignore[arg-type]
    )


def test_identity_follows_every_bit(tmp_path: Path) -> None:
    write(tmp_path / "a", (1, 2))
    write(tmp_path / "b", (1, 2), 2.0)
    write(tmp_path / "c", (1, 2), encoding=Encoding(1))
    found = [shelf.identity(str(tmp_path / name), CLASSES) for name in "abc"]
    assert [name for name, _ in found] == ["teacher:x, 3 views", "teacher:x, 3 views", "teacher:x, 3 views, top 1"]
    assert len({digest for _, digest in found}) == 3
    name, digest = shelf.identity(str(tmp_path), CLASSES)
    assert name == "teacher:x, 3 views | teacher:x, 3 views, top 1"
    write(tmp_path / "b", (1, 2), 3.0, about={"labeler": {"name": "teacher:x", "digest": "2"}})
    assert shelf.identity(str(tmp_path), CLASSES)[1] != digest


def test_a_shelf_finds_the_labels_of_a_set(tmp_path: Path) -> None:
    write(tmp_path / "ipc10", (1, 2, 3, 4))
    write(tmp_path / "ipc2", (2, 3))
    (tmp_path / "unfinished").mkdir()
    labels = shelf.open_labels(str(tmp_path), CLASSES)
    assert [labels.of(torch.tensor(ids)).folder.rsplit("/", 1)[-1] for ids in ([3, 2], [4, 2, 3, 1], [1, 2])] == [
        "ipc2",
        "ipc10",
        "ipc10",
    ]
    with pytest.raises(UserError, match=r"none of its 2 stored labels are of this set of 2 images.*--baselines none"):
        labels.of(torch.tensor([1, 5]))
    alone = shelf.open_labels(str(tmp_path / "ipc2"), CLASSES)
    assert type(alone) is StoredLabels
    assert alone.of(torch.tensor([3])) is alone
    with pytest.raises(UserError, match="1 of 1 images have no stored labels"):
        alone.of(torch.tensor([4]))


def test_as_a_labeler(tmp_path: Path) -> None:
    write(tmp_path, (1, 2))
    found = open_labeler(f"stored:{tmp_path}", classes=CLASSES, device="cpu")
    assert (found.name, found.mode) == ("stored:teacher:x, 3 views", "online")
    assert registry.identity(f"stored:{tmp_path}", CLASSES) == (found.name, found.digest)
    assert isinstance(found.logits, StoredLabels)
    with pytest.raises(UserError, match="not of any image"):
        found.logits(torch.rand(1, 1, 8, 8))
    with pytest.raises(ClassMismatch):
        registry.identity(f"stored:{tmp_path}", Classes.of(("b", "a")))


def test_no_labels_at_all(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no labels\.json, and no folder in it that has one"):
        shelf.open_labels(str(tmp_path), CLASSES)
    with pytest.raises(UserError, match=r"no labels\.json: not a folder"):
        shelf.open_labels(str(tmp_path / "nowhere"), CLASSES)
