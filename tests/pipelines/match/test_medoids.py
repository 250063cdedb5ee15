"""Real images that stand for a class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from raycond.data.class_arrays import ArrayFiles, npy
from raycond.pipelines.match.medoids import _Task, of_class


def test_one_of_each_cluster_the_largest_first(tmp_path: Path) -> None:
    """Three gray levels with some noise, in classes of 20, 10 and 5 images."""
    random = np.random.default_rng(0)
    levels = np.repeat([40, 120, 200], [20, 10, 5])
    order = random.permutation(35)
    images = levels[order].reshape(-1, 1, 1, 1) + random.integers(-5, 6, (35, 1, 8, 8))
    (tmp_path / "x.npy").write_bytes(npy(images.astype(np.uint8)))
    task = _Task(ArrayFiles((str(tmp_path / "x.npy"),), (35,), (1, 8, 8)), (1, 3), 0)
    found = of_class(task)
    assert [int(levels[order][row]) for row in found[3]] == [40, 120, 200]
    # the medoid of one cluster is the image nearest to the mean of all
    flat = torch.from_numpy(images.reshape(35, -1)).double()
    nearest = int((flat - flat.mean(0)).square().sum(1).argmin())
    assert found[1] == [nearest]
