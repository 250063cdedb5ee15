"""The device a piece of work was given, checked before anything is moved to it."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Iterator

import torch

from raycond.core.errors import UserError


def require_device(device: str) -> None:
    """Raises UserError, naming the machine, if torch cannot use `device` here."""
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(
            f"device {device}: torch {torch.__version__} finds no usable GPU on {platform.node()}; "
            "give --gpus-per-actor 0 to work on CPUs, or install a torch and driver that fit together"
        )


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Compute with `count` threads of torch, which float32 sums, and so the last bits, depend on."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def memory_bytes() -> int:
    """Memory of this machine, or of the container that this process is held in."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError), open("/sys/fs/cgroup/memory.max") as file:
        total = min(total, int(file.read()))
    return total
