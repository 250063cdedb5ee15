"""What a run has found: the checks, figures and notes of every part, as plain data."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Setting = Mapping[str, str | int]
State = Literal["waiting", "running", "done", "failed", "skipped"]


@dataclass(frozen=True)
class Check:
    """A comparison that passes where `value` is at most `limit`; NaN never passes. what: the quantity compared."""

    name: str
    what: str
    value: float
    limit: float

    @property
    def passed(self) -> bool:
        return self.value <= self.limit


@dataclass(frozen=True)
class Figure:
    """A measurement: its repeats, in `unit`. setting: what it was measured at; beside: what follows from its median."""

    name: str
    unit: str
    repeats: tuple[float, ...]
    setting: Setting = field(default_factory=dict)
    beside: Mapping[str, float] = field(default_factory=dict)

    @property
    def value(self) -> float:
        """The median of the repeats."""
        return statistics.median(self.repeats)


@dataclass
class PartRecord:
    """What became of one part. reason: why it was skipped, or the traceback of what it raised."""

    name: str
    title: str = ""
    state: State = "waiting"
    seconds: float = 0.0
    reason: str = ""
    checks: list[Check] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class Record:
    """A run. about: the device and the software; absent: packages that were not found."""

    about: dict[str, str]
    absent: list[str]
    budget: float
    tiny: bool
    began: str
    parts: list[PartRecord]
    seconds: float = 0.0

    @property
    def failed(self) -> bool:
        """Whether a check did not pass, or a part raised an exception."""
        return any(part.state == "failed" or not all(c.passed for c in part.checks) for part in self.parts)

    def figures(self, name: str, **setting: str | int) -> Iterator[Figure]:
        """The figures of this name whose settings include these."""
        for part in self.parts:
            for figure in part.figures:
                if figure.name == name and setting.items() <= figure.setting.items():
                    yield figure

    def best(self, name: str, **setting: str | int) -> Figure | None:
        """The figure with the largest median among those that `figures` gives."""
        return max(self.figures(name, **setting), key=lambda figure: figure.value, default=None)

    def to_dict(self) -> dict[str, Any]:
        """For JSON, which has no NaN and no infinity: they become text."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Record:
        """From what `to_dict` gave."""
        return cls(**{**value, "parts": [_part(part) for part in value["parts"]]})


def _part(value: Mapping[str, Any]) -> PartRecord:
    checks = [Check(**{**c, "value": float(c["value"]), "limit": float(c["limit"])}) for c in value["checks"]]
    figures = [
        Figure(
            **{
                **f,
                "repeats": tuple(float(r) for r in f["repeats"]),
                "beside": {name: float(number) for name, number in f["beside"].items()},
            }
        )
        for f in value["figures"]
    ]
    return PartRecord(**{**value, "checks": checks, "figures": figures})


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value
