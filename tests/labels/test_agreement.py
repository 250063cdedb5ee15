"""A labeler is measured on real images before anything learns from it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from raycond.core.errors import UserError
from raycond.labels.agreement import measure_agreement
from raycond.labels.base import Labeler

CLASSES = 10
LABELS = torch.arange(200) % CLASSES
IMAGES = torch.zeros(200, 1, 2, 2, dtype=torch.uint8)
IMAGES[:, 0, 0, 0] = LABELS.to(torch.uint8)  # what the labeler below reads the class from


def labeler(order: list[int], outputs: int = CLASSES) -> Labeler:
    """Names the class k of an image `order[k]`."""

    def logits(images: Tensor) -> Tensor:
        named = torch.tensor(order)[(images[:, 0, 0, 0] * 255).round().long()]
        return torch.nn.functional.one_hot(named, outputs).float()

    return Labeler("online", "toy", "digest", logits)


def test_a_labeler_that_knows_every_image() -> None:
    agreement = measure_agreement(labeler(list(range(CLASSES))), IMAGES, LABELS, CLASSES)
    assert (agreement.agreed, agreement.images, agreement.warning) == (200, 200, "")
    assert str(agreement) == "agrees with the hard labels of 100.0 % of 200 real images"


def test_classes_in_another_order_are_noticed() -> None:
    swapped = measure_agreement(labeler([1, 0, 3, 2, 5, 4, 7, 6, 8, 9]), IMAGES, LABELS, CLASSES)
    assert swapped.share == 0.2
    assert "another order: 100 % would agree" in swapped.warning


def test_one_answer_for_every_image_is_near_chance() -> None:
    constant = measure_agreement(labeler([3] * CLASSES), IMAGES, LABELS, CLASSES)
    assert constant.share == 0.1
    assert constant.warning.startswith("that is near chance (10.0 %)")


def test_too_few_images_say_nothing_of_the_order() -> None:
    few = measure_agreement(labeler([1, 0, *range(2, CLASSES)]), IMAGES[:20], LABELS[:20], CLASSES)
    assert few.reordered == few.agreed == 16


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_outputs_that_are_no_numbers_are_an_error(value: float) -> None:
    broken = Labeler("online", "toy", "digest", lambda images: torch.full((len(images), CLASSES), value))
    with pytest.raises(UserError, match="labeler toy: gives NaN or infinite outputs"):
        measure_agreement(broken, IMAGES, LABELS, CLASSES)


def test_another_number_of_classes_is_an_error() -> None:
    with pytest.raises(UserError, match="gives 12 logits for 10 classes"):
        measure_agreement(labeler(list(range(CLASSES)), outputs=12), IMAGES, LABELS, CLASSES)
