"""The time of a phase from a few steps of it: its parts are there where the settings have them, and add up."""

from __future__ import annotations

from dataclasses import replace

import pytest

from raycond.methods.match.published import published
from raycond.methods.match.timing import Seconds, measure


@pytest.mark.parametrize(("method", "sampling"), [("dc", "random"), ("dm", "dream"), ("idc", "dream")])
def test_parts(method: str, sampling: str) -> None:
    config = published(method, "mnist", 1, sampling=sampling, factor=2 if method == "idc" else 1)  # type: ignore[arg-type]
    config = replace(config, network="convnet3-w4", batch=4)
    config = replace(config, sampling=replace(config.sampling, clusters=4))
    config = replace(config, training=replace(config.training, images=8, batch=4))
    found = measure(config, shape=(1, 28, 28), counts=[20, 30, 10], classes=3, device="cpu")
    assert found.matching > 0
    assert (found.clustering > 0) == (sampling == "dream")
    assert (found.training > 0) == (method != "dm")
    assert found.pretraining == 0


def test_total() -> None:
    config = replace(published("idc", "cifar10", 10, sampling="dream"), iterations=3, steps=20)
    seconds = Seconds(matching=2.0, clustering=10.0, training=5.0, pretraining=7.0)
    # 60 steps of 4 classes, a clustering every ten; the network learns after all steps but the last of each
    assert seconds.total(config, 4) == 60 * 4 * (2.0 + 1.0) + 3 * 19 * 5.0 + 3 * 7.0
