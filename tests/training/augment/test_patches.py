from __future__ import annotations

import itertools

import pytest
import torch

from raycond.core.errors import UserError
from raycond.training.augment import shuffle
from tests.training.augment.make import generator, images


@pytest.mark.parametrize(("factor", "arrangements"), [(2, 4), (3, 36)])
def test_rows_and_columns_of_patches_are_permuted_in_every_way(factor: int, arrangements: int) -> None:
    x = images(1, 3, 4 * factor, 5 * factor)[0]
    strips = [torch.cat(order, 2) for order in itertools.permutations(x.split(5, 2))]
    expected = {torch.cat(o, 1).numpy().tobytes() for s in strips for o in itertools.permutations(s.split(4, 1))}
    out = shuffle(x.expand(600, -1, -1, -1), factor, generator())
    assert len(expected) == arrangements
    assert {image.numpy().tobytes() for image in out} == expected


def test_rows_and_columns_left_over_stay() -> None:
    x = images(50, 3, 8, 11)
    out = shuffle(x, 3, generator())  # patches of 2x3: the last 2 rows and columns are left
    x, out = x.flatten(1), out.flatten(1)
    assert torch.equal(out.sort(1).values, x.sort(1).values)
    x, out = (z.view(50, 3, 8, 11) for z in (x, out))
    assert torch.equal(out[:, :, 6:, 9:], x[:, :, 6:, 9:])
    # columns move within the rows left over, rows within the columns left over
    assert torch.equal(out[:, :, 6:].sort(3).values, x[:, :, 6:].sort(3).values)
    assert torch.equal(out[:, :, :, 9:].sort(2).values, x[:, :, :, 9:].sort(2).values)
    assert not torch.equal(out[:, :, 6:], x[:, :, 6:])


def test_one_patch_is_the_image() -> None:
    x = images()
    assert torch.equal(shuffle(x, 1, generator()), x)


@pytest.mark.parametrize("factor", [0, 9])
def test_factor_must_fit(factor: int) -> None:
    with pytest.raises(UserError, match=f"8x12 pixels cannot be cut into {factor}x{factor}"):
        shuffle(images(2, 3, 8, 12), factor, generator())
