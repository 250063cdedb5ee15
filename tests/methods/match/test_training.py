from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from raycond.core.errors import UserError
from raycond.core.seeds import seed_of
from raycond.methods.match.config import MatchConfig
from raycond.methods.match.formation import Formation
from raycond.methods.match.gradient import GradientMatching
from raycond.methods.match.objective import ClassBatch
from raycond.methods.match.real import RealImages
from raycond.methods.match.training import Matching
from raycond.training.augment import dsa
from raycond.training.augment.diffaug import diffaug
from tests.methods.match.make import config, network, real

METHODS = ("dc", "dsa", "dm", "idc")


def matching(settings: MatchConfig, images: RealImages | None = None, seed: int = 3, **options: Any) -> Matching:
    return Matching(settings, images or real(), seed=seed, **options)


def finished(settings: MatchConfig, **options: Any) -> Matching:
    run = matching(settings, **options)
    list(run.run())
    return run


@pytest.mark.parametrize("sampling", ["random", "dream"])
@pytest.mark.parametrize("name", METHODS)
def test_a_phase_that_stopped_anywhere_goes_on_to_the_same_bytes(name: str, sampling: str) -> None:
    changes = {"factor": 2, "ipc": 1} if name == "idc" else {}
    settings = config(name, sampling={"kind": sampling}, **changes)
    run = matching(settings)
    states = [run.state() for _ in run.run()]
    assert len(states) == settings.total
    assert len(set(states)) == len(states)
    for state in states[:-1]:
        other = matching(settings)
        other.load(state)
        list(other.run())
        assert other.state() == states[-1]
        assert other.curve == run.curve


@pytest.mark.parametrize("name", METHODS)
def test_the_seed_decides(name: str) -> None:
    settings = config(name)
    one, again, other = (finished(settings, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.images, again.images)
    assert not torch.equal(one.images, other.images)


@pytest.mark.parametrize("name", METHODS)
def test_the_loss_falls(name: str) -> None:
    """Over the steps of one network and one real batch, which is what the images are moved to fit."""
    changes = {"lr": 0.02} if name == "idc" else {}
    settings = config(name, batch=100, augment="none", strategy="", iterations=1, steps=12,
                      training={"data": "none", "strategy": ""}, **changes)  # fmt: skip
    losses = [loss for _, loss in finished(settings).curve]
    assert losses[-1] < 0.9 * losses[0]


def test_a_step_is_the_papers() -> None:
    """DSA's first step, written out: sampled rows, Siamese augmentation, the sum of losses, SGD with momentum."""
    settings = config("dsa", network="convnet2-w4", steps=2, momentum=0.5, training={"epochs": 1})
    images = real()
    run = matching(settings, images)
    start = run.stored.detach().clone()
    steps = run.run()
    moved, velocity = start.clone(), torch.zeros_like(start)
    drawn = network(settings)
    drawn.draw(0)
    objective = GradientMatching(settings)
    next(steps)
    leaf = moved.clone().requires_grad_()
    total = torch.zeros(())
    for label in range(3):
        order = torch.randperm(images.counts[label], generator=_generator("real", 0, label))
        seen = images.raw(label, order[:5])
        seen = (seen - images.mean) / images.std
        pair = [
            dsa(part, settings.strategy, _generator("augment", 0, label), shared=True)
            for part in (seen, leaf[2 * label : 2 * label + 2])
        ]
        total = total + objective.losses(drawn, [ClassBatch(label, pair[0], pair[1])])[0]
    (gradient,) = torch.autograd.grad(total, leaf)
    velocity = 0.5 * velocity + gradient
    moved = moved - settings.lr * velocity
    torch.testing.assert_close(run.stored.detach(), moved, rtol=0, atol=1e-6)
    assert run.curve == [(1, pytest.approx(float(total.detach()) / 3, rel=1e-5))]


def _generator(*stream: str | int, seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed_of(seed, *stream))


def test_idc_sees_decoded_normalized_images_in_the_transform_of_the_real_ones() -> None:
    settings = config("idc", factor=2, ipc=1, max_synthetic=3)
    images = real()
    run = matching(settings, images)
    run._rows_of = {label: torch.arange(4) for label in range(3)}
    batch = run._batch(1)
    decoded = Formation(2).decode(run.stored.detach()[1:2])
    chosen = torch.randperm(4, generator=_generator("synthetic", 0, 1))[:3]
    expected = (decoded[chosen] - images.mean) / images.std
    augment = {"strategy": "color_crop_cutout", "shared": True}
    torch.testing.assert_close(
        batch.synthetic.detach(),
        diffaug(expected, generator=_generator("augment", 0, 1), **augment),  # type: ignore[arg-type]
    )
    seen = images.seen(1, torch.arange(4))
    torch.testing.assert_close(batch.real, diffaug(seen, generator=_generator("augment", 0, 1), **augment))  # type: ignore[arg-type]
    assert batch.label == 1


def test_a_distribution_phase_of_some_classes_gives_what_a_phase_of_all_does() -> None:
    settings = config("dm", steps=2, sampling={"kind": "dream"})
    every = finished(settings).images
    parts = [finished(settings, labels=labels).images for labels in ((2,), (0, 1))]
    torch.testing.assert_close(torch.cat([parts[1], parts[0]]), every, rtol=0, atol=1e-6)


def test_only_classes_with_a_loss_move_under_the_sum_and_all_move_under_steps_by_class() -> None:
    for step, others in (("sum", False), ("class", True)):
        settings = config("dm", image_step=step, iterations=1, steps=2, training={"data": "none"})
        run = matching(settings)
        original = run.objective.losses

        def losses(net: Any, batches: Any, original: Any = original, run: Matching = run) -> Tensor:
            weight = torch.tensor([1.0 if batch.label == 1 or run.step == 0 else 0.0 for batch in batches])
            return original(net, batches) * weight

        run.objective.losses = losses  # type: ignore[method-assign]
        steps = run.run()
        next(steps)
        run.optimizer.state[run.stored].get("momentum_buffer")[:2] *= 0 if not others else 1
        before = run.stored.detach().clone()
        next(steps)
        moved = (run.stored.detach() - before).flatten(1).abs().amax(1) > 0
        assert moved[2:4].all()
        assert bool(moved[:2].any()) == others


def test_unit_pixels_are_clamped_when_a_network_is_drawn() -> None:
    settings = config("idc", lr=5.0, iterations=2, steps=2)
    run = matching(settings)
    assert min(float(run.images.min()) for _ in run.run()) < 0
    stored = run.stored.detach().clone()
    run._new_network(2)
    assert torch.equal(run.stored.detach(), stored.clamp(0, 1))


def test_normalized_pixels_come_back_on_the_scale_of_the_source() -> None:
    run = matching(config("dsa", init="first"))
    images = real()
    expected = torch.cat([images.raw(label, torch.arange(2)) for label in range(3)])
    torch.testing.assert_close(run.images, expected, rtol=0, atol=1e-6)
    assert not torch.allclose(run.stored.detach(), expected, atol=0.1)


@pytest.mark.parametrize("init", ["random", "kmeans"])
@pytest.mark.parametrize("factor", [1, 2])
def test_images_start_as_real_ones_of_their_class(init: Any, factor: int) -> None:
    images = real()
    run = matching(config("idc", init=init, factor=factor, ipc=2), images)
    for label in range(3):
        every = images.raw(label, torch.arange(images.counts[label]))[:, :, ::factor, ::factor]
        stored = run.images[2 * label : 2 * label + 2]
        side = 8 // factor
        tiles = [
            stored[n, :, i * side : (i + 1) * side, j * side : (j + 1) * side]
            for n in range(2)
            for i in range(factor)
            for j in range(factor)
        ]
        rows = [next(k for k, image in enumerate(every) if torch.equal(image, tile)) for tile in tiles]
        assert len(rows) == 2 * factor**2
        if init == "random":
            assert len(set(rows)) == len(rows)
            assert rows != list(range(len(rows)))


def test_noise_starts_in_the_pixel_space_of_the_method() -> None:
    normalized = matching(config("dc", ipc=50)).stored.detach()
    assert float(normalized.mean()) == pytest.approx(0, abs=0.05)
    assert float(normalized.std()) == pytest.approx(1, abs=0.05)
    unit = matching(config("idc", init="noise", ipc=50)).stored.detach()
    assert float(unit.mean()) == pytest.approx(0.5, abs=0.02)
    assert float(unit.min()) == 0
    assert float(unit.max()) == 1


@pytest.mark.parametrize("pixels", ["raw", "normalized"])
def test_representatives_are_chosen_in_raw_or_normalized_pixels(pixels: Any) -> None:
    images = real()
    run = matching(config("idc", sampling={"kind": "dream", "pixels": pixels}), images)
    rows = torch.tensor([4, 1])
    seen = images.raw(1, rows) if pixels == "raw" else images.seen(1, rows)
    torch.testing.assert_close(run._features(1, rows), run.network.features(seen))


def test_the_network_learns_the_synthetic_images_between_steps_but_not_after_the_last() -> None:
    settings = config("dc", steps=3, iterations=1, training={"epochs": 2, "batch": 4})
    run = matching(settings)
    batches: list[int] = []
    learn = run.network.learn

    def count(images: Tensor, labels: Tensor, random: torch.Generator) -> None:
        batches.append(len(images))
        learn(images, labels, random)

    run.network.learn = count  # type: ignore[method-assign]
    seen = [len(batches) for _ in run.run()]
    assert seen == [4, 8, 8]  # 6 images in batches of 4, twice after each step
    assert batches[:2] == [4, 2]


def test_the_network_learns_every_class_by_its_label() -> None:
    run = matching(
        config("dc", init="first", steps=2, iterations=1, training={"epochs": 1, "batch": 6}), labels=(2, 0, 1)
    )
    seen: list[tuple[Tensor, Tensor]] = []
    run.network.learn = lambda images, labels, _: seen.append((images, labels))  # type: ignore[method-assign]
    run._train_network()
    images, labels = seen[0]
    for image, label in zip(images, labels.tolist(), strict=True):
        first = run.real.seen(label, torch.arange(2))
        assert any(torch.allclose(image, one, atol=1e-6) for one in first)


def test_the_network_learns_real_images_on_from_where_it_stopped() -> None:
    settings = config("idc", steps=3, iterations=2, training={"images": 7, "batch": 4})
    run = matching(settings)
    rows: list[Tensor] = []
    of_all = run.real.of_all
    run.real.of_all = lambda r: (rows.append(r), of_all(r))[1]  # type: ignore[method-assign, func-returns-value]
    list(run.run())
    assert len(rows) == 2 * 2 * 2  # two batches after two of three steps of each of two networks
    assert len(set(torch.cat(rows[:4]).tolist())) == 16  # one shuffle of 31 images goes on


def test_networks_are_pretrained_before_their_first_step() -> None:
    settings = config("idc", steps=2, iterations=1, training={"pretrain": 2, "batch": 10})
    run = matching(settings)
    before = [p.detach().clone() for p in run.network.parameters]
    rows: list[Tensor] = []
    of_all = run.real.of_all
    run.real.of_all = lambda r: (rows.append(r), of_all(r))[1]  # type: ignore[method-assign, func-returns-value]
    run._new_network(0)
    assert sorted(torch.cat(rows)[:31].tolist()) == list(range(31))
    assert len(torch.cat(rows)) == 70  # two epochs of 31 images, to the next full batch
    assert not torch.equal(before[0], run.network.parameters[0])


def test_batch_norm_sees_real_images_before_each_step_of_dc() -> None:
    run = matching(config("dc", network="convnet1-w4-bn", iterations=1, steps=2))
    calls: list[int] = []
    freeze = run.network.freeze_statistics
    run.network.freeze_statistics = lambda images: (calls.append(len(images)), freeze(images))[1]  # type: ignore[method-assign, func-returns-value]
    list(run.run())
    assert calls == [31, 31]  # at most 16 of each class, which have fewer


def test_settings_that_do_not_fit_are_errors() -> None:
    with pytest.raises(UserError, match="--method dc: the network learns the synthetic images of all classes"):
        matching(config("dc"), labels=(0, 1))
    with pytest.raises(UserError, match=r"class 0: has 9 images and 12 are needed.*--init noise"):
        matching(config("idc", ipc=3, factor=2))
    with pytest.raises(UserError, match="labels: expected different classes from 0 to 2"):
        matching(config("dm"), labels=(0, 3))
    with pytest.raises(UserError, match="did you mean dsa"):
        matching(config("dsa", method="dsaa"))
