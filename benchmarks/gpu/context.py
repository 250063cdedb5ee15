"""What a part is given: the device, a place for files, its time, and where its checks and figures go."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.record import Check, Figure, PartRecord, Setting

REPEATS = 3
LEAST_SECONDS = 0.2  # of one repeat: short calls are repeated within it
MOST_CALLS = 100


class Context:
    """device: what is checked and measured. tiny: miniature models on the CPU. carry: a folder of files that were
    brought along. scratch: for files of this run. part: where `check`, `figure` and `note` write to."""

    def __init__(self, device: torch.device, *, tiny: bool, scratch: Path, carry: Path | None = None) -> None:
        self.device, self.tiny, self.scratch, self.carry = device, tiny, scratch, carry
        self.part, self._ends = PartRecord("none"), math.inf
        self._peak: list[float] = []

    def begin(self, part: PartRecord, seconds: float) -> None:
        """The part that runs from now on, and the seconds that it has."""
        self.part, self._ends = part, time.perf_counter() + seconds

    @property
    def left(self) -> float:
        """Seconds of the part that are left; below 0 when it has used them up."""
        return self._ends - time.perf_counter()

    def has(self, seconds: float, what: str) -> bool:
        """Whether the part has as many seconds left; if not, notes that `what` was not measured."""
        if self.tiny or self.left >= seconds:
            return True
        self.note(f"{what}: not measured, for want of time")
        return False

    # ---- results

    def check(self, name: str, value: float, limit: float, what: str) -> None:
        """Passes if `value`, of the quantity `what`, is at most `limit`."""
        self.part.checks.append(Check(name, what, float(value), limit))

    def figure(
        self,
        name: str,
        unit: str,
        repeats: Sequence[float],
        setting: Setting | None = None,
        beside: Mapping[str, float] | None = None,
    ) -> None:
        """See `record.Figure`."""
        self.part.figures.append(Figure(name, unit, tuple(repeats), dict(setting or {}), dict(beside or {})))

    def note(self, text: str) -> None:
        self.part.notes.append(text)

    # ---- time

    def wait(self) -> None:
        """Until the device has done all that it was asked to do."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(
        self, call: Callable[[], Any], *, repeats: int = REPEATS, warm: bool = True, host: bool = False
    ) -> list[float]:
        """Seconds of one call, after a call that warms up. Short calls are repeated within each repeat until it takes
        `LEAST_SECONDS`. On a GPU by CUDA events; host: by the host's clock, for what the processor does."""
        if warm:
            call()
        once = self._time(call, 1, host)
        calls = 1 if self.tiny else min(MOST_CALLS, math.ceil(LEAST_SECONDS / max(once, 1e-9)))
        first = [once] if calls == 1 else []
        return first + [self._time(call, calls, host) / calls for _ in range(repeats - len(first))]

    def _time(self, call: Callable[[], Any], calls: int, host: bool) -> float:
        self.wait()
        if host or self.device.type != "cuda":
            started = time.perf_counter()
            for _ in range(calls):
                call()
            self.wait()
            return time.perf_counter() - started
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(calls):
            call()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1000

    def sweep(self, what: str, values: Sequence[int], measure: Callable[[int], None]) -> None:
        """`measure` each of the growing values, until one does not fit into the device's memory or, by what the one
        before took, into the part's time."""
        took, before = 0.0, 0
        for value in values:
            if before and not self.has(took * value / before, f"{what} from {value} on"):
                break
            started = time.perf_counter()
            try:
                measure(value)
            except torch.OutOfMemoryError:
                self.note(f"{what} {value}: does not fit into the device's memory")
                break
            took, before = time.perf_counter() - started, value
        self.free()

    # ---- the device

    def free(self) -> None:
        """Give memory that nothing uses any more back to the device."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    @contextmanager
    def memory(self) -> Any:
        """Yields a dict that afterwards has the largest memory in use inside the block, in GiB; empty on a CPU."""
        used: dict[str, float] = {}
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        yield used
        if self.device.type == "cuda":
            used["GiB"] = torch.cuda.max_memory_allocated(self.device) / 2**30

    @property
    def peak(self) -> list[float]:
        """Operations per second of a large bf16 matrix product on the device, each repeat; measured once a run."""
        if not self._peak:
            self._peak = matmul_rates(self, torch.bfloat16)
        return self._peak


def matmul_rates(context: Context, dtype: torch.dtype) -> list[float]:
    """Operations per second of a large square matrix product of random numbers."""
    side = 256 if context.tiny else 8192
    random = torch.Generator(context.device).manual_seed(0)
    a, b = (torch.randn(side, side, device=context.device, generator=random).to(dtype) for _ in range(2))
    return [2 * side**3 / seconds for seconds in context.seconds(lambda: a @ b)]


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """‖actual − expected‖ / ‖expected − its mean‖, in float64."""
    actual, expected = actual.detach().cpu().double(), expected.detach().cpu().double()
    return float((actual - expected).norm() / (expected - expected.mean()).norm())


def largest_difference(actual: Tensor, expected: Tensor) -> float:
    return float((actual.detach().cpu().double() - expected.detach().cpu().double()).abs().max())


def differing(actual: Tensor, expected: Tensor) -> int:
    """How many of their numbers are not equal; NaN equals nothing."""
    return int((actual.detach().cpu() != expected.detach().cpu()).sum())


@contextmanager
def full_float32() -> Any:
    """float32 convolutions in full precision. torch has cuDNN round their factors to TF32, with 10 bits of mantissa."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before
