from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from raycond.core.errors import RaycondError
from raycond.models.codecs.registry import open_codec
from raycond.models.generators.base import Wanted
from raycond.models.generators.checked import faults, make_images
from raycond.models.generators.options import GeneratorOptions
from raycond.models.generators.registry import open_generator
from tests.models.generators import tiny

NAN = float("nan")


def noisy(seed: int = 0, channels: int = 3) -> torch.Tensor:
    return torch.rand(channels, 8, 8, generator=torch.Generator().manual_seed(seed))


class Fake:
    """Images that are a function of label and seed; remembers what it was asked for."""

    name = "dit:fake"
    seeded = True

    def __init__(self, image: Callable[[int, int], torch.Tensor]) -> None:
        self.image = image
        self.asked: list[tuple[tuple[int, ...], tuple[int, ...]]] = []

    def __call__(self, wanted: Wanted) -> torch.Tensor:
        labels = tuple(wanted.labels.tolist())
        self.asked.append((labels, wanted.seeds))
        return torch.stack([self.image(label, seed) for label, seed in zip(labels, wanted.seeds, strict=True)])


def wanted(labels: tuple[int, ...], seeds: tuple[int, ...]) -> Wanted:
    return Wanted(torch.zeros(len(labels), 4, 2, 2), torch.tensor(labels), seeds)


def broken(value: float, channels: int = 3) -> torch.Tensor:
    return torch.full((channels, 8, 8), value)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("image", "fault"),
    [
        (noisy, None),
        (lambda: broken(0.0), "black"),
        (lambda: broken(0.02), "black"),
        (lambda: broken(1.0), "white"),
        (lambda: broken(0.99), "white"),
        (lambda: broken(0.5), "constant"),
        (lambda: broken(0.5) + 0.005 * noisy(), "constant"),
        (lambda: broken(0.0) + 0.1 * noisy(), None),
        (lambda: 1 - 0.1 * noisy(), None),
        (lambda: torch.where(noisy() > 0.99, NAN, noisy()), "NaN"),
        (lambda: broken(float("inf")), "NaN"),
    ],
)
def test_faults(image: Callable[[], torch.Tensor], fault: str | None, channels: int) -> None:
    one = image()[:channels]
    assert faults(torch.stack([one, noisy(1)[:channels]])) == [fault, None]


def test_one_colour_is_constant_and_one_bright_pixel_is_not_black() -> None:
    blue = torch.tensor([0.1, 0.2, 0.9]).view(3, 1, 1).expand(3, 8, 8)
    dot = broken(0.0)
    dot[:, 3, 3] = 1.0
    assert faults(torch.stack([blue, dot])) == ["constant", None]


def test_good_images_are_kept() -> None:
    fake: Any = Fake(lambda label, seed: noisy(10 * label + seed))
    found = make_images(fake, wanted((0, 1, 0), (5, 6, 7)), tiny.ANIMALS)
    assert torch.equal(found.images, torch.stack([noisy(5), noisy(16), noisy(7)]))
    assert (found.seeds, found.failures) == ((5, 6, 7), {})
    assert len(fake.asked) == 1


def test_failed_images_are_made_again_from_the_next_seed_and_counted() -> None:
    bad = {(0, 10): broken(0.0), (0, 11): broken(NAN), (1, 20): broken(0.0), (1, 21): noisy(3)}
    fake: Any = Fake(lambda label, seed: bad.get((label, seed), noisy(seed)))
    found = make_images(fake, wanted((0, 0, 1), (10, 15, 20)), tiny.ANIMALS)
    assert fake.asked == [((0, 0, 1), (10, 15, 20)), ((0, 1), (11, 21)), ((0,), (12,))]
    assert found.seeds == (12, 15, 21)
    assert found.failures == {"NaN": 1, "black": 2}
    for row, image in enumerate((noisy(12), noisy(15), noisy(3))):
        assert torch.equal(found.images[row], image)


def test_neighbours_do_not_change_what_is_made_again() -> None:
    def image(_: int, seed: int) -> torch.Tensor:
        return broken(0.0) if seed in (1, 2, 8) else noisy(seed)

    together = make_images(Fake(image), wanted((0, 0, 0), (1, 5, 8)), tiny.ANIMALS)  # type: ignore[arg-type]
    for row, seed in enumerate((1, 5, 8)):
        alone = make_images(Fake(image), wanted((0,), (seed,)), tiny.ANIMALS)  # type: ignore[arg-type]
        assert torch.equal(alone.images[0], together.images[row])
        assert alone.seeds[0] == together.seeds[row]


def test_an_image_that_never_succeeds_is_named() -> None:
    fake: Any = Fake(lambda label, seed: broken(NAN) if label == 2 else noisy(seed))
    with pytest.raises(RaycondError) as caught:
        make_images(fake, wanted((0, 2, 2), (1, 2, 3)), tiny.ANIMALS, retries=2)
    text = str(caught.value)
    assert text.startswith("class n02979186: dit:fake made image 0 NaN from 3 seeds in turn (and 1 more images);")
    assert "--dtype float32" in text
    assert len(fake.asked) == 3


def test_without_retries_the_first_failure_counts() -> None:
    fake: Any = Fake(lambda *_: broken(1.0))
    with pytest.raises(RaycondError, match="made image 0 white; look at"):
        make_images(fake, wanted((0,), (1,)), tiny.ANIMALS, retries=0)


def test_with_a_generator_that_gives_nan(tmp_path: Any) -> None:
    """What comes out of inference mode can be mended, and a NaN goes through decoding."""
    where = tiny.saved(tiny.dit_pipeline(), tmp_path / "dit", tiny.ANIMALS)
    generator: Any = open_generator(
        f"dit:{where}",
        options=GeneratorOptions(steps=3),
        classes=tiny.ANIMALS,
        codec=open_codec(f"kl:{where}"),
        size=2 * tiny.SIDE,
        device="cpu",
    )
    clean = generator._latents
    generator._latents = lambda part: (
        clean(part) * torch.tensor([NAN if seed == 7 else 1.0 for seed in part.seeds]).view(-1, 1, 1, 1)
    )
    asked = Wanted(torch.zeros(2, 4, 8, 8), torch.tensor([0, 1]), (7, 9))
    found = make_images(generator, asked, tiny.ANIMALS)
    assert (found.seeds, found.failures) == ((8, 9), {"NaN": 1})
    assert found.images.shape == (2, 3, 16, 16)
