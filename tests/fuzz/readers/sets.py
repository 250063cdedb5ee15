"""Readers of condensed sets, of protocols, and of what an evaluation leaves."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import torch

from raycond.core import files
from raycond.core.errors import RaycondError
from raycond.evaluate import proxy, results
from raycond.evaluate.protocol import parse_settings, recipe
from raycond.evaluate.results import Check, Row
from raycond.sets.export import export
from raycond.sets.inspect import describe
from raycond.sets.reader import open_set
from raycond.sets.verify import verify
from tests.fuzz.reader import Reader
from tests.sets.make import data_name, latents_name, write


@dataclass(frozen=True)
class _Set:
    """A sound set on disk. One of its files is replaced by an input, read, and put back."""

    folder: Path
    kept: tempfile.TemporaryDirectory[str]

    def bytes(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def read_with(self, name: str, data: bytes, listed: bool) -> None:
        """listed: give the manifest the digest of the input, so that the file is parsed and not only refused."""
        before, manifest = self.bytes(name), self.bytes("manifest.json")
        try:
            (self.folder / name).write_bytes(data)
            if listed:
                content = json.loads(manifest)
                content["files"][name] = {"sha256": files.sha256(data), "bytes": len(data)}
                (self.folder / "manifest.json").write_text(json.dumps(content))
            _read_everything(str(self.folder))
        finally:
            (self.folder / name).write_bytes(before)
            (self.folder / "manifest.json").write_bytes(manifest)


@cache
def _set() -> _Set:
    kept = tempfile.TemporaryDirectory()
    folder = Path(kept.name) / "set"
    write(folder, ipcs=(1, 2))
    return _Set(folder, kept)


def _read_everything(path: str) -> None:
    """Every reader is tried, though one before it refuses the set."""
    for problem in verify(path):
        problem.encode()
        assert problem.isprintable()
    refused = []
    for read in (_open, lambda place: describe(place).encode(), _export):
        try:
            read(path)
        except RaycondError as error:
            refused.append(error)
    if refused:
        raise refused[0]


def _open(path: str) -> None:
    condensed = open_set(path, 2, weights="density")
    for k in range(len(condensed)):
        condensed[k]
    condensed.latents()


def _export(path: str) -> None:
    with tempfile.TemporaryDirectory() as out:
        export(path, f"{out}/x", kind="folder", ipc=2)


def _file(name: str) -> Reader:
    """The reader of one kind of file of a set, with its digest in the manifest as it was, and as it is now."""

    def place() -> str:
        return {"data": data_name, "latents": latents_name}[name](_set().folder, 2)

    return Reader(
        f"set-{name}",
        lambda: [_set().bytes(place())],
        lambda data, _: _set().read_with(place(), data, listed=True),
        80,
    )


WRONG: tuple[Any, ...] = (
    None, True, -1, 0, 1.5, float("nan"), 10**30, "", "x", "\ud800", [], [None], {}, {"x": 1}, [[]]
)  # fmt: skip


def _wrong_part(_: bytes, random: Random) -> bytes:
    """In place of damage to its bytes: a manifest one part of which is missing or of another kind."""
    content = json.loads(_set().bytes("manifest.json"))
    places: list[tuple[Any, Any]] = []

    def walk(part: Any) -> None:
        for key in list(part) if isinstance(part, dict) else range(len(part)) if isinstance(part, list) else ():
            places.append((part, key))
            walk(part[key])

    walk(content)
    part, key = random.choice(places)
    if random.random() < 0.3:
        del part[key]
    else:
        part[key] = random.choice(WRONG)
    return json.dumps(content).encode()


PROTOCOL = b"""base: rded
name: mine
source: "a paper"
epochs: 3
schedule: steps
milestones: [0.5, 2]
jitter: [0.4, 0.4, 0.4]
assumed: {lr: not stated}
when:
- if: {ipc_min: 2, classes_max: 100, students: [resnet*, mlp]}
  set: {lr: 0.1, smoothing: 2}
"""


def _read_protocol(data: bytes, folder: Path) -> None:
    (folder / "p.yaml").write_bytes(data)
    read = recipe(str(folder / "p.yaml"))
    read.resolve(ipc=None, classes=1000, student="mlp").identity()
    read.resolve(ipc=1, classes=2, student="")


def _read_settings(data: bytes, _: Path) -> None:
    settings = parse_settings([data.decode("utf-8", "replace")])
    recipe("quick").override(**settings)


@cache
def _results() -> tuple[Row, ...]:
    curve = (Check(100, 0.5, 81.0, 1 / 3), Check(200, 1.0, 93.0, 0.125))
    row = Row("ddoq vae sqrt [=x]", 10, "convnet3", 1, 93.0, 93.5, 200, 0.5, 100, "quick", set="é", curve=curve)
    return row, Row("full", None, "mlp", 0, 97.0, 97.0, 200, 0.5, 1440, "quick")


@cache
def _csv() -> list[bytes]:
    return [results.to_csv(_results()).encode(), b"method,ipc,student,seed,top1,best,steps,seconds,images,protocol\n"]


@cache
def _parquet() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        results.write_parquet(f"{folder}/r.parquet", _results())
        return [Path(folder, "r.parquet").read_bytes()]


def _read_csv(data: bytes, folder: Path) -> None:
    (folder / "r.csv").write_bytes(data)
    results.to_csv(results.read(str(folder / "r.csv")))


def _read_parquet(data: bytes, folder: Path) -> None:
    (folder / "r.parquet").write_bytes(data)
    results.to_csv(results.read_parquet(str(folder / "r.parquet")))


@cache
def _proxies() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        proxy.write(f"{folder}/p.npz", proxy.Proxy(torch.rand(9, 4), torch.rand(9)))
        return [Path(folder, "p.npz").read_bytes()]


def _read_proxy(data: bytes, folder: Path) -> None:
    (folder / "p.npz").write_bytes(data)
    proxy.read.cache_clear()
    proxy.read(str(folder / "p.npz"))


READERS = [
    Reader(
        "set-manifest",
        lambda: [_set().bytes("manifest.json")],
        lambda data, _: _set().read_with("manifest.json", data, listed=False),
        150,
        _wrong_part,
    ),
    _file("data"),
    _file("latents"),
    Reader(
        "set-card",
        lambda: [_set().bytes("README.md")],
        lambda data, _: _set().read_with("README.md", data, listed=True),
        60,
    ),
    Reader("protocol", lambda: [PROTOCOL], _read_protocol, 300),
    Reader("settings", lambda: [b"scale=[0.5, 1]", b"assumed={lr: x}", b"lr=1e-3"], _read_settings, 300),
    Reader("results-csv", _csv, _read_csv, 300),
    Reader("results-parquet", _parquet, _read_parquet, 300),
    Reader("proxy", _proxies, _read_proxy, 200),
]
