"""Views as functions of image and number."""

from __future__ import annotations

import pytest
import torch

from raycond.core.errors import UserError
from raycond.evaluate import EvaluationProtocol, preset
from raycond.evaluate.numbered_views import _GOLDEN, SeededViews, _Draws, _hash, image_ids, settings
from raycond.evaluate.views import augmented, mixed

PLAIN = preset("quick").without_augmentation()
EVERYTHING = {
    "shuffle": 2,
    "scale": [0.3, 1.0],
    "shift": 0.1,
    "flip": True,
    "jitter": [0.4, 0.4, 0.4],
    "lighting": 0.1,
}
SETTINGS = [
    {"shuffle": 3},
    {"scale": [0.1, 0.9]},
    {"shift": 0.2},
    {"flip": True},
    {"jitter": [0.6, 0.4, 0.8]},
    {"lighting": 0.3},
    {"mix": "cutmix"},
    {"mix": "cutmix", "mix_beta": 0.3, "mix_probability": 0.6},
    {"mix": "mixup", "mix_beta": 0.4},
]


def pictures(n: int = 20, channels: int = 3, side: int = 11, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, channels, side, side), dtype=torch.uint8, generator=generator)


def views_of(images: torch.Tensor, protocol: EvaluationProtocol, seed: int = 0) -> SeededViews:
    return SeededViews(images, image_ids(images), protocol, seed)


BLACK, FIFTH = 5580204151939537389, 0.6060110926628113  # of this version, for those to come


def same(n: int, value: int) -> torch.Tensor:
    return torch.full((n,), value)


@pytest.mark.parametrize("mix", ["none", "cutmix", "mixup"])
def test_a_view_is_the_same_in_any_batch_and_in_any_order_of_the_set(mix: str) -> None:
    images, protocol = pictures(), PLAIN.override(**EVERYTHING, mix=mix)
    whole = views_of(images, protocol)
    rows, numbers = torch.arange(20), torch.arange(20) % 7
    seen = whole(rows, numbers)
    alone = [whole(rows[k : k + 1], numbers[k : k + 1]) for k in range(20)]
    assert torch.allclose(seen.images, torch.cat([a.images for a in alone]), atol=1e-6)
    assert torch.equal(seen.lam, torch.cat([a.lam for a in alone]))
    order = torch.randperm(20, generator=torch.Generator().manual_seed(1))
    moved = views_of(images[order], protocol)(rows, numbers[order])
    assert torch.allclose(moved.images, seen.images[order], atol=1e-6)
    if mix != "none":
        assert seen.second is not None
        assert moved.second is not None
        assert torch.equal(order[moved.second], seen.second[order])


def test_numbers_seeds_and_images_make_other_views() -> None:
    images, protocol = pictures(), PLAIN.override(**EVERYTHING)
    views, rows = views_of(images, protocol), torch.arange(20)
    first = views(rows, same(20, 0)).images
    assert torch.equal(first, views(rows, same(20, 0)).images)
    for other in (views(rows, same(20, 1)), views_of(images, protocol, seed=1)(rows, same(20, 0))):
        assert bool(((first - other.images).abs().amax((1, 2, 3)) > 0.01).all())


def test_ids_are_of_shape_and_pixels() -> None:
    images = pictures(3)
    assert torch.equal(image_ids(images[[2, 0]]), image_ids(images)[[2, 0]])
    changed = images.clone()
    changed[1, 0, 0, 0] += 1
    assert (image_ids(changed) != image_ids(images)).tolist() == [False, True, False]
    flat = torch.zeros(1, 1, 4, 4, dtype=torch.uint8)
    assert image_ids(flat) != image_ids(flat.view(1, 4, 2, 2))


def test_draws_are_splitmix64_for_ever() -> None:
    """The reference's first outputs for seed 0: stored labels must find their views in any later version."""
    state = torch.zeros(1, dtype=torch.int64)
    golden = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert [h % 2**64 for h in _hash(_GOLDEN * torch.arange(1, 4)).tolist()] == golden
    assert _Draws(state).uniform(0, 3).tolist() == [[(g >> 40) * 2**-24 for g in golden]]
    black = torch.zeros(1, 1, 2, 2, dtype=torch.uint8)
    assert int(image_ids(black)) == BLACK
    found = views_of(black, PLAIN)._draws(torch.tensor([0]), torch.tensor([5])).uniform(0, 1)
    assert float(found) == pytest.approx(FIFTH, abs=1e-9)


def test_draws_are_uniform_and_independent() -> None:
    views = views_of(pictures(4), PLAIN)
    numbers = torch.arange(20_000)
    draws = torch.cat(
        [views._draws(same(20_000, k), numbers).uniform(place, 2) for k in (0, 1) for place in (0, 2**20)], 1
    )
    counts = torch.stack([torch.histc(column, 20, 0, 1) for column in draws.T])
    chi = ((counts - 1000).square() / 1000).sum(1)
    assert bool((chi < 45).all())  # 19 degrees of freedom: beyond 43.8 once in a thousand
    after = torch.cat([draws[:-1], draws[1:]], 1)  # the next number's view too
    correlation = torch.corrcoef(after.T) - torch.eye(after.shape[1])
    assert float(correlation.abs().max()) < 0.03


@pytest.mark.parametrize("change", SETTINGS, ids=str)
def test_views_are_distributed_as_those_of_batches(change: dict[str, object]) -> None:
    images = torch.stack([pictures(2, side=9)[0], pictures(2, side=9)[1]]).float()
    images = (images * 0.25 + torch.linspace(0, 180, 9)).clamp(0, 255).to(torch.uint8)
    protocol, count = PLAIN.override(**change), 3000
    seeded = views_of(images, protocol)(same(count, 0), torch.arange(count)).images
    generator, parts = torch.Generator().manual_seed(0), []
    for _ in range(count // 10 if "mix" in change else 1):  # one share and one box a batch, so many batches
        n = 10 if "mix" in change else count
        batch = augmented(images[torch.arange(n) % 2].float() / 255, protocol, generator)
        pair = mixed(batch, protocol, generator)
        parts.append((batch if pair is None else pair.images)[::2])
    batches = torch.cat(parts)
    spread = batches.std(0).amax()
    error = 6 * float(spread) / len(batches) ** 0.5
    assert torch.allclose(seeded.mean(0), batches.mean(0), atol=error)
    assert torch.allclose(seeded.std(0), batches.std(0), atol=error)


def test_one_setting_moves_no_draw_of_another() -> None:
    images = pictures()
    flipped = views_of(images, PLAIN.override(flip=True))(torch.arange(20), same(20, 3)).images
    both = views_of(images, PLAIN.override(flip=True, shuffle=1, mix="cutmix", mix_probability=0.0))
    assert torch.equal(both(torch.arange(20), same(20, 3)).images, flipped)


def test_shares_are_those_of_the_pixels() -> None:
    images = torch.stack([torch.zeros(1, 8, 8), torch.full((1, 8, 8), 255)]).to(torch.uint8)
    for change in ({"mix": "cutmix"}, {"mix": "mixup", "mix_beta": 0.3}):
        seen = views_of(images, PLAIN.override(**change))(same(500, 0), torch.arange(500))
        assert seen.second is not None
        white = torch.where(seen.second == 1, 1 - seen.lam, 0.0)
        assert torch.allclose(seen.images.mean((1, 2, 3)), white, atol=1e-5)
        assert 0.4 < float((seen.second == 1).float().mean()) < 0.6
    coin = views_of(images, PLAIN.override(mix="mixup", mix_probability=0.25))(same(2000, 0), torch.arange(2000))
    assert 0.2 < float((coin.lam < 1).float().mean()) < 0.3


def test_settings_are_all_that_changes_a_view() -> None:
    assert settings(PLAIN) == settings(PLAIN.override(lr=1.0, mix_beta=3.0, batch=7))
    assert settings(PLAIN.override(mix="cutmix")) != settings(PLAIN.override(mix="cutmix", mix_beta=3.0))
    assert settings(PLAIN.override(scale=[0.5, 1.0]))["scale"] == [0.5, 1.0]
    with pytest.raises(UserError, match="--set dsa=null"):
        views_of(pictures(), PLAIN.override(dsa="flip_color"))
    with pytest.raises(UserError, match="--set diffaug=null"):
        views_of(pictures(), PLAIN.override(diffaug="flip_color"))
    with pytest.raises(UserError, match="cannot be cut into 12x12"):
        views_of(pictures(), PLAIN.override(shuffle=12))(torch.arange(2), torch.arange(2))


@pytest.mark.gpu
@pytest.mark.parametrize("changes", SETTINGS, ids=str)
def test_a_view_is_the_same_on_cuda(changes: dict[str, object]) -> None:
    images, protocol = pictures(), PLAIN.override(**changes)
    rows, ids = torch.arange(20), image_ids(images)
    here = SeededViews(images, ids, protocol, 3)(rows, rows % 7)
    there = SeededViews(images.cuda(), ids, protocol, 3)(rows.cuda(), rows.cuda() % 7)
    torch.testing.assert_close(there.images.cpu(), here.images, rtol=0, atol=1e-5)
    torch.testing.assert_close(there.lam.cpu(), here.lam)
    if here.second is not None:
        assert there.second is not None
        assert torch.equal(there.second.cpu(), here.second)
