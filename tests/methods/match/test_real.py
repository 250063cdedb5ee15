from __future__ import annotations

import numpy as np
import pytest
import torch

from raycond.core.errors import UserError
from raycond.data.class_arrays import Pixels
from raycond.methods.match.real import RealImages, endless
from tests.methods.match.make import MEAN, STD, real


def test_images_of_a_class_are_read_by_their_place_in_it() -> None:
    images = real()
    stored = images.pixels.raw(torch.tensor([9 + 3, 9 + 0]))[0]
    assert torch.equal(images.raw(1, torch.tensor([3, 0])), stored.float() / 255)
    expected = (stored.double() / 255 - torch.tensor(MEAN).view(-1, 1, 1)) / torch.tensor(STD).view(-1, 1, 1)
    seen = images.seen(1, torch.tensor([3, 0]))
    torch.testing.assert_close(seen.double(), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(images.denormalize(seen), stored.float() / 255)


def test_images_of_all_classes_come_with_their_labels() -> None:
    images = real((3, 2, 4))
    batch, labels = images.of_all(torch.tensor([0, 3, 8, 4]))
    assert labels.tolist() == [0, 1, 2, 1]
    torch.testing.assert_close(batch[1:2], images.seen(1, torch.tensor([0])))


def test_an_endless_sequence_goes_through_every_shuffle() -> None:
    joined = endless(7, 0, 35, 1, "x")
    for epoch in joined.view(5, 7):
        assert sorted(epoch.tolist()) == list(range(7))
    assert len({tuple(epoch.tolist()) for epoch in joined.view(5, 7)}) > 1
    assert torch.equal(endless(7, 11, 9, 1, "x"), joined[11:20])
    assert not torch.equal(endless(7, 0, 35, 1, "y"), joined)
    assert not torch.equal(endless(7, 0, 35, 2, "x"), joined)


def test_what_cannot_be_matched_is_an_error() -> None:
    parts = [np.zeros((2, 3, 4, 4), np.uint8), np.zeros((0, 3, 4, 4), np.uint8)]
    with pytest.raises(UserError, match="class 1: has no image"):
        RealImages(Pixels(parts, "cpu"), (0.5,) * 3, (0.5,) * 3)
    with pytest.raises(UserError, match="expected 3 means and 3 positive"):
        RealImages(Pixels(parts[:1], "cpu"), (0.5,), (0.5,))
    with pytest.raises(UserError, match="positive deviations"):
        RealImages(Pixels(parts[:1], "cpu"), (0.5,) * 3, (0.5, 0.0, 0.5))
