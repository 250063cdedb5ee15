"""A training that only counts, as a job; importable, because workers unpickle it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from raycond.core.errors import RaycondError
from raycond.runtime.job import TrainingJob


class Counting:
    """Ends after `until` steps of ten; its state is the step. fails_at: the step whose loss is not finite."""

    def __init__(self, until: int, rank: int = 0, fails_at: int = 0) -> None:
        self.until, self.rank, self.fails_at = until, rank, fails_at
        self.step, self.loss = 0, 0.5
        self.began_at = 0

    def run(self) -> Iterator[int]:
        while self.step < self.until:
            self.step += 1
            if self.step == self.fails_at:
                raise RaycondError(f"the loss is nan at step {self.step}")
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
    fails_at: int = 0

    @property
    def total(self) -> int:
        return 10

    def open(self, device: Any, rank: int, world: int) -> Any:
        return Counting(self.until, rank, self.fails_at)
