"""Workers and functions for pools and tasks; importable, because other processes unpickle them."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from raycond.core.device import require_device
from raycond.core.errors import UserError


class Doubler:
    """Answers each number with its double, its device and how many jobs came with it.

    deadly: a job whose process dies, once. marks: an existing folder for what must be known across processes.
    """

    def __init__(self, device: str, marks: str = "", deadly: str = "") -> None:
        require_device(device)
        self.device, self.marks, self.deadly = device, marks, deadly
        if marks:
            Path(marks, f"made-{os.getpid()}").touch()

    def run(self, jobs: Sequence[str]) -> list[str]:
        if self.deadly in jobs and not (dead := Path(self.marks, "dead-1")).exists():
            dead.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return [f"{2 * int(job)} on {self.device} of {len(jobs)}" for job in jobs]


@dataclass(frozen=True)
class MakeDoubler:
    """Makes a worker of a pool. broken: what is wrong with this machine, if something is."""

    marks: str = ""
    deadly: str = ""
    broken: str = ""

    def __call__(self, device: str) -> Doubler:
        if self.broken:
            raise UserError(self.broken)
        return Doubler(device, self.marks, self.deadly)


def square(number: int) -> int:
    """Raises UserError for 5."""
    if number == 5:
        raise UserError("five is wrong")
    return number * number


def process_id(_item: object) -> int:
    return os.getpid()


@dataclass(frozen=True)
class AddRows:
    """Adds up rows of a shared array, for `Runner.blocks`. The process of row `deadly` dies once; row -1 is wrong."""

    marks: str = ""
    deadly: int = -2

    def __call__(self, array: torch.Tensor, row: int) -> tuple[torch.Tensor, int]:
        """The sum and the number of torch's threads."""
        if row == -1:
            raise UserError("no such row")
        if row == self.deadly and not (dead := Path(self.marks, "dead")).exists():
            dead.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if self.marks:
            Path(self.marks, f"done-{row}-{os.getpid()}").touch()
        return array[row].sum(), torch.get_num_threads()
