"""The memory of trainings: what is measured, that it covers a real training, and what trials ask for."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
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
from raycond.pipelines.evaluate.config import load_grid_config
from raycond.pipelines.evaluate.memory import GRAIN, HEADROOM, Need, bound, measure
from raycond.pipelines.evaluate.trial import Trial
from raycond.runtime.local_runner import LocalRunner
from raycond.runtime.resources import Capacity, Resources
from raycond.runtime.trials import Request
from tests.pipelines.evaluate.trial import PROTOCOL, Broken, cell
from tests.support.distributed import fork_server


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
    small = preset(protocol).override(batch=10, view_size=None)
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


# ---- processes of their own, whose peak is that of one training


@pytest.fixture(scope="module")
def processes() -> Iterator[Any]:
    """A pool with a fresh process for every call."""
    with fork_server().Pool(2, maxtasksperchild=1) as pool:
        yield pool


def _measured(training: Cell) -> int:
    torch.set_num_threads(1)
    return measure(training).bytes


def _trained(training: Cell) -> int:
    """As `run_cell` trains it, with more test images than one batch."""

    def images(count: int) -> LabelledImages:
        side = training.options.size
        return LabelledImages(torch.zeros(count, 3, side, side, dtype=torch.uint8), torch.arange(count) % 4, 4)

    train_and_test(
        images(40), images(1100), student=training.student, protocol=training.protocol, seed=0, device="cpu", threads=1
    )
    return peak_memory()


def small_cell(student: str, batch: int = 4, size: int = 32) -> Cell:
    protocol = PROTOCOL.override(batch=batch)
    return cell(Path(), train=Broken(), student=student, protocol=protocol, options=Decoding(size, "crop", 3, 10**6))


@pytest.mark.skipif(sys.platform == "win32", reason="no peak memory there")
def test_a_training_stays_within_what_was_measured(processes: Any) -> None:
    training = small_cell("convnet3-w32")
    real, measured = processes.apply_async(_trained, (training,)), processes.apply_async(_measured, (training,))
    assert real.get() < measured.get() * HEADROOM


@pytest.mark.skipif(sys.platform == "win32", reason="no peak memory there")
@pytest.mark.parametrize(
    ("student", "batch", "size"), [("convnet3-w64", 32, 32), ("mlp-w4096", 8, 32), ("resnet18", 16, 16)]
)
def test_the_bound_covers_what_is_measured(processes: Any, student: str, batch: int, size: int) -> None:
    """Beyond the process itself, which has an allowance that would cover any of these trainings."""
    training, tiny = small_cell(student, batch, size), small_cell("mlp-w4", 1, 4)
    measured, least = processes.apply_async(_measured, (training,)), processes.apply_async(_measured, (tiny,))
    grown = measured.get() - least.get()
    assert least.get() < memory.PROCESS
    assert grown > 20 * 2**20  # there is something to cover
    assert grown < bound(training).bytes - memory.PROCESS


# ---- what trials ask for


class Cluster:
    """A runner that answers with the capacity and the measurements that it is given, and counts what is measured."""

    def __init__(self, need: Need | Exception, node_bytes: int = 2**40, cpus: int = 8) -> None:
        self.need, self.capacity = need, Capacity(cpus, 1, node_bytes)
        self.measured: list[Cell] = []
        self.asked: list[tuple[Resources, bool]] = []

    def tasks(
        self, function: Any, items: Sequence[Cell], resources: Resources, *, fresh: bool = False
    ) -> Iterator[tuple[int, Need | Exception]]:
        assert function is measure
        self.asked.append((resources, fresh))
        for position, item in enumerate(items):
            self.measured.append(item)
            yield position, self.need


def requests(runner: Any, trials: Sequence[Trial], **options: Any) -> list[Request]:
    config = load_grid_config({"sets": ["x"], **options})
    return [one.request for one in memory.with_requests(trials, config, runner)]


def trial(device: str = "cpu", images: int = 1000, held: int = 0, **changes: Any) -> Trial:
    training = cell(Path(), train=Broken(), device=device, **changes)
    return Trial(training, training.slug, "fingerprint", images, 0, held)


def test_what_surely_fits_is_not_measured() -> None:
    one = trial()
    total = (bound(one.cell).bytes + one.data_bytes) * HEADROOM
    roomy, tight = (Cluster(Need(2**28, 0), int(8 * total) + more) for more in (1, -1))
    (asked,), (measured,) = requests(roomy, [one]), requests(tight, [one])
    assert roomy.measured == []
    assert 0 <= asked.memory - total < GRAIN
    assert tight.measured == [one.cell]
    assert tight.asked == [(Resources(gpus=0.0), True)]
    assert measured.memory < asked.memory


def test_a_teacher_and_a_gpu_are_measured_for_they_have_no_bound() -> None:
    taught, on_gpu = Cluster(Need(2**28, 0)), Cluster(Need(2**30, 2**36))
    requests(taught, [trial(labeler="once:resnet18")], labeler="once:resnet18")
    requests(on_gpu, [trial("cuda")])
    assert (len(taught.measured), taught.asked) == (1, [(Resources(gpus=0.0), True)])
    assert (len(on_gpu.measured), on_gpu.asked) == (1, [(Resources(gpus=1.0), True)])


def test_trainings_that_take_the_same_memory_are_measured_once() -> None:
    cluster = Cluster(Need(2**28, 0), node_bytes=2**32)
    requests(cluster, [trial(seed=seed, student=student) for seed in range(3) for student in ("mlp-w4", "mlp-w5")])
    assert [one.student for one in cluster.measured] == ["mlp-w4", "mlp-w5"]


def test_in_one_process_nothing_is_asked_for() -> None:
    trials = [trial()]
    assert memory.with_requests(trials, load_grid_config({"sets": ["x"]}), LocalRunner()) == trials
    assert memory.with_requests([], load_grid_config({"sets": ["x"]}), Cluster(Need(0, 0))) == []  # type: ignore[arg-type]


GIB = 2**30


def request(need: Need, device: str = "cpu", node_bytes: int = 2**40, held: int = 0, **options: Any) -> Request:
    """What a trial asks for whose memory was measured."""
    config = load_grid_config({"sets": ["x"], **options})
    return memory._request(trial(device, held=held), need, config, Capacity(8, 1, node_bytes))


def test_on_cpus_trials_ask_for_the_memory_that_was_measured() -> None:
    asked = request(Need(GIB, 0), cpus_per_trial=2)
    assert (asked.cpus, asked.gpus) == (2, 0)
    assert asked.memory % GRAIN == 0
    assert 0 <= asked.memory - (GIB + 2 * 1000 * 192) * HEADROOM < GRAIN
    # seeds, methods and sizes that differ by a little ask for the same, and so share a process
    assert request(Need(GIB, 0), held=1100).memory == asked.memory
    assert request(Need(GIB, 0), held=10**7).memory > asked.memory
    # more than any node has would wait for ever
    assert request(Need(4 * GIB, 0), node_bytes=GIB).memory == GIB
    assert request(Need(GIB, 0), node_bytes=0).memory == 0


def test_a_trial_that_cannot_be_measured_has_a_node_to_itself() -> None:
    (asked,) = requests(Cluster(ValueError("no such student"), node_bytes=4 * GIB), [trial()])
    assert asked.memory == 4 * GIB


def test_on_gpus_trials_ask_for_a_share() -> None:
    share = request(Need(8 * GIB, 80 * GIB), "cuda").gpus
    assert share == pytest.approx(0.12)  # 8 GiB and the headroom, in whole percent
    assert request(Need(79 * GIB, 80 * GIB), "cuda").gpus == 1
    assert request(Need(0, 0), "cuda").gpus == 1  # not measured: its failure will have a name
    assert request(Need(8 * GIB, 80 * GIB), "cuda", gpus_per_trial=0.5).gpus == 0.5
    assert request(Need(8 * GIB, 80 * GIB), "cuda").memory == 0
