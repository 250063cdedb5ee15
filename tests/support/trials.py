"""A trial that trains nothing, and may fail or die; importable, because workers unpickle it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raycond.runtime.trials import Request


@dataclass(frozen=True)
class StepTrial:
    """Reports steps 10, 20, … and leaves a record."""

    folder: str
    """An existing folder, for the record and for a mark of every process that died."""

    name: str
    steps: int = 2
    deaths: int = 0
    """How many processes die of it before one lives."""

    error: str = ""
    """Fails with this text, if there is one."""

    cost: float = 1.0
    request: Request = field(default_factory=Request)

    @property
    def slug(self) -> str:
        return self.name

    @property
    def place(self) -> str:
        return f"{self.folder}/{self.name}"

    @property
    def parameters(self) -> dict[str, Any]:
        return {"name": self.name}

    def run(self, report: Callable[[dict[str, float]], None]) -> dict[str, Any]:
        if self.error:
            raise ValueError(self.error)
        if len(self.dead()) < self.deaths:
            Path(f"{self.place}.dead-{os.getpid()}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        for step in range(1, self.steps + 1):
            report({"step": 10 * step, "top1": 100.0 / step})
        result = {"name": self.name, "top1": 100.0 / self.steps}
        Path(self.place).write_text(json.dumps(result))
        return result

    def finished(self) -> dict[str, Any] | None:
        record = Path(self.place)
        return json.loads(record.read_text()) if record.exists() else None

    def dead(self) -> list[Path]:
        """A mark of every process that died of it."""
        return list(Path(self.folder).glob(f"{self.name}.dead-*"))
