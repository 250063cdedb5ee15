"""Blocks as Ray tasks: in order, within a window, whatever dies on the way."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from raycond.core.errors import RaycondError, UserError
from raycond.methods.kernels.blocks import gradient_in_blocks, kernel_in_blocks
from raycond.methods.kernels.registry import kernel
from raycond.runtime import ray_blocks
from raycond.runtime.blocks import BlockPool
from raycond.runtime.local_runner import LocalRunner
from raycond.runtime.ray_runner import RayRunner
from raycond.runtime.resources import Resources
from tests.support.pool import AddRows

pytestmark = pytest.mark.ray
CPU = Resources()
ARRAY = torch.arange(40.0, dtype=torch.float64).view(20, 2)
SUMS = ARRAY.sum(1).tolist()


@pytest.fixture
def runner(ray_cluster: str) -> RayRunner:
    return RayRunner()


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_blocks_come_in_order_within_a_window(runner: RayRunner, workers: int) -> None:
    taken: list[int] = []

    def rows() -> Iterator[int]:
        for row in range(20):
            taken.append(row)
            yield row

    results = runner.blocks(AddRows(), (ARRAY,), rows(), CPU, workers=workers)
    first = next(results)
    at_once = workers or 7
    assert len(taken) <= ray_blocks.AHEAD * at_once + 1
    assert [first, *results] == [(value, 1) for value in SUMS]


def test_a_killed_worker_costs_its_blocks(runner: RayRunner, tmp_path: Path) -> None:
    results = runner.blocks(AddRows(str(tmp_path), deadly=5), (ARRAY,), range(20), Resources(2), workers=2)
    assert list(results) == [(value, 2) for value in SUMS]
    assert (tmp_path / "dead").exists()
    computed = [path.name.split("-")[1] for path in tmp_path.glob("done-*")]
    assert len(computed) <= 20 + 1  # what else the dead worker had done is not done again
    assert str(os.getpid()) not in {path.name.split("-")[2] for path in tmp_path.glob("done-*")}


def test_a_block_that_kills_every_worker_ends_the_rest(
    runner: RayRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_blocks, "MAX_RETRIES", 0)
    with pytest.raises(RaycondError, match="a worker died 1 times over one block, .*lower --block"):
        list(runner.blocks(AddRows(str(tmp_path), deadly=3), (ARRAY,), [3], CPU))


def test_an_error_of_a_block_is_raised_as_it_is(runner: RayRunner) -> None:
    results = runner.blocks(AddRows(), (ARRAY,), [0, -1, 1], CPU)
    assert next(results) == (1.0, 1)
    with pytest.raises(UserError, match="^no such row$"):
        list(results)


def test_kernels_and_gradients_are_those_of_one_process(runner: RayRunner) -> None:
    random = torch.Generator().manual_seed(0)
    x, z = (torch.randn(n, 1, 8, 8, generator=random, dtype=torch.float64) for n in (5, 7))
    network = kernel("convnet3")
    run, here = (BlockPool(one, CPU) for one in (runner, LocalRunner()))
    assert run.device == here.device == "cpu"
    on_ray, local = (kernel_in_blocks(network, x, z, block=2, run=one) for one in (run, here))
    assert torch.equal(on_ray, local)
    torch.testing.assert_close(on_ray, kernel_in_blocks(network, x, z), rtol=1e-12, atol=1e-15)
    for other, weights in ((z, on_ray), (None, on_ray[:, :5])):
        on_ray, local = (gradient_in_blocks(network, x, other, weights, block=3, run=one) for one in (run, here))
        assert torch.equal(on_ray, local)
        whole = gradient_in_blocks(network, x, other, weights)
        torch.testing.assert_close(on_ray, whole, rtol=1e-11, atol=1e-14)
