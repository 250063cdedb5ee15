from __future__ import annotations

import pytest

from raycond.runtime.resources import Resources


@pytest.mark.parametrize(
    ("node", "cpus", "gpus", "workers"),
    [
        ({"CPU": 8}, 1, 0, 8),
        ({"CPU": 8}, 3, 0, 2),
        ({"CPU": 8, "GPU": 2}, 1, 1, 2),
        ({"CPU": 8, "GPU": 1}, 1, 0.5, 2),
        ({"CPU": 64, "GPU": 3}, 1, 0.1, 30),
        ({"CPU": 8, "GPU": 1}, 8, 0.25, 1),
        ({"CPU": 8, "GPU": 4}, 1, 2, 2),
        ({"CPU": 8}, 1, 0.5, 0),
        ({"CPU": 8}, 0, 0, 8),
        ({}, 1, 0, 0),
    ],
)
def test_workers_that_fit_a_node(node: dict[str, float], cpus: int, gpus: float, workers: int) -> None:
    assert Resources(cpus, gpus).fits_on(node) == workers
