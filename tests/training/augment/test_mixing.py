from __future__ import annotations

import math

import pytest
import torch

from raycond.core.errors import UserError
from raycond.training.augment import cutmix, mixup
from tests.training.augment.make import generator, images


def numbered(n: int, height: int, width: int) -> torch.Tensor:
    """Image i is i everywhere, so a pixel says whose it is."""
    return torch.arange(float(n)).view(n, 1, 1, 1).expand(n, 2, height, width)


@pytest.mark.parametrize("beta", [1.0, 0.3])
def test_cutmix_pastes_one_box_whose_area_is_exactly_the_partners_share(beta: float) -> None:
    x, g, areas = numbered(10, 9, 14), generator(), set()
    for _ in range(200):
        mixed, partner, own = cutmix(x, beta, g)
        assert sorted(partner.tolist()) == list(range(10))
        moved = int((partner != torch.arange(10)).nonzero()[0])
        foreign = mixed[moved, 0] == partner[moved]
        for line in (foreign.any(0), foreign.any(1)):
            assert int(line.long().diff().abs().sum()) <= 2  # in one piece
        assert torch.equal(foreign, foreign.any(1)[:, None] & foreign.any(0))
        assert torch.equal(mixed, torch.where(foreign, x[partner], x))
        assert own == 1 - int(foreign.sum()) / foreign.numel()
        areas.add(int(foreign.sum()))
    assert len(areas) > 20


@pytest.mark.parametrize("seed", range(20))
def test_cutmix_box_is_that_of_the_source(seed: int) -> None:
    x, g = numbered(64, 32, 20), generator(seed)
    share = float(torch.rand((), dtype=torch.float64, generator=g))
    partner = torch.randperm(64, generator=g)
    expected = x.clone()
    box = []
    for side in (32, 20):
        cut = int(side * math.sqrt(1 - share))
        centre = int(torch.randint(side, (), generator=g))
        box.append(slice(max(centre - cut // 2, 0), min(centre + cut // 2, side)))
    expected[:, :, box[0], box[1]] = x[partner][:, :, box[0], box[1]]
    assert torch.equal(cutmix(x, 1.0, generator(seed)).images, expected)


def test_mixup_is_the_weighted_sum() -> None:
    x = images()
    mixed, partner, own = mixup(x, 0.8, generator())
    assert 0 < own < 1
    torch.testing.assert_close(mixed, own * x + (1 - own) * x[partner])


@pytest.mark.parametrize("beta", [0.2, 1.0, 4.0])
def test_shares_follow_the_beta_distribution(beta: float) -> None:
    x, g = torch.zeros(2, 1, 1, 1), generator()
    own = torch.tensor([mixup(x, beta, g).own for _ in range(3000)])
    variance = 1 / (4 * (2 * beta + 1))
    assert bool(((own >= 0) & (own <= 1)).all())
    assert float(own.mean()) == pytest.approx(0.5, abs=4 * math.sqrt(variance / 3000))
    assert float(own.var()) == pytest.approx(variance, rel=0.1)


def test_one_image_is_its_own_partner() -> None:
    x = images(1)
    for mix in (cutmix, mixup):
        assert torch.equal(mix(x, 1.0, generator()).images, x)


@pytest.mark.parametrize("beta", [0.0, -1.0, math.inf, math.nan])
def test_beta_must_be_above_0(beta: float) -> None:
    with pytest.raises(UserError, match="beta of a mix must be above 0"):
        cutmix(images(), beta, generator())
