"""Small grids: a set of four classes at IPC 1 and 3, a tiny student for five steps, no Ray."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

from raycond.core import files
from raycond.evaluate.results import Row, read_parquet
from raycond.pipelines.evaluate.config import GridConfig, load_grid_config
from raycond.pipelines.quantize.run import quantize
from tests.pipelines.quantize.make import config, data
from tests.support.methods import SQRT, UNIFORM

STUDENT = "mlp-w4"
OPTIONS: dict[str, Any] = {"students": (STUDENT,), "seeds": (0,), "changes": {"steps": 5, "checks": 2}}
# differ from run to run: all other columns of results.csv and results.parquet must not
MEASURED = ("seconds", "memory")
ROWS = [(method, ipc) for method in ("random", "medoid", UNIFORM, SQRT) for ipc in ("1", "3")]
WITH_FULL = [*ROWS, ("full", "")]  # of a grid with the defaults, in the order of its files


def made_run(folder: Path, name: str = "run", **options: Any) -> Path:
    """folder/data, and folder/NAME with a set made from it."""
    if not (folder / "data").exists():
        data(folder / "data")
    assert not quantize(config(folder / "data", folder / name, **options)).failures
    return folder / name


def grid_config(run: Path | list[Path], out: Path | str, **options: Any) -> GridConfig:
    """For the sets of one or several runs."""
    runs = run if isinstance(run, list) else [run]
    sets = [str(one / "set") for one in runs]
    return load_grid_config({**OPTIONS, "runner": "local", "sets": sets, "out": str(out), **options})


def copied(run: Path, target: Path) -> Path:
    """A run folder of its own, with the same source."""
    return Path(shutil.copytree(run, target))


def rewrite(path: Path, **changes: Any) -> None:
    """Change entries of a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def table(out: Path | str) -> list[dict[str, str]]:
    """The lines of results.csv without what is measured."""
    text = files.read_bytes(f"{out}/results.csv").decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    return [{name: value for name, value in row.items() if name not in MEASURED} for row in rows]


def stored(out: Path | str) -> list[Row]:
    return read_parquet(f"{out}/results.parquet")


def methods(out: Path | str) -> list[tuple[str, str]]:
    """(method, ipc) of every line, once each, in the order of the file."""
    return list(dict.fromkeys((row["method"], row["ipc"]) for row in table(out)))


def cells(out: Path) -> dict[str, int]:
    """When each cell's record was written, by its name without the digest."""
    found = (out / "work" / "cells").glob("*.done.json")
    return {p.name.rpartition("-")[0]: p.stat().st_mtime_ns for p in sorted(found)}
