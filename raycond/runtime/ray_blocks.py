"""Blocks of one computation as Ray tasks, answered in the order of the blocks.

The arrays go to each node once and are mapped there, not copied. No more blocks are on their way than a small multiple
of the workers: neither their inputs, which are made when they are sent, nor their results pile up. A worker that is
lost costs its blocks, which are computed again elsewhere, and nothing else.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import ray
import torch
from torch import Tensor

from raycond.core.errors import RaycondError
from raycond.runtime.blocks import compute
from raycond.runtime.resources import Resources

MAX_RETRIES = 3  # of a block whose worker died
AHEAD = 3  # blocks that are sent and not yet handed out, for each that may run at once
_END = object()


def run_blocks(
    function: Callable[..., Any],
    shared: tuple[Any, ...],
    items: Iterable[Any],
    resources: Resources,
    *,
    at_once: int,
) -> Iterator[Any]:
    """`function(*shared, item)` of every item, in the order of the items. at_once: blocks that may run.

    Raises what the function raises, and RaycondError for a block whose worker died time after time.
    """
    options: dict[str, Any] = {
        "num_cpus": resources.cpus,
        "num_gpus": resources.gpus or None,
        "max_retries": MAX_RETRIES,
    }
    remote = ray.remote(**options)(_compute)
    common = [ray.put(_packed(one)) for one in (function, *shared)]
    waiting, sent, running = iter(items), deque[Any](), set[Any]()
    item = next(waiting, _END)
    try:
        while sent or item is not _END:
            while item is not _END and len(running) < at_once and len(sent) < AHEAD * at_once:
                sent.append(remote.remote(item, resources.cpus, *common))
                running.add(sent[-1])
                item = next(waiting, _END)
            if sent[0] not in running:
                yield _answer(sent.popleft())
                continue
            finished, _ = ray.wait(list(running), num_returns=1)
            running.difference_update(finished)
    finally:
        for reference in running:  # the caller has had enough
            ray.cancel(reference)


def _compute(item: Any, threads: int, function: Callable[..., Any], *shared: Any) -> Any:
    return compute(function, tuple(map(_unpacked, shared)), item, threads)


class _Packed:
    """A tensor as an array: Ray maps arrays into every process of a node, and copies tensors."""

    def __init__(self, tensor: Tensor) -> None:
        self.array = tensor.detach().cpu().numpy()


def _packed(value: Any) -> Any:
    return _Packed(value) if isinstance(value, Tensor) else value


def _unpacked(value: Any) -> Any:
    if not isinstance(value, _Packed):
        return value
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that the memory is read-only: pure functions do not write
        return torch.from_numpy(value.array)


def _answer(reference: Any) -> Any:
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
    except ray.exceptions.RayError as error:
        raise RaycondError(
            f"a worker died {MAX_RETRIES + 1} times over one block, probably for want of memory: lower --block or "
            "--workers"
        ) from error
