"""The block pool: blocks of one computation, such as of a kernel matrix, by the workers of a runner.

A block is the value of a pure function of arrays that all blocks share and of one item. It can be computed anywhere,
and again, so a lost worker costs its blocks and nothing else; results come in the order of the blocks, so that what is
summed up from them does not depend on who computed what.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from raycond.core.device import torch_threads
from raycond.runtime.resources import Resources
from raycond.runtime.runner import Runner

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class BlockPool:
    """Computes blocks on a runner: a `raycond.methods.kernels.blocks.BlockMap`."""

    runner: Runner
    resources: Resources
    """Of one worker."""

    workers: int = 0
    """Blocks computed at once; 0 for as many as fit."""

    def __call__(
        self, function: Callable[..., Result], shared: tuple[Any, ...], items: Iterable[Item]
    ) -> Iterator[Result]:
        return self.runner.blocks(function, shared, items, self.resources, workers=self.workers)

    @property
    def device(self) -> str:
        """What a worker computes on: "cuda" or "cpu"."""
        return self.runner.device(self.resources)


def compute(function: Callable[..., Result], shared: tuple[Any, ...], item: Any, threads: int) -> Result:
    """One block, with `threads` threads of torch."""
    with torch_threads(threads):
        return function(*shared, item)
