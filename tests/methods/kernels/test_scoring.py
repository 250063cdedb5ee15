from __future__ import annotations

import pytest
import torch
from torch import Tensor

from raycond.methods.kernels.ntk import kernel_matrix
from raycond.methods.kernels.registry import kernel
from raycond.methods.kernels.regression import centered_labels, fit, loss
from raycond.methods.kernels.scoring import kernel_rows, score, scores

NETWORK = kernel("fc1")


@pytest.mark.parametrize("block", [3, 100])
def test_score_is_of_all_images(stripes: Tensor, block: int) -> None:
    labels = torch.arange(40) % 2
    support, support_labels = stripes[:8], centered_labels(labels[:8], 2)
    result = score(NETWORK, support, support_labels, stripes[8:], labels[8:], reg=1e-3, block=block)
    prediction = fit(kernel_matrix(NETWORK, support), support_labels, reg=1e-3).predict(
        kernel_matrix(NETWORK, stripes[8:], support)
    )
    assert result.loss == pytest.approx(loss(prediction, centered_labels(labels[8:], 2)))
    assert result.accuracy == pytest.approx(float((prediction.argmax(1) == labels[8:]).double().mean()))
    assert result.accuracy > 0.9
    assert result.reg == 1e-3


def test_rows_come_in_order_and_complete(stripes: Tensor) -> None:
    rows = list(kernel_rows(NETWORK, stripes[:10], stripes[:7], block=4))
    assert [(part.start, part.stop) for part, _ in rows] == [(0, 4), (4, 8), (8, 10)]
    joined = torch.cat([values for _, values in rows])
    torch.testing.assert_close(joined, kernel_matrix(NETWORK, stripes[:10], stripes[:7]))


def test_several_labels_of_one_support_are_each_scored_by_themselves(stripes: Tensor) -> None:
    labels = torch.arange(40) % 2
    right = centered_labels(labels[:8], 2)
    both = scores(NETWORK, stripes[:8], [right, -right], stripes[8:], labels[8:])
    alone = [score(NETWORK, stripes[:8], one, stripes[8:], labels[8:]) for one in (right, -right)]
    assert [one.accuracy for one in both] == [one.accuracy for one in alone]
    assert [one.loss for one in both] == pytest.approx([one.loss for one in alone])
    assert both[0].accuracy > 0.9 > 0.1 > both[1].accuracy
