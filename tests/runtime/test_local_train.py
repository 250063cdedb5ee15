"""A job keeps the state of its training when one is due, and at its end, early or not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from raycond.runtime.job import TrainingJob
from raycond.runtime.local_train import Shown, threads


class Counting:
    """Ends after `until` steps of ten; its state is the step."""

    def __init__(self, until: int, rank: int = 0) -> None:
        self.until, self.rank, self.step, self.loss = until, rank, 0, 0.5
        self.began_at = 0

    def run(self) -> Iterator[int]:
        while self.step < self.until:
            self.step += 1
            yield self.step

    def state(self) -> bytes:
        return str(self.step).encode()

    def load(self, data: bytes) -> None:
        self.step = self.began_at = int(data)


@dataclass(frozen=True)
class CountingJob(TrainingJob):
    folder: str
    until: int = 10
    threads: int = 1
    checkpoint_every: int = 4

    @property
    def total(self) -> int:
        return 10

    def open(self, device: Any, rank: int, world: int) -> Any:
        return Counting(self.until, rank)


def saved(job: CountingJob, rank: int = 0) -> list[tuple[int, str]]:
    """(step, what is kept) after each step, and at the end."""
    training = job.start("cpu", rank)
    place = Path(job.place)
    found = [(step, place.read_text() if place.exists() else "") for step in job.steps(training)]
    return [*found, (-1, place.read_text() if place.exists() else "")]


def test_states_are_kept_when_due_and_at_the_end(tmp_path: Path) -> None:
    found = saved(CountingJob(str(tmp_path)))
    assert [kept for _, kept in found] == ["", "", "", "4", "4", "4", "4", "8", "8", "10", "10"]


def test_a_training_that_stops_early_is_kept_as_it_ended(tmp_path: Path) -> None:
    found = saved(CountingJob(str(tmp_path), until=6))
    assert found[-2:] == [(6, "4"), (-1, "6")]
    again = CountingJob(str(tmp_path), until=6).start("cpu")
    assert again.began_at == 6
    assert list(again.run()) == []


def test_only_the_first_worker_writes(tmp_path: Path) -> None:
    assert {kept for _, kept in saved(CountingJob(str(tmp_path)), rank=1)} == {""}


def test_steps_of_before_are_no_work_of_now() -> None:
    shown = Shown(100, stage="fit")
    shown.begin(90)
    shown.started -= 10  # seconds
    shown.show(95, 0.5)
    assert "95/100" in shown.line
    assert "10.0 s left" in shown.line


@pytest.mark.parametrize("count", [1, 2])
def test_threads_are_put_back(count: int) -> None:
    before = torch.get_num_threads()
    with threads(count):
        assert torch.get_num_threads() == count
    assert torch.get_num_threads() == before
