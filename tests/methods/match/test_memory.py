from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from raycond.data.class_arrays import Pixels
from raycond.methods.match.memory import MemoryPlan, _Peak, plan
from raycond.methods.match.real import RealImages
from raycond.methods.match.training import Matching
from tests.methods.match.make import config

SHAPE, COUNTS = (3, 16, 16), (40, 30, 50)


def planned(settings: Any, **changes: Any) -> MemoryPlan:
    return plan(settings, **{"shape": SHAPE, "counts": COUNTS, "classes": 3, **changes})


@pytest.mark.parametrize("chunk", [8, 40])
@pytest.mark.parametrize("name", ["dsa", "dm", "idc"])
def test_a_step_takes_what_the_plan_says(name: str, chunk: int) -> None:
    changes = {"factor": 2} if name == "idc" else {}
    settings = config(name, network="convnet2-w32", batch=40, ipc=4, chunk=chunk, steps=2, iterations=1,
                      training={"batch": 12, "images": 12}, **changes)  # fmt: skip
    parts = [np.zeros((count, *SHAPE), np.uint8) for count in COUNTS]
    run = Matching(settings, RealImages(Pixels(parts, "cpu"), (0.5,) * 3, (0.5,) * 3), seed=0)
    with _Peak() as peak:
        next(run.run())
    expected = planned(settings)
    assert max(expected.matching, expected.training) == pytest.approx(peak.bytes, rel=0.25)


def test_parts_follow_from_the_settings() -> None:
    settings = config("idc", network="convnet2-w8", ipc=5)
    one = planned(settings)
    assert one.pixels == sum(COUNTS) * 3 * 16 * 16
    assert one.images == 3 * 4 * 15 * 3 * 16 * 16
    weights = (8 * 3 * 9 + 3 * 8) + (8 * 8 * 9 + 3 * 8) + (8 * 4 * 4 + 1) * 3
    assert one.network == 2 * 4 * weights
    assert one.clustering == 0
    assert one.total == one.pixels + one.images + one.network + max(one.matching, one.training)
    assert planned(settings, classes=1).images == one.images // 3
    assert planned(config("dm", network="convnet2-w8")).training == 0


def test_memory_grows_with_images_width_and_clusters() -> None:
    settings = config("idc", network="convnet2-w8", ipc=4)
    one = planned(settings)
    assert planned(replace(settings, network="convnet2-w16")).matching > 1.7 * one.matching
    assert planned(replace(settings, ipc=8)).matching > 1.5 * one.matching
    assert planned(settings, shape=(3, 32, 32)).matching > 3 * one.matching
    dream = replace(settings, sampling=replace(settings.sampling, kind="dream"))
    # features of 50 images of 8 · 4 · 4 numbers twice, inner products, and three times the distances to 4 centers
    features = 4 * (2 * 50 * 128 + 50 * 50 + 3 * 4 * 50)
    passed = planned(dream).clustering - features
    assert 0 < passed < 4 * 50 * (4 * 8 * 16 * 16)  # a pass without a graph: a few maps of 50 images
    assert planned(replace(settings, init="kmeans", factor=2)).clustering > 0


def test_a_gpu_takes_whole_batches_at_once() -> None:
    settings = config("dsa", network="convnet2-w32", batch=40)
    assert planned(settings, device="cuda").matching > 2 * planned(replace(settings, chunk=4)).matching


def test_lines_name_every_part_in_mebibytes() -> None:
    lines = MemoryPlan(2**20, 3 * 2**19, 0, 2**21, 2**30, 0).lines()
    assert lines[:2] == ["pixels: 1.0 MiB", "images: 1.5 MiB"]
    assert lines[-1] == "total: 1,026.5 MiB"
    assert len(lines) == 7


def test_peak_counts_what_lives_at_one_time() -> None:
    with _Peak() as peak:
        a = torch.zeros(1000)
        b = a + 1
        del a
        c = b.view(10, 100) + 1
        assert c.shape == (10, 100)
    assert peak.bytes == 8000
