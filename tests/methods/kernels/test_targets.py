from __future__ import annotations

import pytest
import torch
from torch import Tensor

from raycond.core.errors import UserError
from raycond.methods.kernels.targets import Augmentation, Targets, balanced_rows, support_rows
from raycond.methods.kernels.whitening import fit_preprocessing

LABELS = torch.tensor([2, 0, 1, 1, 2, 0, 0, 2, 0])  # 4, 2, 3 images


def test_draws_are_balanced_and_of_their_seed() -> None:
    rows = balanced_rows(LABELS, 3, 2, 7, "targets", 3)
    assert LABELS[rows].tolist() == [0, 0, 1, 1, 2, 2]
    assert len(set(rows.tolist())) == 6
    assert torch.equal(rows, balanced_rows(LABELS, 3, 2, 7, "targets", 3))
    draws = {tuple(balanced_rows(LABELS, 3, 2, 7, "targets", step).tolist()) for step in range(20)}
    assert len(draws) > 5


def test_small_classes_give_all_they_have() -> None:
    assert LABELS[balanced_rows(LABELS, 3, 100, 0)].tolist() == [0, 0, 0, 0, 1, 1, 2, 2, 2]


def test_supports_that_the_data_cannot_give() -> None:
    assert LABELS[support_rows(LABELS, 3, 2, 0)].tolist() == [0, 0, 1, 1, 2, 2]
    with pytest.raises(UserError, match=r"--ipc 3: .* from 1 to 2 images per class here, as class 1 has no more"):
        support_rows(LABELS, 3, 3, 0)
    with pytest.raises(UserError, match="--ipc 0"):
        support_rows(LABELS, 3, 0, 0)
    with pytest.raises(UserError, match=r"no training images of class 3, 4 \(of 5\)"):
        support_rows(LABELS, 5, 1, 0)
    with pytest.raises(UserError, match="labels go from 0 to 2, not from 0 to 1"):
        support_rows(LABELS, 2, 1, 0)
    with pytest.raises(UserError, match="no training images"):
        support_rows(LABELS[:0], 2, 1, 0)


def targets(images: Tensor, **options: object) -> Targets:
    raw = (40 * images + 100).clamp(0, 255).to(torch.uint8)
    preprocessing = fit_preprocessing(raw)
    applied = preprocessing.apply(raw)
    return Targets(raw, applied, torch.arange(40) % 2, 2, preprocessing, Augmentation(**options))


def test_a_batch_depends_on_seed_and_step_alone(stripes: Tensor) -> None:
    data = targets(stripes, share=0.5, rotate=20.0, shift=0.25, flip=True, channel=0.5)
    images, labels = data.batch(20, 3, 8)
    data.batch(20, 3, 9)
    again, same = data.batch(20, 3, 8)
    assert torch.equal(images, again)
    assert torch.equal(labels, same)
    assert labels.tolist() == [0] * 10 + [1] * 10


def test_a_share_is_augmented_before_preprocessing(stripes: Tensor) -> None:
    plain, _ = targets(stripes).batch(20, 3, 8)
    changed, _ = targets(stripes, share=0.25, channel=1.0).batch(20, 3, 8)
    difference = (changed - plain).flatten(1)
    moved = difference.abs().amax(1) > 1e-6
    assert int(moved.sum()) == 5
    # a channel moves as one, by up to one standard deviation, which preprocessing makes 1
    torch.testing.assert_close(difference, difference[:, :1].expand(-1, 16))
    assert difference.abs().max() <= 1


def test_rotation_brings_in_the_mean_color(stripes: Tensor) -> None:
    data = targets(torch.zeros_like(stripes) + stripes[0], share=1.0, rotate=90.0)
    images, _ = data.batch(40, 0, 0)
    assert not torch.allclose(images, data.images)
    constant = data.augmentation(
        torch.full((3, 1, 4, 4), 9.0), torch.full((1, 1, 1), 9.0), torch.ones(1, 1, 1), torch.Generator().manual_seed(0)
    )
    torch.testing.assert_close(constant, torch.full((3, 1, 4, 4), 9.0))


def test_no_augmentation_by_default() -> None:
    assert not Augmentation().active
    assert not Augmentation(share=1.0).active
    with pytest.raises(UserError, match="share must be from 0 to 1, not 2"):
        Augmentation(share=2)
