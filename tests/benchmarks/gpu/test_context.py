from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from benchmarks.gpu.context import Context, differing, full_float32, largest_difference, relative_error
from benchmarks.gpu.record import PartRecord


@pytest.fixture
def context(tmp_path: Path) -> Context:
    context = Context(torch.device("cpu"), tiny=False, scratch=tmp_path)
    context.begin(PartRecord("part"), 100)
    return context


def test_a_sweep_ends_where_memory_does(context: Context) -> None:
    measured: list[int] = []

    def measure(batch: int) -> None:
        if batch > 4:
            raise torch.OutOfMemoryError("too much")
        measured.append(batch)

    context.sweep("batch", [1, 4, 16, 64], measure)
    assert measured == [1, 4]
    assert context.part.notes == ["batch 16: does not fit into the device's memory"]


def test_a_sweep_ends_where_the_time_would(context: Context) -> None:
    measured: list[int] = []

    def measure(batch: int) -> None:
        measured.append(batch)
        context.begin(context.part, 0.0)

    context.sweep("batch", [1, 1000], measure)
    assert measured == [1]
    assert context.part.notes == ["batch from 1000 on: not measured, for want of time"]


def test_other_errors_are_not_taken_for_full_memory(context: Context) -> None:
    def measure(_: int) -> None:
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        context.sweep("batch", [1], measure)


def test_seconds_repeats_short_calls(context: Context) -> None:
    calls: list[None] = []
    seconds = context.seconds(lambda: calls.append(None), repeats=4)
    assert len(seconds) == 4
    assert len(calls) == 1 + 1 + 4 * 100
    assert min(seconds) > 0
    context.tiny = True
    calls.clear()
    assert len(context.seconds(lambda: calls.append(None), repeats=2, warm=False)) == len(calls) == 2


def test_a_check_of_nan_fails(context: Context) -> None:
    for value, passed in ((0.5, True), (1.0, True), (1.1, False), (math.nan, False), (math.inf, False)):
        context.check("name", value, 1.0, "error")
        assert context.part.checks[-1].passed == passed


def test_errors() -> None:
    expected = torch.tensor([1.0, 2.0, 3.0])
    actual = torch.tensor([1.0, 2.0, 3.5])
    assert relative_error(actual, expected) == pytest.approx(0.5 / 2**0.5)
    assert largest_difference(actual, expected) == pytest.approx(0.5)
    assert differing(actual, expected) == 1
    assert differing(torch.tensor([math.nan, 1.0]), torch.tensor([math.nan, 1.0])) == 1
    assert math.isnan(relative_error(torch.tensor([math.nan, 2.0, 3.0]), expected))


def test_full_float32_is_put_back() -> None:
    before = torch.backends.cudnn.allow_tf32
    with full_float32():
        assert not torch.backends.cudnn.allow_tf32
    with pytest.raises(ValueError, match="inside"), full_float32():
        raise ValueError("inside")
    assert torch.backends.cudnn.allow_tf32 == before
