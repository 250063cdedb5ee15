"""The configuration of an evaluation grid, filled from the command line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import pydantic
from pydantic.dataclasses import dataclass

from raycond.core import files
from raycond.core.errors import UserError
from raycond.pipelines.options import complaint, labeler_place, make_absolute, shown


@dataclass(frozen=True, config=pydantic.ConfigDict(extra="forbid"))
class GridConfig:
    """Everything that `pipelines/evaluate_grid.py` can be told; the field names are its options.

    sets: folders of condensed sets with the same classes and image size. data, val: the source they were made from and
    the images to test on; by default those of the run that the first set lies in. ipc: by default all of the first
    set. protocol: a preset or a YAML file; changes: settings of it that are fixed for every cell (`--set`). weights:
    modes of each set, by default uniform and the one it was written with. baselines: rows of real images beside the
    sets; random and medoid are added unless it is `none`; by default also `full` where the protocol fixes the number
    of steps. labeler: what the students learn (`raycond.labels.registry`). scores: train what DD-Ranking's scores
    need as well. proxy_student, proxy_nets, proxy_steps: the networks whose features and EL2N scores choose coresets.
    trials_at_once: 0 for as many as fit. gpus_per_trial: -1 for a share by measured memory.
    """

    sets: tuple[str, ...]
    out: str
    data: str | None = None
    val: str | None = None
    students: tuple[str, ...] = ("convnet3-w32", "mlp")
    ipc: tuple[int, ...] = ()
    protocol: str = "quick"
    changes: dict[str, Any] = pydantic.Field(default_factory=dict)
    seeds: tuple[int, ...] = (0, 1, 2)
    labeler: str = "hard"
    weights: tuple[Literal["uniform", "density", "sqrt"], ...] = ()
    baselines: tuple[Literal["random", "medoid", "herding", "k-center", "el2n", "full", "none"], ...] | None = None
    scores: bool = False
    proxy_student: str = "convnet3-w32"
    proxy_nets: int = pydantic.Field(default=3, ge=1)
    proxy_steps: int = pydantic.Field(default=200, ge=1)
    trials_at_once: int = pydantic.Field(default=0, ge=0)
    gpus_per_trial: float = -1
    cpus_per_trial: int = pydantic.Field(default=1, ge=1)
    max_bad: str = "1%"
    """Validation images that may be unreadable: a number, or a share such as 1%."""
    max_pixels: int = pydantic.Field(default=178_956_970, ge=1)
    runner: Literal["ray", "local"] = "ray"
    dashboard: bool = True
    verbose: bool = False
    """Show on stderr everything that is written to the run's log file, raycond.log."""

    def __post_init__(self) -> None:
        for field in ("sets", "students", "seeds"):
            values = getattr(self, field)
            if not values or len(set(values)) != len(values):
                raise ValueError(f"--{field}: expected at least one, and none twice, not {shown(values)}")
        if self.ipc and min(self.ipc) < 1:
            raise ValueError(f"--ipc: expected numbers from 1 up, not {shown(self.ipc)}")
        if min(self.seeds) < 0:
            raise ValueError(f"--seeds: expected numbers from 0 up, not {shown(self.seeds)}")
        if self.baselines and "none" in self.baselines and len(self.baselines) > 1:
            raise ValueError("--baselines: none goes with no other")
        if self.gpus_per_trial != -1 and not 0 <= self.gpus_per_trial <= 1:
            raise ValueError(f"--gpus-per-trial: expected a fraction from 0 to 1, not {self.gpus_per_trial:g}")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-able values, as saved beside every output."""
        plain: dict[str, Any] = pydantic.TypeAdapter(GridConfig).dump_python(self, mode="json")
        return plain


def load_grid_config(options: Mapping[str, Any]) -> GridConfig:
    """From options (field name → value). Raises UserError naming a wrong one."""
    merged = dict(options)
    if not merged.get("sets"):
        raise UserError("--sets: give at least one folder of a condensed set")
    if merged.get("labeler"):
        merged["labeler"] = labeler_place(str(merged["labeler"]))
    if str(merged.get("protocol", "")).endswith((".yaml", ".yml")):
        merged["protocol"] = files.absolute(merged["protocol"])
    merged["sets"] = [files.absolute(path) for path in merged["sets"]]
    merged.setdefault("out", files.join(merged["sets"][0].rpartition("/")[0], "grid"))
    make_absolute(merged, ("data", "val", "out"))
    try:
        return GridConfig(**merged)
    except pydantic.ValidationError as error:
        raise UserError("; ".join(complaint(e) for e in error.errors())) from error
