"""What a training of each method is given, and what comes of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from raycond.core.errors import UserError
from raycond.evaluate.cell import Cell, as_hard, as_plain, run_cell, tuned
from raycond.evaluate.protocol import preset
from raycond.evaluate.table import Check
from raycond.evaluate.training_sets import SetImages, SplitImages, TrainingImages
from tests.evaluate.conftest import CLASSES, OPTIONS, Made
from tests.support.methods import SQRT


def cell(made: Made, images: TrainingImages, ipc: int | None = 3, **more: object) -> Cell:
    found = Cell(
        SQRT,
        ipc,
        "convnet3-w8",
        0,
        preset("quick").override(steps=20),
        CLASSES,
        OPTIONS,
        images,
        made.val,
        "cpu",
    )
    return dataclasses.replace(found, **more)  # type: ignore[arg-type]


def test_a_cell_gives_a_row_and_the_same_twice(made: Made) -> None:
    told: list[Check] = []
    row = run_cell(cell(made, SetImages(made.set, 3, "sqrt"), weights="sqrt", set="a"), told.append)
    assert (row.method, row.ipc, row.student, row.seed, row.images) == (SQRT, 3, "convnet3-w8", 0, 12)
    assert (row.set, row.weights, row.labeler, row.variant, row.protocol) == ("a", "sqrt", "hard", "own", "quick")
    assert tuple(told) == row.curve
    assert row.curve[-1].top1 == row.top1
    assert row.memory > 100 * 2**20  # torch alone
    again = run_cell(cell(made, SetImages(made.set, 3, "sqrt")))
    assert again.curve == row.curve


def test_full_data_is_all_of_it(made: Made) -> None:
    assert run_cell(cell(made, SplitImages(made.train), None)).images == 48


def test_classes_in_parts_are_tested_after_each(made: Made) -> None:
    images = SetImages(made.set, 3, "uniform")
    row = run_cell(cell(made, images, protocol=preset("class-incremental").override(steps=5, tasks=2)))
    assert [check.epoch for check in row.curve] == [1, 2]
    assert row.top1 == row.curve[-1].top1
    assert row.best == pytest.approx(sum(check.top1 for check in row.curve) / 2)


def test_the_centre_of_larger_test_images_is_tested(made: Made, tmp_path: Path) -> None:
    from raycond.data.labelled import pixels, write_pixels

    val = pixels(made.val, 4)
    framed = torch.full((len(val), 3, 10, 10), 255, dtype=torch.uint8)
    framed[:, :, 1:9, 1:9] = val.images
    uri = str(tmp_path / "framed.npz")
    write_pixels(uri, framed.permute(0, 2, 3, 1).numpy(), val.labels.numpy())
    images = SetImages(made.set, 3, "uniform")
    assert run_cell(cell(made, images, test=uri)).curve == run_cell(cell(made, images)).curve


def test_learning_rates_are_tuned_in_variants_of_their_own(made: Made) -> None:
    one = as_hard(cell(made, SetImages(made.set, 3, "sqrt")))
    found = tuned(one, (0.001, 0.05))
    assert [(c.variant, c.protocol.lr) for c in found] == [("hard lr 0.001", 0.001), ("hard lr 0.05", 0.05)]
    assert all(c == dataclasses.replace(one, variant=c.variant, protocol=c.protocol) for c in found)


def test_views_have_their_own_size_in_training_and_in_tests(made: Made) -> None:
    protocol = preset("quick").override(steps=2, checks=1, view_size=6)
    images = SetImages(made.set, 3, "uniform")
    row = run_cell(cell(made, images, protocol=protocol))  # the decoded test images have 8 pixels, and 6 are tested
    assert row.steps == 2
    larger = protocol.override(view_size=12)
    with pytest.raises(UserError, match="test images of 8 pixels have no central 12"):
        run_cell(cell(made, images, protocol=larger))


def test_variants_change_labels_and_augmentation_only(made: Made) -> None:
    soft = cell(made, SetImages(made.set, 3, "sqrt"), labeler="teacher:x", protocol=preset("rethinkdc-soft"))
    hard, plain = as_hard(soft), as_plain(soft)
    assert (hard.labeler, hard.protocol.loss, hard.variant) == ("hard", "cross-entropy", "hard")
    assert hard.protocol == dataclasses.replace(soft.protocol, loss="cross-entropy", mix="none")
    assert hard.protocol.scale == soft.protocol.scale  # crops stay
    assert (plain.labeler, plain.protocol.mix, plain.variant) == ("teacher:x", "none", "plain")
    assert len({c.slug for c in (soft, hard, plain)}) == 3
    for name in ("dc-bench-dsa", "idc"):
        hard = as_hard(cell(made, SetImages(made.set, 3, "sqrt"), protocol=preset(name)))
        assert (hard.protocol.mix, hard.protocol.dsa, hard.protocol.diffaug) == ("none", None, None)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_absent_device_is_said(made: Made) -> None:
    with pytest.raises(UserError, match="device cuda"):
        run_cell(cell(made, SetImages(made.set, 3, "sqrt"), device="cuda"))
