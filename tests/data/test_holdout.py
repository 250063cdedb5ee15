from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from raycond.core.errors import UserError
from raycond.data.class_arrays import ArrayFiles, Pixels
from raycond.data.holdout import split
from raycond.training.augment.augmentation import Augmentation
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
