"""Readers of YAML and tables that somebody may have written by hand: protocols, configurations, results."""

from __future__ import annotations

import tempfile
from functools import cache
from importlib import resources
from pathlib import Path

from raycond.core.yaml_text import read_yaml
from raycond.evaluate import protocol, results
from tests.fuzz.reader import Reader


def _presets(folder: str) -> list[bytes]:
    place = resources.files("raycond") / "presets" / folder
    return [entry.read_bytes() for entry in place.iterdir() if entry.name.endswith(".yaml")]


def _read_protocol(data: bytes, folder: Path) -> None:
    (folder / "x.yaml").write_bytes(data)
    protocol.recipe(str(folder / "x.yaml")).resolve(ipc=10, classes=10, student="convnet3")


def _read_yaml(data: bytes, folder: Path) -> None:
    read_yaml(data.decode("utf-8", "replace"), "x")


@cache
def _rows() -> list[bytes]:
    row = results.Row("random", 10, "convnet3", 0, 61.5, 62.0, 100, 3.5, 100, "quick")
    with tempfile.TemporaryDirectory() as folder:
        results.write_parquet(f"{folder}/x.parquet", [row])
        return [Path(f"{folder}/x.parquet").read_bytes()]


def _read_results(data: bytes, folder: Path) -> None:
    (folder / "x.parquet").write_bytes(data)
    results.read_parquet(str(folder / "x.parquet"))


READERS = [
    Reader("protocol", lambda: _presets("protocols"), _read_protocol, 300),
    Reader("yaml", lambda: _presets("generators") + _presets("projectors"), _read_yaml, 200),
    Reader("results", _rows, _read_results, 200),
]
