"""What is said before anything is computed, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from raycond.core.errors import UserError
from raycond.methods.kernels.plan import VJP_COST
from raycond.pipelines.kernel import plan as planning
from raycond.pipelines.kernel import run
from raycond.pipelines.kernel.config import KernelConfig, load_kernel_config
from raycond.pipelines.kernel.plan import Machine, machine_of, needs_of
from raycond.runtime.local_runner import LocalRunner
from raycond.runtime.resources import Capacity
from tests.pipelines.kernel.make import config, data

GB = 10**9
MACHINE = Machine(8 * GB, 16 * GB, 2)


def load(**options: Any) -> KernelConfig:
    return load_kernel_config({"data": "digits:", "size": 28, "channels": 1, "runner": "local", **options})


def test_entries_and_hours_are_those_of_all_supports() -> None:
    needs = needs_of(
        load(ipc=(1, 10), steps=5, checks=0, kernel="fc1"), MACHINE, images=60_000, classes=10, tests=10_000,
        measure=lambda _: 1e4,
    )  # fmt: skip
    entries = {n: 5 * VJP_COST * (n * 5000 + n * (n + 1) / 2) + 2 * 10_000 * n for n in (10, 100)}
    assert {10 * ipc: one.entries for ipc, one in needs.plans.items()} == pytest.approx(entries)
    assert needs.hours == pytest.approx(sum(entries.values()) / 1e4 / 2 / 3600)
    text = "\n".join(needs.lines())
    assert "512×512 image pairs" in text
    assert "10,000 entries/s" in text
    assert "minutes for the kernels" in text


def test_a_block_that_does_not_fit_is_refused_with_one_that_does() -> None:
    small = Machine(GB // 2, 16 * GB, 2)
    big = load(kernel="convnet", ipc=(50,), block=4096)
    with pytest.raises(UserError, match="use --block [0-9]+ or less") as refused:
        needs_of(big, small, images=60_000, classes=10, tests=0, measure=lambda _: 1.0)
    block = int(re.findall("--block ([0-9]+)", str(refused.value))[0])
    fits = load(kernel="convnet", ipc=(50,), block=block)
    needs_of(fits, small, images=60_000, classes=10, tests=0, measure=lambda _: 1.0)


def test_images_that_do_not_fit_are_refused_with_a_number_of_targets() -> None:
    with pytest.raises(UserError, match="60000 targets take .* give --targets ([0-9]+) or less"):
        needs_of(
            load(kernel="fc1"), Machine(8 * GB, GB // 4, 1), images=60_000, classes=10, tests=0, measure=lambda _: 1.0
        )


def test_a_machine_is_shared_by_its_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "memory_bytes", lambda: 10 * GB)
    assert machine_of(load()) == Machine(8 * GB, 8 * GB, 1)
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    assert machine_of(load(runner="ray")) == Machine(2 * GB, 8 * GB, 4)
    assert machine_of(load(runner="ray", workers=2)).workers == 2


class _Cluster(LocalRunner):
    """Two nodes of 4 processors and 10 GB."""

    capacity = Capacity(8, 0, 10 * GB)  # type: ignore[assignment]

    def describe(self) -> dict[str, Any]:
        return {"nodes": 2}


def test_workers_share_the_memory_of_their_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "memory_bytes", lambda: 5 * GB)
    assert machine_of(load(runner="ray"), _Cluster()) == Machine(2 * GB, 4 * GB, 8)
    assert machine_of(load(runner="ray", workers=3), _Cluster()) == Machine(4 * GB, 4 * GB, 3)
    assert machine_of(load(runner="ray", cpus_per_worker=4), _Cluster()) == Machine(8 * GB, 4 * GB, 2)


def test_a_dry_run_says_all_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = data(tmp_path / "data"), tmp_path / "out"
    monkeypatch.setattr(planning, "measured_rate", lambda _: 1e6)
    text = run.plan(config(source, out))
    assert "48 images, 12 to 12 a class" in text
    assert "KIP of images, 6 steps of 24 of all targets, IPC 1, 3" in text
    assert not out.exists()
    monkeypatch.setattr(planning, "memory_bytes", lambda: 5 * 10**7)
    with pytest.raises(UserError, match="(?s)48 images, .*of a worker's 0.04 GB"):
        run.plan(config(source, out, block=4000, kernel="conv-vec3"))
