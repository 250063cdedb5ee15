"""How much memory a training takes: bounded from above without running it, or measured on two steps of it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch

from raycond.data.labelled import LabelledImages
from raycond.evaluate.cell import Cell, peak_memory
from raycond.evaluate.train import TEST_VALUES, train_and_test
from raycond.labels.registry import Labeler, open_labeler
from raycond.labels.stored.labels import StoredLabels
from raycond.models import students
from raycond.pipelines.evaluate.config import GridConfig
from raycond.pipelines.evaluate.trial import Trial
from raycond.runtime.resources import Capacity, Resources
from raycond.runtime.runner import Runner
from raycond.runtime.trials import Request

CUDA_CONTEXT = 600 * 2**20  # of a process on a GPU, outside torch's allocator
PROCESS = 1500 * 2**20  # of a process on a CPU that has imported torch, torchvision and Ray
STATES = 5  # copies of the weights: themselves, gradients, two moments of an optimizer, an average
COPIES = 4  # of every activation: kept for the backward pass, its gradient, and what the operations need in between
HEADROOM = 1.15  # over measured memory: allocators differ from run to run
GRAIN = 128 * 2**20  # Tune goes on in the same process only for trials that ask for the same bytes

log = logging.getLogger(__name__)


class Need(NamedTuple):
    """bytes: of a process that trains, its data left out; on a GPU those of the GPU, which has device_bytes."""

    bytes: int
    device_bytes: int

    @staticmethod
    def key(cell: Cell) -> str:
        """Trainings of one key take the same memory."""
        p = cell.protocol
        sizes = f"{p.max_size} {p.view_size} {cell.options.size}"
        return f"{cell.student} {p.batch} {p.precision} {p.compile} {sizes} {cell.labeler}"


def with_requests(trials: Sequence[Trial], config: GridConfig, runner: Runner) -> list[Trial]:
    """The trials with what each asks of the cluster; as they are where the runner has no cluster."""
    capacity = runner.capacity
    if capacity is None or not trials:
        return list(trials)
    on_gpu = trials[0].cell.device.startswith("cuda")
    kinds = {Need.key(trial.cell): trial.cell for trial in trials}
    needs = {key: bound(cell) for key, cell in kinds.items()}
    most = max(needs[Need.key(trial.cell)].bytes + trial.data_bytes for trial in trials)
    # what surely fits as often as there are processors need not be measured
    if on_gpu or config.labeler != "hard" or most * HEADROOM * capacity.cpus > capacity.node_bytes:
        needs = _measured(kinds, on_gpu, runner)
    return [replace(trial, request=_request(trial, needs[Need.key(trial.cell)], config, capacity)) for trial in trials]


def _request(trial: Trial, need: Need, config: GridConfig, capacity: Capacity) -> Request:
    total = -(-int((need.bytes + trial.data_bytes) * HEADROOM) // GRAIN) * GRAIN
    if trial.cell.device.startswith("cuda"):
        share = config.gpus_per_trial
        if share <= 0:
            share = 1.0 if not need.device_bytes else min(1.0, -(-100 * total // need.device_bytes) / 100)
        return Request(config.cpus_per_trial, share)
    memory = min(total if need.bytes else capacity.node_bytes, capacity.node_bytes)
    return Request(config.cpus_per_trial, memory=memory)


def _measured(kinds: dict[str, Cell], on_gpu: bool, runner: Runner) -> dict[str, Need]:
    """Measured in processes of their own, one for each student and batch."""
    keys = list(kinds)
    needs = {}
    resources = Resources(gpus=1.0 if on_gpu else 0.0)
    for position, result in runner.tasks(measure, [kinds[key] for key in keys], resources, fresh=True):
        if isinstance(result, Exception):  # the training itself will say what is wrong, with its name
            log.warning("the memory of %s could not be measured: %r", kinds[keys[position]].name, result)
            result = Need(0, 0)
        needs[keys[position]] = result
    return needs


def bound(cell: Cell) -> Need:
    """More than a training with hard labels on a CPU takes, from the shapes of one forward pass; no number is computed.

    Its data is left out, as in `measure`.
    """
    side = cell.protocol.view_side(cell.options.size)
    seen = 0

    def count(_module: torch.nn.Module, _inputs: object, output: object) -> None:
        nonlocal seen
        if isinstance(output, torch.Tensor):
            seen += output.numel()

    with torch.device("meta"):
        network = students.build(cell.student, classes=len(cell.classes), size=side, channels=cell.options.channels)
        for module in network.modules():
            module.register_forward_hook(count)
        network.train()(torch.empty(2, cell.options.channels, side, side))
    weights = sum(parameter.numel() for parameter in network.parameters())
    training = seen // 2 * cell.protocol.batch * COPIES
    tests = seen // 2 * _test_batch(cell) * 2
    return Need(PROCESS + 4 * (weights * STATES + max(training, tests)), 0)


def measure(cell: Cell) -> Need:
    """Two steps on random pixels at the cell's batch and size, and one batch of a test, which may be the larger.

    Call it in a process of its own.
    """
    protocol = cell.protocol.override(
        steps=2, schedule="constant", milestones=(), restart=False, tasks=1, checks=1, normalize="train"
    )
    side, channels, classes = cell.options.size, cell.options.channels, len(cell.classes)
    count = max(classes, min(protocol.batch, 1024))
    images = torch.randint(0, 256, (count, channels, side, side), dtype=torch.uint8)
    data = LabelledImages(images, torch.arange(count) % classes, classes)
    rows = torch.arange(_test_batch(cell)) % count
    view = protocol.view_size or side
    seen = torch.randint(0, 256, (len(rows), channels, view, view), dtype=torch.uint8)
    tests = LabelledImages(seen, data.labels[rows], classes)
    cuda = cell.device.startswith("cuda")
    train_and_test(
        data,
        tests,
        student=cell.student,
        protocol=protocol,
        seed=0,
        device=cell.device,
        threads=None if cuda else 1,
        labeler=_labeler(cell),
    )
    if cuda:
        return Need(torch.cuda.max_memory_reserved() + CUDA_CONTEXT, torch.cuda.get_device_properties(0).total_memory)
    return Need(peak_memory(), 0)


def _labeler(cell: Cell) -> Labeler:
    """The cell's, where it can label random pixels: those whose labels are stored it does not know."""
    found = open_labeler(cell.labeler, classes=cell.classes, device=cell.device)
    if isinstance(found.logits, StoredLabels):
        return replace(found, logits=lambda images: images.new_zeros(len(images), len(cell.classes)))
    return found


def _test_batch(cell: Cell) -> int:
    """Images that `train_and_test` tests at once."""
    side = cell.protocol.view_side(cell.options.size)
    values = TEST_VALUES.get(cell.device.partition(":")[0], 2**26)
    return min(512, max(1, values // (128 * side**2)))
