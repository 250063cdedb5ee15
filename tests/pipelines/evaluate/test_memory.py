"""Measured memory: what is measured together, and that it covers a real training."""

from __future__ import annotations

import multiprocessing
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from raycond.data.images import Decoding
from raycond.data.labelled import LabelledImages
from raycond.evaluate.cell import Cell, peak_memory
from raycond.evaluate.train import train_and_test
from raycond.models import students
from raycond.pipelines.evaluate import memory
from raycond.pipelines.evaluate.memory import Need, measure
from raycond.runtime.ray_tune import HEADROOM
from tests.pipelines.evaluate.trial import PROTOCOL, Broken, cell


@pytest.mark.parametrize(
    "changes",
    [
        {"student": "mlp-w5"},
        {"protocol": PROTOCOL.override(batch=7)},
        {"protocol": PROTOCOL.override(precision="bf16")},
        {"protocol": PROTOCOL.override(max_size=4)},
        {"options": Decoding(16, "crop", 3, 10**6)},
        {"labeler": "once:resnet18"},
    ],
    ids=str,
)
def test_what_takes_other_memory_is_measured_by_itself(changes: dict[str, Any]) -> None:
    assert Need.key(cell(Path(), train=Broken(), **changes)) != Need.key(cell(Path(), train=Broken()))


def test_methods_sizes_and_seeds_are_measured_together() -> None:
    one = cell(Path(), train=Broken())
    other = cell(Path(), train=Broken(), method="full", ipc=None, seed=3, protocol=PROTOCOL.override(lr=1))
    assert Need.key(one) == Need.key(other)


@pytest.mark.parametrize("protocol", ["quick", "dc-bench", "class-incremental", "rethinkdc-hard"])
def test_two_steps_and_one_test_whatever_the_protocol(protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from raycond.evaluate.protocol import preset

    seen: dict[str, Any] = {}

    def train(train: LabelledImages, test: LabelledImages, **options: Any) -> None:
        seen.update(options, train=len(train), test=len(test))
        train_and_test(train, test, **options)

    monkeypatch.setattr(memory, "train_and_test", train)
    small = preset(protocol).override(batch=10)
    found = measure(cell(Path(), train=Broken(), protocol=small))  # needs no file of the cell
    assert (found.bytes > 10**7, found.device_bytes) == (True, 0)
    p = seen["protocol"]
    assert (p.steps, p.tasks, p.checks, p.batch, seen["threads"]) == (2, 1, 1, 10, 1)
    assert (seen["train"], seen["test"]) == (10, 512)  # the test's batch is the larger


def test_the_test_batch_is_that_of_large_images(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    monkeypatch.setattr(memory, "train_and_test", lambda *data, **_: sizes.append(len(data[1])))
    for size, most in ((64, None), (224, None), (224, 64)):
        protocol = PROTOCOL.override(max_size=most)
        measure(cell(Path(), train=Broken(), protocol=protocol, options=Decoding(size, "crop", 3, 10**6)))
    assert sizes == [2**26 // (128 * 64**2), 2**26 // (128 * 224**2), 2**26 // (128 * 64**2)]


def test_a_teacher_is_measured_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(students.build("convnet3-w4", classes=4, size=8, channels=3).state_dict(), tmp_path / "w.pt")
    modes: list[str] = []
    monkeypatch.setattr(memory, "train_and_test", lambda *_, labeler, **__: modes.append(labeler.mode))
    measure(cell(Path(), train=Broken(), labeler=f"teacher:convnet3-w4@{tmp_path}/w.pt,mean=0,std=1"))
    assert modes == ["online"]


def _measured(made: Cell) -> int:
    return measure(made).bytes


def _trained(made: Cell) -> int:
    """As `run_cell` trains it, with more test images than one batch."""

    def images(count: int) -> LabelledImages:
        side = made.options.size
        return LabelledImages(torch.zeros(count, 3, side, side, dtype=torch.uint8), torch.arange(count) % 4, 4)

    train_and_test(
        images(40), images(1100), student=made.student, protocol=made.protocol, seed=0, device="cpu", threads=1
    )
    return peak_memory()


@pytest.mark.skipif(sys.platform == "win32", reason="no peak memory there")
def test_a_training_stays_within_what_was_measured() -> None:
    made = cell(
        Path(),
        train=Broken(),
        student="convnet3-w32",
        protocol=PROTOCOL.override(batch=4),
        options=Decoding(32, "crop", 3, 10**6),
    )
    with multiprocessing.get_context("spawn").Pool(2, maxtasksperchild=1) as pool:
        measured, real = pool.apply_async(_measured, (made,)), pool.apply_async(_trained, (made,))
        assert real.get() < measured.get() * HEADROOM
