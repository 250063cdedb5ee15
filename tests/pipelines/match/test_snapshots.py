"""Snapshots as training sets."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import raycond
from raycond.data.images import Decoding
from raycond.pipelines.match.run import match
from raycond.pipelines.match.snapshots import snapshots
from tests.pipelines.match.make import IDC, config, contents, data

OPTIONS = Decoding(8, "crop", 3, 10**6)


@pytest.mark.parametrize("method", ["dm", "idc"])
def test_the_last_snapshot_trains_as_the_set_does(tmp_path: Path, method: str) -> None:
    options = {**IDC, "parts": 2} if method == "idc" else {"method": "dm", "parts": 2}
    run = match(config(data(tmp_path / "data"), tmp_path / "out", **options))
    found = snapshots(method, run.phases)
    assert [one.method for one in found] == [f"{method} after {k}" for k in (0, 1, 2)] * 2
    assert [one.ipcs for one in found] == [(1,)] * 3 + [(2,)] * 3
    last = found[-1].images(2, 0).load(3, OPTIONS)
    assert len(last) == found[-1].count(2) == 3 * 2 * (4 if method == "idc" else 1)
    expected = raycond.open(str(tmp_path / "out" / "set"), 2).float_pixels()
    assert expected is not None
    if method == "dm":
        torch.testing.assert_close(last.images, expected, rtol=1e-4, atol=1e-5)
    assert last.labels.tolist() == sorted(last.labels.tolist())
    assert len({one.digest(None) for one in found}) == 6


def test_pictures_are_those_of_the_settings_that_ran_last(tmp_path: Path) -> None:
    root, out = data(tmp_path / "data"), tmp_path / "out"
    options = {"method": "dm", "ipc": (1,)}
    match(config(root, out, **options))
    first = contents(out / "images")
    match(config(root, out, **options, iterations=3, init="noise"))
    other = contents(out / "images")
    assert list(other) == [f"ipc1-{k:06d}.png" for k in (0, 2, 3)]
    assert other["ipc1-000000.png"] != first["ipc1-000000.png"]
    run = match(config(root, out, **options))
    assert run.computed == 0
    assert contents(out / "images") == first
