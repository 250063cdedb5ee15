from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from raycond.evaluate import preset
from raycond.evaluate.losses import Targets, losses, weighted_loss

G = torch.Generator().manual_seed(0)
S, T = torch.randn(6, 4, generator=G), torch.randn(6, 4, generator=G)
LABELS = torch.tensor([0, 1, 2, 3, 0, 1])
PARTNER = torch.tensor([5, 4, 3, 2, 1, 0])
WEIGHTS = torch.tensor([1.0, 2, 0.5, 1, 0.5, 1])
KL = preset("quick").override(loss="kl", temperature=20)
MSE = preset("quick").override(loss="mse+ce", ce_weight=0.3)
CE = preset("quick")


def test_kl_is_that_of_the_soft_label_recipes() -> None:
    """KLDiv(batchmean) of log_softmax(s / T) and softmax(t / T), without the factor T²."""
    expected = torch.nn.KLDivLoss(reduction="batchmean")(F.log_softmax(S / 20, 1), F.softmax(T / 20, 1))
    found = losses(S, Targets(LABELS, WEIGHTS, T, soft_of_mixed_view=True), KL).mean()
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


def test_mse_is_on_logits_beside_a_share_of_hard_labels() -> None:
    found = losses(S, Targets(LABELS, WEIGHTS, T, soft_of_mixed_view=True), MSE).mean()
    centered = T - T.mean(1, keepdim=True)
    assert float(found) == pytest.approx(float(F.mse_loss(S, centered) + 0.3 * F.cross_entropy(S, LABELS)), rel=1e-5)
    moved = losses(
        S, Targets(LABELS, WEIGHTS, T + 7, soft_of_mixed_view=True), MSE
    ).mean()  # as probabilities they are the same
    assert float(moved) == pytest.approx(float(found), rel=1e-5)


def test_soft_cross_entropy_is_torchs() -> None:
    found = losses(S, Targets(LABELS, WEIGHTS, T, soft_of_mixed_view=True), CE.override(temperature=2)).mean()
    assert float(found) == pytest.approx(float(F.cross_entropy(S, F.softmax(T / 2, 1))), rel=1e-5)


def test_mixed_hard_labels_count_by_their_share() -> None:
    found = losses(S, Targets(LABELS, WEIGHTS, permutation=PARTNER, lam=0.7), CE).mean()
    expected = 0.7 * F.cross_entropy(S, LABELS) + 0.3 * F.cross_entropy(S, LABELS[PARTNER])
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("protocol", [CE, KL])
def test_labels_of_own_images_are_mixed_and_of_whole_views_are_not(protocol: object) -> None:
    mixed = losses(S, Targets(LABELS, WEIGHTS, T, permutation=PARTNER, lam=0.7), protocol)  # type: ignore[arg-type]
    whole = losses(S, Targets(LABELS, WEIGHTS, T, soft_of_mixed_view=True, permutation=PARTNER, lam=0.7), protocol)  # type: ignore[arg-type]
    assert torch.equal(whole, losses(S, Targets(LABELS, WEIGHTS, T, soft_of_mixed_view=True), protocol))  # type: ignore[arg-type]
    assert not torch.allclose(mixed, whole)
    only = losses(S, Targets(LABELS, WEIGHTS, T, permutation=PARTNER, lam=1.0), protocol)  # type: ignore[arg-type]
    assert torch.allclose(only, whole)


def test_weights_multiply_and_are_not_divided_out() -> None:
    targets = Targets(LABELS, WEIGHTS)
    assert float(weighted_loss(S, targets, CE)) == pytest.approx(float((losses(S, targets, CE) * WEIGHTS).mean()))
    doubled = Targets(LABELS, 2 * WEIGHTS)
    assert float(weighted_loss(S, doubled, CE)) == pytest.approx(2 * float(weighted_loss(S, targets, CE)))


def test_a_mixed_image_has_its_own_weight_or_the_mixed_one() -> None:
    targets = Targets(LABELS, WEIGHTS, permutation=PARTNER, lam=0.25)
    each = losses(S, targets, CE)
    own, mix = weighted_loss(S, targets, CE), weighted_loss(S, targets, CE.override(mix_weights="mix"))
    assert float(own) == pytest.approx(float((each * WEIGHTS).mean()), rel=1e-5)
    assert float(mix) == pytest.approx(float((each * (0.25 * WEIGHTS + 0.75 * WEIGHTS[PARTNER])).mean()), rel=1e-5)


def test_squared_errors_are_of_centered_labels_or_of_those_that_a_set_has_learned() -> None:
    protocol = CE.override(loss="mse")
    centered = F.one_hot(LABELS, 4).float() - 0.25
    found = losses(S, Targets(LABELS, WEIGHTS), protocol)
    assert torch.allclose(found, 0.5 * (S - centered).square().mean(1))
    assert torch.allclose(losses(S, Targets(LABELS, WEIGHTS, values=T), protocol), 0.5 * (S - T).square().mean(1))
    mixed = losses(S, Targets(LABELS, WEIGHTS, permutation=PARTNER, lam=0.7), protocol)
    assert torch.allclose(mixed, 0.5 * (S - 0.7 * centered - 0.3 * centered[PARTNER]).square().mean(1))
