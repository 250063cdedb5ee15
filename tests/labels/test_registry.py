from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from raycond.core.errors import UserError
from raycond.core.registry import Entry
from raycond.data.classes import Classes
from raycond.labels.registry import LABELERS, identity, open_labeler
from raycond.labels.teacher import open_teacher
from raycond.models import students

CLASSES = Classes.of(("a", "b", "c"))


@pytest.fixture
def where(tmp_path: Path) -> str:
    torch.manual_seed(0)
    net = students.build("convnet3-w8", classes=3, size=16, channels=3)
    torch.save(net.state_dict(), tmp_path / "w.pt")
    return f"convnet3-w8@{tmp_path}/w.pt,mean=0.5,std=0.5"


def test_hard() -> None:
    found = open_labeler("hard", classes=CLASSES, device="cpu")
    assert (found.mode, found.name, found.logits) == ("hard", "hard", None)
    assert identity("hard", CLASSES) == (found.name, found.digest)


@pytest.mark.parametrize(("kind", "mode"), [("once", "fixed"), ("teacher", "online")])
def test_teachers(where: str, tmp_path: Path, kind: str, mode: str) -> None:
    found = open_labeler(f"{kind}:{where}", classes=CLASSES, device="cpu")
    assert (found.mode, found.name) == (mode, f"{kind}:convnet3-w8")
    assert str(tmp_path) not in repr(dataclasses.replace(found, logits=None))
    assert identity(f"{kind}:{where}", CLASSES) == (found.name, found.digest)
    images = torch.rand(4, 3, 16, 16)
    assert found.logits is not None
    assert torch.equal(found.logits(images), open_teacher(where, classes=CLASSES, device="cpu")(images))


def test_digests_tell_labelers_apart(where: str) -> None:
    specs = ["hard", f"once:{where}", f"teacher:{where}", f"teacher:{where},outputs=1+0+2"]
    assert len({identity(spec, CLASSES)[1] for spec in specs}) == 4


def test_identity_finds_what_is_wrong_early(where: str) -> None:
    with pytest.raises(UserError, match="3 outputs and 2 classes"):
        identity(f"teacher:{where}", CLASSES.head(2))
    with pytest.raises(UserError, match="cannot be read"):
        identity("once:resnet18@/none.pth", CLASSES)


@pytest.mark.parametrize("read", [identity, lambda s, c: open_labeler(s, classes=c, device="cpu")])
def test_unknown_and_incomplete_specs(read: object) -> None:
    assert callable(read)
    with pytest.raises(UserError, match=r"labeler soft: not one of hard, once:TEACHER, .*, stored:DIR$"):
        read("soft:x", CLASSES)
    with pytest.raises(UserError, match=r"did you mean teacher\?"):
        read("techer:x", CLASSES)
    for spec in ("teacher", "teacher:"):
        with pytest.raises(UserError, match="expected teacher:TEACHER"):
            read(spec, CLASSES)
    with pytest.raises(UserError, match="labeler hard:x: expected hard"):
        read("hard:x", CLASSES)


def test_a_new_labeler_is_one_file_and_one_entry(
    new_file: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = new_file("""
        from raycond.labels.base import Kind

        def identity(where, classes):
            return where, str(len(classes))

        def open(where, classes, device):
            return identity(where, classes), lambda images: images.flatten(1)[:, : len(classes)]

        PIXELS = Kind("online", identity, open)
    """)
    monkeypatch.setitem(LABELERS.entries, "first", Entry("first", "the first pixels", f"{module}:PIXELS", "FOLDER"))
    found = open_labeler("first:tiny", classes=CLASSES, device="cpu")
    assert (found.mode, found.name) == ("online", "first:tiny")
    assert identity("first:tiny", CLASSES) == (found.name, found.digest)
    assert found.logits is not None
    assert found.logits(torch.zeros(2, 1, 4, 4)).shape == (2, 3)
