from __future__ import annotations

import json
from typing import Any

import pydantic
import pytest

from raycond.methods.match.config import MatchConfig, NetworkTraining, SamplingConfig


def test_totals() -> None:
    assert MatchConfig(iterations=7, steps=10).total == 70
    assert MatchConfig(batch=64).real_batch == 64
    assert MatchConfig(batch=64, sampling=SamplingConfig("dream", clusters=32, per_cluster=4)).real_batch == 128


def test_it_becomes_plain_values() -> None:
    plain = MatchConfig(sampling=SamplingConfig("dream")).to_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["sampling"]["kind"] == "dream"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"strategy": "color"}, "needs an augmentation"),
        ({"augment": "dsa", "strategy": "color_colour"}, "no operation 'colour'"),
        ({"augment": "idc", "strategy": "dc"}, "by itself"),
        ({"augment": "idc", "training": NetworkTraining(strategy="colour")}, "no operation 'colour'"),
        ({"feature_weight": 1.0}, "compared by mse, l1 or l1-mean, not cosine"),
        ({"sampling": SamplingConfig("dream", select="closest", per_cluster=2)}, "expected 1 with select closest"),
        ({"ipc": 0}, "greater than or equal to 1"),
        ({"momentum": 1.0}, "less than 1"),
        ({"distanse": "mse"}, "distanse"),
    ],
)
def test_wrong_values_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=words):
        MatchConfig(**changes)
