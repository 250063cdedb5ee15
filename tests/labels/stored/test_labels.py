"""Soft labels on disk: encoding, chunks, resume, damage."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from raycond.core.errors import ClassMismatch, RaycondError, UserError
from raycond.data.classes import Classes
from raycond.labels.stored import labels
from raycond.labels.stored.labels import Encoding, StoredLabels, index_type, verify_labels, write_labels

CLASSES = Classes.of(("a", "b", "c", "d", "e"))
IDS = torch.tensor([-(2**62), -7, 3, 2**40])


def logits(view: int) -> torch.Tensor:
    return 10 * torch.randn(4, 5, generator=torch.Generator().manual_seed(view))


def write(folder: Path, label: Callable[[int], torch.Tensor] = logits, **options: object) -> dict[str, object]:
    options = {"views": 7, "about": {"labeler": {"name": "teacher:x", "digest": "1"}}, **options}
    return write_labels(str(folder), IDS, CLASSES, label=label, **options)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def three_views_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels, "CHUNK_BYTES", 3 * 4 * 5 * 2)


def test_every_view_of_every_image_comes_back(tmp_path: Path) -> None:
    write(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "ids.safetensors",
        "labels.json",
        *(f"views-{k:05d}.safetensors" for k in (0, 3, 6)),
    ]
    labels = StoredLabels(str(tmp_path), CLASSES)
    rows = labels.rows(torch.tensor([3, -7, 2**40]))
    assert rows.tolist() == [2, 1, 3]
    for view in (6, 0, 3, 2, 5):
        assert torch.equal(labels.logits(view, rows), logits(view)[rows].half().float())
    assert torch.equal(labels.logits(7 + 4, rows), labels.logits(4, rows))
    assert len(labels._held) == 2
    assert verify_labels(str(tmp_path)) == []


def test_an_image_without_labels_is_named_as_such(tmp_path: Path) -> None:
    write(tmp_path)
    labels = StoredLabels(str(tmp_path), CLASSES)
    with pytest.raises(UserError, match="1 of 2 images have no stored labels"):
        labels.rows(torch.tensor([3, 4]))
    with pytest.raises(UserError, match="not of any image"):
        labels(torch.rand(1, 1, 8, 8))


def test_top_k_keeps_the_largest() -> None:
    values = torch.tensor([[1.0, 5.0, 2.0, -3.0], [0.0, -1.0, 4.0, 4.5]])
    parts = Encoding(2).encode(values)
    assert parts["classes"].dtype == torch.int16
    p = F.softmax(Encoding(2).decode(parts, 4), 1)
    kept = F.softmax(torch.tensor([[5.0, 2.0], [4.5, 4.0]]), 1)
    assert torch.allclose(p, torch.tensor([[0, kept[0, 0], kept[0, 1], 0], [0, 0, kept[1, 1], kept[1, 0]]]))
    assert Encoding(2, "minimum").decode(parts, 4).tolist() == [[2, 5, 2, 2], [4, 4, 4, 4.5]]
    assert torch.equal(Encoding(9).decode(Encoding(9).encode(values), 4), values)
    assert [Encoding(k).bytes_per_view(1000) for k in (None, 10, 2000)] == [2000, 40, 4000]
    assert index_type(2**15) == torch.int16
    assert torch.tensor(2**15 - 1, dtype=index_type(2**15)) == 2**15 - 1
    assert index_type(2**15 + 1) == torch.int32


def test_top_k_on_disk(tmp_path: Path) -> None:
    write(tmp_path, encoding=Encoding(2))
    labels = StoredLabels(str(tmp_path), CLASSES)
    found = labels.logits(5, torch.arange(4))
    top = logits(5).topk(2)
    assert torch.equal(found.topk(2).indices, top.indices)
    assert torch.equal(found.gather(1, top.indices), top.values.half().float())
    assert int(found.isneginf().sum()) == 4 * 3


def test_an_interrupted_run_goes_on_and_gives_the_same_bytes(tmp_path: Path) -> None:
    made: list[int] = []

    def until(last: int) -> Callable[[int], torch.Tensor]:
        def label(view: int) -> torch.Tensor:
            if view > last:
                raise KeyboardInterrupt
            made.append(view)
            return logits(view)

        return label

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "a", until(4))
    with pytest.raises(UserError, match=r"no labels\.json.*not finished"):
        StoredLabels(str(tmp_path / "a"), CLASSES)
    made.clear()
    index = write(tmp_path / "a", until(9))
    assert made == [3, 4, 5, 6]  # the first chunk was there
    assert index == write(tmp_path / "b")
    made.clear()
    more = write(tmp_path / "a", until(9), views=8)
    assert made == [6, 7]
    assert more["digest"] != index["digest"]
    made.clear()
    write(tmp_path / "a", until(9), about={"other": 1}, views=2)
    assert made == [0, 1]
    assert sorted(p.name for p in (tmp_path / "a").glob("views*")) == ["views-00000.safetensors"]


def test_other_classes_are_an_error(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(ClassMismatch, match="another order"):
        StoredLabels(str(tmp_path), Classes.of(("b", "a", "c", "d", "e")))


def test_damage_is_found(tmp_path: Path) -> None:
    write(tmp_path)
    chunk = tmp_path / "views-00003.safetensors"
    data = chunk.read_bytes()
    chunk.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert verify_labels(str(tmp_path)) == ["views-00003.safetensors: its SHA-256 is not the one in labels.json"]
    chunk.write_bytes(data[:-1])
    labels = StoredLabels(str(tmp_path), CLASSES)
    labels.logits(0, torch.arange(4))
    with pytest.raises(UserError, match=r"views-00003.safetensors: damaged.*bytes"):
        labels.logits(3, torch.arange(4))
    chunk.unlink()
    assert verify_labels(str(tmp_path)) == ["views-00003.safetensors: missing"]
    index = json.loads((tmp_path / "labels.json").read_text())
    (tmp_path / "labels.json").write_text(json.dumps(index | {"format_version": 9}))
    assert verify_labels(str(tmp_path)) == [f"{tmp_path}: stored labels of format version 9; this raycond reads 1"]


@pytest.mark.parametrize("bad", [float("nan"), float("-inf"), 7e4])
def test_logits_that_fp16_cannot_hold(tmp_path: Path, bad: float) -> None:
    with pytest.raises(RaycondError, match="float16 cannot hold"):
        write(tmp_path, lambda _: torch.full((4, 5), bad))
    assert not (tmp_path / "labels.json").exists()


def test_wrong_use_is_told(tmp_path: Path) -> None:
    with pytest.raises(RaycondError, match=r"view 0 has logits \(4, 4\), expected \(4, 5\)"):
        write(tmp_path, lambda view: logits(view)[:, :4])
    with pytest.raises(UserError, match="views: must be at least 1"):
        write(tmp_path, views=0)
    with pytest.raises(UserError, match="top-k: must be at least 1"):
        Encoding(0)


def test_remote_folders_are_read_in_parts() -> None:
    folder = "memory://stored-labels-test"
    write_labels(folder, IDS, CLASSES, views=4, label=logits)
    labels = StoredLabels(folder, CLASSES)
    assert torch.equal(labels.logits(2, torch.arange(4)), logits(2).half().float())
