"""A disk that is full ends the run at once, with the file's name; the same command goes on from there."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from raycond.pipelines.quantize import worker
from raycond.pipelines.quantize.run import quantize
from tests.pipelines.quantize.make import config, contents, data


@pytest.mark.parametrize("writes", [3, 9, 40])
def test_the_run_ends_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int) -> None:
    root, out = data(tmp_path / "data"), tmp_path / "out"
    left, begun = [writes], []
    fsync, encode = os.fsync, worker.ClassWorker._encode

    def filling(handle: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(handle)

    def counted(self: worker.ClassWorker, job: worker.ClassJob, *rest: object) -> object:
        begun.append(job.label)
        return encode(self, job, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "fsync", filling)
    monkeypatch.setattr(worker.ClassWorker, "_encode", counted)
    with pytest.raises(OSError, match="No space left") as caught:
        quantize(config(root, out))
    assert str(caught.value.filename).startswith(str(out))
    assert len(begun) <= 1 + writes // 4  # the other classes are not tried
    assert not list(out.rglob("*.part"))
    monkeypatch.undo()
    assert not quantize(config(root, out)).failures
    quantize(config(root, tmp_path / "whole"))
    assert contents(out / "set") == contents(tmp_path / "whole" / "set")
