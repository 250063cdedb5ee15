"""What a dry run says, and that it leaves nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from raycond.core.errors import UserError
from raycond.pipelines.match.plan import plan
from tests.pipelines.match.make import IDC, config, data


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data(tmp_path_factory.mktemp("source"))


def test_memory_time_and_trainings(root: Path, tmp_path: Path) -> None:
    options = {"evaluate": True, "sampling": "dream", "parts": 2, "curve": True}
    text = plan(config(root, tmp_path / "out", **IDC, **options))
    assert "images    3 classes, 36 images, 12 to 12 a class" in text
    assert "ipc1: idc, convnet3-w8, 2 iterations of 3 steps, 2×2 tiles, start kmeans, dream, 128 clusters" in text
    for ipc in (1, 2):
        (memory,) = (line for line in text.splitlines() if line.startswith(f"memory    ipc{ipc}"))
        assert "matching: " in memory
        assert memory.endswith("; 2 parts")
        assert f"time      ipc{ipc}: " in text
    assert "evaluate  9 trainings: idc+dream, idc+dream (8-bit), random medoid full" in text
    assert "3 snapshots of each IPC" in text
    assert not (tmp_path / "out").exists()


def test_too_few_images_are_told_with_the_plan(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"(?s)images .*--ipc 13: more than the images"):
        plan(config(root, tmp_path / "out", ipc=(13,)))
