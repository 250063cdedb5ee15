"""How much work a call is, counted and not timed: the same number on every machine."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class _Elements(TorchDispatchMode):
    """Counts the elements of all tensors that torch's operations give."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, (list, tuple)) else [result]:
            self.count += value.numel() if isinstance(value, Tensor) else 0
        return result


def work(action: Callable[[], object], within: str = "raycond") -> int:
    """Lines of the package's Python that `action` runs (each pass of a loop counts), and tensor elements it makes."""
    lines = 0

    def step(_frame: FrameType, event: str, _: object) -> Any:
        nonlocal lines
        lines += event == "line"
        return step

    def call(frame: FrameType, _event: str, _: object) -> Any:
        return step if frame.f_globals.get("__name__", "").startswith(within) else None

    before = sys.gettrace()
    sys.settrace(call)
    try:
        with _Elements() as elements:
            action()
    finally:
        sys.settrace(before)
    return lines + elements.count
