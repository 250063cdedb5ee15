from __future__ import annotations

from dataclasses import replace

import pytest

from raycond.core.errors import UserError
from raycond.methods.kernels.plan import VJP_COST, Work, block_bytes, measured_rate, plan, solver_bytes
from raycond.methods.kernels.registry import kernel

WORK = Work(kernel("convnet"), (1, 28, 28), support=100, targets=5000, steps=10, tests=10_000)
GB = 10**9


def test_counts_entries_and_hours() -> None:
    result = plan(WORK, 64, worker_memory=8 * GB, solver_memory=8 * GB, rate=500, workers=2)
    entries = 10 * VJP_COST * (100 * 5000 + 100 * 101 / 2) + 10_000 * 100
    assert result.entries == entries
    assert result.hours == pytest.approx(entries / 500 / 2 / 3600)
    assert result.blocks_per_step == 2 * 79 + 3
    label_solve = replace(WORK, steps=1, learned=False, tests=0)
    assert plan(label_solve, 64, worker_memory=8 * GB, solver_memory=GB).entries == 100 * 5000 + 100 * 101 / 2
    assert plan(label_solve, 64, worker_memory=8 * GB, solver_memory=GB).hours is None


def test_refuses_a_block_and_names_the_one_that_fits() -> None:
    work = replace(WORK, network=kernel("fc1"), shape=(3, 32, 32), support=8000, targets=8000)
    memory = block_bytes(work, 1234) + 1
    with pytest.raises(UserError, match=r"block of 4096×4096 .* of a worker's .*: use --block 1234 or less"):
        plan(work, 4096, worker_memory=memory, solver_memory=100 * GB)
    assert plan(work, 1234, worker_memory=memory, solver_memory=100 * GB).block_bytes <= memory
    with pytest.raises(UserError, match="not even one pair of images fits"):
        plan(work, 64, worker_memory=2**26, solver_memory=100 * GB)


def test_refuses_what_cannot_be_factored() -> None:
    large = replace(WORK, support=100_000)
    assert solver_bytes(large) > 5 * 8 * 100_000**2
    with pytest.raises(UserError, match=r"support of 100000 images with 5000 targets needs .* use a smaller --ipc"):
        plan(large, 64, worker_memory=8 * GB, solver_memory=24 * GB)


def test_refuses_images_that_the_network_does_not_take() -> None:
    with pytest.raises(UserError, match="square"):
        plan(replace(WORK, network=kernel("myrtle5"), shape=(1, 28, 30)), 8, worker_memory=GB, solver_memory=GB)


def test_blocks_are_no_larger_than_the_work() -> None:
    result = plan(replace(WORK, support=10, targets=20), 4096, worker_memory=8 * GB, solver_memory=GB)
    assert result.block == 20


def test_learning_and_float64_take_more() -> None:
    work = replace(WORK, learned=False)
    assert block_bytes(work, 64) < block_bytes(WORK, 64)
    assert solver_bytes(work) < solver_bytes(WORK)


def test_rate_is_measured() -> None:
    rates = [measured_rate(Work(kernel(name), (1, 8, 8), 10, 10), seconds=0.05) for name in ("fc1", "convnet3")]
    assert rates[0] > 10 * rates[1] > 0
