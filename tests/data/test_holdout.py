from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from raycond.core.errors import UserError
from raycond.data.class_arrays import ArrayFiles, Pixels
from raycond.data.holdout import hold_out, split
from raycond.data.rows import RowSource
from raycond.data.sources import open_source
from raycond.training.augment.augmentation import Augmentation
from tests.data.make import tree
from tests.labels.images import halves, pixels


def test_rows_are_in_the_order_of_the_labels() -> None:
    parts = halves((3, 1, 4))
    found = Pixels(parts, "cpu")
    images, labels = found.take(torch.tensor([7, 0, 3, 4]))
    assert labels.tolist() == [2, 0, 1, 2]
    expected = np.concatenate(parts)[[7, 0, 3, 4]]
    assert torch.equal(images, torch.from_numpy(expected).float() / 255)
    assert (len(found), found.classes, found.shape) == (8, 3, (1, 8, 8))


def test_mapped_files_give_what_memory_gives(tmp_path: Path) -> None:
    parts = halves((5, 2))
    for label, part in enumerate(parts):
        np.save(tmp_path / f"{label}.npy", part)
    found = ArrayFiles(tuple(str(tmp_path / f"{k}.npy") for k in range(2)), (5, 2), (1, 8, 8))
    rows = torch.tensor([6, 1, 1, 5])
    mapped, whole = Pixels.open(found, "cpu", in_memory=1), Pixels.open(found, "cpu")
    assert mapped._whole is None
    assert whole._whole is not None
    for a, b in zip(mapped.raw(rows), whole.raw(rows), strict=True):
        assert torch.equal(a, b)


def test_statistics_are_those_of_the_chosen_rows() -> None:
    parts = halves(channels=3)
    found = Pixels(parts, "cpu")
    rows = torch.arange(10, 40)
    mean, std = found.statistics(rows)
    values = np.concatenate(parts)[10:40] / 255
    assert mean == pytest.approx(values.mean((0, 2, 3)), abs=1e-5)
    assert std == pytest.approx(values.std((0, 2, 3)), abs=1e-5)
    assert found.statistics(rows, most=5) == found.statistics(rows[::6])


def test_split_holds_out_of_each_class() -> None:
    learn, held = split((20, 10, 3), 3, 0)
    assert sorted([*learn.tolist(), *held.tolist()]) == list(range(33))
    labels = torch.bucketize(held, torch.tensor([20, 30]), right=True)
    assert labels.bincount(minlength=3).tolist() == [3, 2, 0]  # at most a fifth
    assert torch.equal(split((20, 10, 3), 3, 0)[1], held)
    assert not torch.equal(split((20, 10, 3), 3, 1)[1], held)
    with pytest.raises(UserError, match="--holdout 3: no class has the five images"):
        split((4, 3), 3, 0)


def test_views_differ_and_keep_their_range() -> None:
    images, _ = pixels().take(torch.arange(6))

    def view(**options: object) -> torch.Tensor:
        return Augmentation(**options)(images, torch.Generator().manual_seed(3))  # type: ignore[arg-type]

    assert torch.equal(view(), images)
    for options in ({"scale": (0.3, 0.8)}, {"shift": 0.3}, {"flip": True}):
        assert not torch.equal(view(**options), images)
        assert torch.equal(view(**options), view(**options))
        assert 0 <= float(view(**options).min()) <= float(view(**options).max()) <= 1


def source(tmp_path: Path, classes: dict[str, int], **options: object) -> RowSource:
    return open_source(str(tree(tmp_path / "d", classes)), index_dir="x", **options)  # type: ignore[arg-type]


def ids(part: RowSource) -> list[list[str]]:
    return [[ref.id for ref in part.refs(k)] for k in range(len(part.classes))]


def test_a_source_in_two_parts(tmp_path: Path) -> None:
    whole = source(tmp_path, {"a": 20, "b": 3, "c": 2, "d": 1})
    train, val = hold_out(whole, 0.1, seed=3)
    assert [len(part) for part in ids(val)] == [2, 1, 1, 0]
    for one, other, every in zip(ids(train), ids(val), ids(whole), strict=True):
        assert sorted(one + other) == every
    assert train.classes == val.classes == whole.classes
    assert pickle.loads(pickle.dumps(val)).refs(0) == val.refs(0)
    assert "held out" in train.description
    assert "0.1 of each class held out of: class folders" in val.description


def test_what_is_held_out_depends_on_the_seed_and_the_ids_alone(tmp_path: Path) -> None:
    whole = source(tmp_path, {"a": 30, "b": 30})
    first, again, other = (ids(hold_out(whole, 0.2, seed)[1]) for seed in (0, 0, 1))
    assert first == again != other
    limited = open_source(str(tmp_path / "d"), index_dir="y", limit=4)
    train, val = hold_out(limited, 0.2, 0)
    assert [len(part) for part in ids(train) + ids(val)] == [4] * 4  # the limit is of each part,
    assert all(set(few) <= set(many) for few, many in zip(ids(val), first, strict=True))  # and moves no image


def test_fingerprints_follow_the_part(tmp_path: Path) -> None:
    whole = source(tmp_path, {"a": 10})
    train, val = hold_out(whole, 0.3, 0)
    assert (
        len({whole.fingerprint(0), train.fingerprint(0), val.fingerprint(0), hold_out(whole, 0.3, 1)[0].fingerprint(0)})
        == 4
    )
    assert val.listing(0).images == 3


def test_bad_records_belong_to_one_part(tmp_path: Path) -> None:
    whole = source(tmp_path, {"a": 4, "b": 4})
    (tmp_path / "d" / "stray.png").write_bytes(b"x")
    train, val = hold_out(whole, 0.5, 0)
    assert (len(train.bad), val.bad) == (1, [])


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_shares_that_make_no_sense(tmp_path: Path, share: float) -> None:
    with pytest.raises(UserError, match="must be between 0 and 1"):
        hold_out(source(tmp_path, {"a": 4}), share, 0)
