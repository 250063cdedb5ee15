"""A protocol: the named recipe under which a student is trained and tested."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from importlib import resources
from typing import Any, ClassVar, Literal

from raycond.errors import UserError


@dataclass(frozen=True)
class Protocol:
    """Every setting that changes a test accuracy; cells of different protocols do not compare.

    Fixed for all protocols so far: pixels are normalised by the mean and standard deviation per channel of the
    training images given; labels are hard. Raises UserError for a value out of range.
    """

    name: str
    source: str  # the paper or code the recipe comes from
    batch: int  # images a step; the whole set where it has fewer
    lr: float
    steps: int | None = None  # optimiser steps, the same for every set size ...
    epochs: int | None = None  # ... or passes over the set; exactly one of the two
    optimizer: Literal["adamw", "sgd"] = "adamw"
    weight_decay: float = 0.0
    momentum: float = 0.0  # of sgd
    schedule: Literal["cosine", "constant"] = "cosine"  # cosine falls to zero, changed every step
    shift: float = 0.0  # share of a side an image moves at most; 0: off
    scale: tuple[float, float] | None = None  # area of the random resized crop; None: off
    flip: bool = False
    max_size: int | None = None  # larger images, of training and test, are averaged down to this side; None: never
    loss: Literal["cross-entropy"] = "cross-entropy"
    # class-mean-one: mean of w·loss with w scaled to mean 1 in each class; given: w as stored; none: w = 1
    weights: Literal["class-mean-one", "given", "none"] = "class-mean-one"
    precision: Literal["float32", "bf16"] = "float32"  # bf16 is autocast, on CUDA only
    checks: int = 1  # how often the student is tested, evenly spread; the last is after the last step

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise self._wrong("steps or epochs", "exactly one of the two must be set")
        for field in ("steps", "epochs", "batch", "checks", "max_size"):
            value = getattr(self, field)
            if value is not None and value < 1:
                raise self._wrong(field, f"must be at least 1, not {value}")
        if not 0 < self.lr < float("inf"):
            raise self._wrong("lr", f"must be above 0, not {self.lr}")
        if not 0 <= self.weight_decay < float("inf"):
            raise self._wrong("weight_decay", f"must be 0 or more, not {self.weight_decay}")
        if not 0 <= self.momentum < 1:
            raise self._wrong("momentum", f"must be in [0, 1), not {self.momentum}")
        if self.momentum and self.optimizer != "sgd":
            raise self._wrong("momentum", f"is of sgd, and the optimizer is {self.optimizer}")
        if not 0 <= self.shift <= 0.5:
            raise self._wrong("shift", f"must be a share of a side from 0 to 0.5, not {self.shift}")
        if self.scale is not None and not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise self._wrong("scale", f"must be two areas with 0 < low <= high <= 1, not {self.scale}")

    def _wrong(self, field: str, message: str) -> UserError:
        return UserError(f"protocol {self.name}: {field} {message}")

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Protocol:
        """Checked and converted from plain data (numbers may be text). Raises UserError."""
        from pydantic import TypeAdapter, ValidationError

        try:
            return TypeAdapter(cls).validate_python(value)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            problem = "is not a setting" if first["type"].startswith("unexpected") else first["msg"]
            known = ", ".join(f.name for f in dataclasses.fields(cls))
            raise UserError(f"protocol {value.get('name', '?')}: {field}: {problem}. Settings: {known}") from error

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def override(self, **fields: Any) -> Protocol:
        """The same protocol with some settings changed; setting steps unsets epochs and the reverse."""
        if fields.get("steps") is not None:
            fields.setdefault("epochs", None)
        if fields.get("epochs") is not None:
            fields.setdefault("steps", None)
        return self.from_dict(self.to_dict() | fields)

    def total_steps(self, count: int) -> int:
        """Optimiser steps for a training set of `count` images; the last batch of an epoch may be short."""
        return self.steps or (self.epochs or 0) * -(-count // min(self.batch, count))


def presets() -> list[str]:
    """The names `preset` takes, sorted."""
    folder = resources.files("raycond") / "presets" / "protocols"
    return sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml"))


def preset(name: str) -> Protocol:
    """A protocol that comes with raycond. Raises UserError, listing them all, for an unknown name."""
    import yaml

    if name not in presets():
        raise UserError(f"protocol {name!r} is not known: use one of {', '.join(presets())}")
    text = (resources.files("raycond") / "presets" / "protocols" / f"{name}.yaml").read_text("utf-8")
    return Protocol.from_dict(yaml.safe_load(text))
