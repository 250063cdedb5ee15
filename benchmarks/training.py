"""raycond's training loop against a plain PyTorch one of the same recipe, in turns: steps per second.

python -m benchmarks.training [--device cuda] [--steps 40] [--repeats 3] [--only rded]

The plain loop is the usual script at its best: images decoded once, torchvision.transforms.v2 on uint8 tensors image
by image in a Dataset, a DataLoader with persistent workers (0 or 2, the faster counts), CutMix on the batch,
cross-entropy, torch's optimiser as it comes. Both have the same student, images, batch, steps and torch threads.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import islice
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from benchmarks.common import KEEP, folder, machine, print_table
from raycond.core.errors import UserError
from raycond.data.images import Decoding
from raycond.data.labelled import LabelledImages, pixel_statistics
from raycond.evaluate.protocol import EvaluationProtocol, recipe
from raycond.evaluate.train import _batches, _reproducible, _Training
from raycond.evaluate.views import IMAGENET
from raycond.models import students

CLASSES, IPC = 10, 50
WORKERS = (0, 2)
# schedules act on one number a step; PCA noise is not in torchvision
SAME: dict[str, Any] = {"schedule": "constant", "milestones": (), "restart": False, "decay_norms": True}
ADAMW = {**SAME, "optimizer": "adamw", "momentum": 0.0, "lr": 0.001, "weight_decay": 0.01, "lighting": 0.0}
RECIPES: dict[str, dict[str, Any]] = {
    "minimax-hard": ADAMW,
    "rded": {**ADAMW, "loss": "cross-entropy", "shuffle": 1, "scale": [0.5, 1.0]},
    # both sides take the statistics of the images that are timed
    "dc-bench": {**SAME, "normalize": "train"},
    "dc-bench-dsa": {**SAME, "normalize": "train"},
}
VIEWS = {
    "minimax-hard": "crop, flip, jitter, CutMix; AdamW",
    "rded": "crop, flip, CutMix, hard labels; AdamW",
    "dc-bench": "no augmentation; SGD",
}
CASES = (
    *((name, student, 64) for name in ("minimax-hard", "rded") for student in ("convnet3-w32", "resnet18")),
    ("dc-bench", "convnet3", 28),
)


@dataclass(frozen=True)
class Case:
    """One line of the table. warm: steps before the clock starts; the protocol has them and those that are timed."""

    student: str
    protocol: EvaluationProtocol
    images: LabelledImages
    warm: int
    device: torch.device

    @property
    def total(self) -> int:
        return self.protocol.steps or 0

    def build(self) -> nn.Module:
        _, channels, size, _ = self.images.images.shape
        return students.build(self.student, classes=CLASSES, size=size, channels=channels)


@lru_cache
def images(size: int) -> tuple[LabelledImages, str]:
    """Real photographs of 64 pixels or digits of 28, fifty a class, or as many generated ones; and what they are."""
    from raycond.data.sources import open_source
    from raycond.evaluate.training_sets import RandomImages

    name, channels = ("imagenette/train", 3) if size == 64 else ("mnist", 1)
    try:
        uri = str(folder("RAYCOND_DATA", "data") / name)
        source = open_source(uri, split="train", index_dir=str(KEEP / "index"))
    except (SystemExit, UserError, OSError):
        small = torch.rand(CLASSES * IPC, channels, 8, 8, generator=torch.Generator().manual_seed(0))
        made = F.interpolate(small, (size, size), mode="bilinear").mul(255).to(torch.uint8)
        return LabelledImages(made, torch.arange(CLASSES * IPC) // IPC, CLASSES), "generated images"
    found = RandomImages(source, IPC, 0).load(CLASSES, Decoding(size, "crop", channels, 10**8))
    return found, name.partition("/")[0]


def ours(case: Case) -> tuple[float, float]:
    """Steps per second, and the seconds of the first `warm` steps."""
    with _reproducible(0, case.device, None):
        training = _Training(case.images, case.student, case.protocol, 0, case.device, None)
        started = time.perf_counter()
        times = [time.perf_counter() for _ in training.run()]  # a check every `warm` steps, which reads the loss
    return (case.total - case.warm) / (times[-1] - times[0]), times[0] - started


def our_views(case: Case) -> float:
    """Steps per second without a network."""
    with _reproducible(0, case.device, None):
        training = _Training(case.images, case.student, case.protocol, 0, case.device, None)
        batches = _batches(len(case.images), case.protocol, case.total, training.generator)
        return timed((training._batch(index) for index in batches), case)


def timed(steps: Iterator[object], case: Case) -> float:
    """Steps per second after the first `warm` ones."""
    for _ in islice(steps, case.warm):
        pass
    wait(case.device)
    started = time.perf_counter()
    for _ in islice(steps, case.total - case.warm):
        pass
    wait(case.device)
    return (case.total - case.warm) / (time.perf_counter() - started)


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


class Images(Dataset[tuple[Tensor, int]]):
    """Decoded images (n, channels, h, w) uint8, each changed when it is asked for."""

    def __init__(self, found: LabelledImages, protocol: EvaluationProtocol) -> None:
        self.images, self.labels = found.images, found.labels.tolist()
        size = found.images.shape[-1]
        # on uint8 until the end, as torchvision advises: a third faster than floats first, and than PIL images
        change: list[nn.Module] = []
        if protocol.scale:
            change.append(v2.RandomResizedCrop(size, scale=protocol.scale, antialias=True))
        if protocol.flip:
            change.append(v2.RandomHorizontalFlip())
        if protocol.jitter:
            change.append(v2.ColorJitter(*protocol.jitter))
        mean, std = IMAGENET
        if protocol.normalize == "train":
            mean, std = (tuple((values / 255).tolist()) for values in pixel_statistics(found.images))
        self.change = v2.Compose([*change, v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.change(self.images[index]), self.labels[index]


def cutmix(x: Tensor, y: Tensor, beta: float) -> tuple[Tensor, float]:
    """Changes the images; gives the other labels and the share of the own ones (as the code of CutMix does)."""
    height, width = x.shape[2:]
    share = float(torch.distributions.Beta(beta, beta).sample())
    side = (1 - share) ** 0.5
    row, column = int(torch.randint(height, ())), int(torch.randint(width, ()))
    half, across = int(height * side) // 2, int(width * side) // 2
    top, bottom = max(0, row - half), min(height, row + half)
    left, right = max(0, column - across), min(width, column + across)
    other = torch.randperm(len(x), device=x.device)
    x[:, :, top:bottom, left:right] = x[other, :, top:bottom, left:right]
    return y[other], 1 - (bottom - top) * (right - left) / (height * width)


def plain_batches(case: Case, workers: int) -> Iterator[tuple[Tensor, Tensor, Tensor | None, float]]:
    """Images and labels on the device, and for CutMix the other labels with the share of the own ones; endless."""
    protocol, cuda = case.protocol, case.device.type == "cuda"
    loader: Iterable[tuple[Tensor, Tensor]] = DataLoader(
        Images(case.images, protocol),
        batch_size=min(protocol.batch, len(case.images)),
        shuffle=True,
        drop_last=True,  # every step has a full batch, as raycond's have
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=cuda,
    )
    while True:
        for x, y in loader:
            x, y = x.to(case.device, non_blocking=True), y.to(case.device, non_blocking=True)
            other, own = cutmix(x, y, protocol.mix_beta) if protocol.mix == "cutmix" else (None, 1.0)
            yield x, y, other, own


def plain_steps(case: Case, workers: int) -> Iterator[Tensor]:
    protocol, net = case.protocol, case.build().to(case.device)
    settings: dict[str, Any] = {"lr": protocol.lr, "weight_decay": protocol.weight_decay}
    optimizer: torch.optim.Optimizer = torch.optim.AdamW(net.parameters(), **settings)
    if protocol.optimizer == "sgd":
        optimizer = torch.optim.SGD(net.parameters(), momentum=protocol.momentum, **settings)
    net.train()
    for x, y, other, own in plain_batches(case, workers):
        with torch.autocast(case.device.type, torch.bfloat16, enabled=protocol.precision == "bf16"):
            logits = net(x)
            loss = F.cross_entropy(logits, y)
            if other is not None:
                loss = own * loss + (1 - own) * F.cross_entropy(logits, other)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield loss


def plain(case: Case, workers: int) -> float:
    torch.backends.cudnn.benchmark = True
    try:
        return timed(plain_steps(case, workers), case)
    finally:
        torch.backends.cudnn.benchmark = False


def plain_views(case: Case, workers: int) -> float:
    return timed(plain_batches(case, workers), case)


def compare(case: Case, repeats: int) -> list[str]:
    runs: dict[str, Callable[[], float]] = {"raycond": lambda: ours(case)[0], "raycond views": lambda: our_views(case)}
    for workers in WORKERS:
        runs[f"plain {workers}"] = partial(plain, case, workers)
        runs[f"plain {workers} views"] = partial(plain_views, case, workers)
    rate = in_turns(runs, repeats)
    workers = max(WORKERS, key=lambda w: rate[f"plain {w}"])
    own, views = rate["raycond"], rate["raycond views"]
    other, others = rate[f"plain {workers}"], rate[f"plain {workers} views"]
    return [
        case.protocol.name,
        f"{case.student}, {case.images.images.shape[-1]} px",
        str(min(case.protocol.batch, len(case.images))),
        case.protocol.precision,
        f"{own:.2f}",
        f"{other:.2f} ({workers})",
        f"{own / other:.2f}",
        f"{views:.0f} ({100 * own / views:.0f} %)",
        f"{others:.0f} ({100 * other / others:.0f} %)",
    ]


def in_turns(runs: dict[str, Callable[[], float]], repeats: int) -> dict[str, float]:
    """The median of what each gives; they take turns in changing order. Every run warms itself up."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeats):
        names = list(runs)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            found[name].append(runs[name]())
    return {name: statistics.median(values) for name, values in found.items()}


def compiled(case: Case, repeats: int) -> str:
    """torch.compile on and off, in turns."""
    on = replace(case, protocol=case.protocol.override(compile=True))
    what = f"torch.compile, {case.student}, {case.protocol.name}, {case.protocol.precision}"
    rates: dict[bool, list[float]] = {True: [], False: []}
    starts: dict[bool, list[float]] = {True: [], False: []}
    for turn in range(repeats):
        for chosen in (turn % 2 == 0, turn % 2 == 1):
            try:
                torch.compiler.reset()
                rate, start = ours(on if chosen else case)
            except Exception as error:
                lines = [line for line in str(error).splitlines() if line.strip()]
                return f"{what}: skipped: {type(error).__name__}: {lines[0] if lines else ''}"
            rates[chosen].append(rate)
            starts[chosen].append(start)
    with_it, without = (statistics.median(rates[chosen]) for chosen in (True, False))
    # later ones find what the first has put into the compiler's cache
    first, again = (found - statistics.median(starts[False]) for found in (starts[True][0], starts[True][-1]))
    return (
        f"{what}: {with_it:.2f} steps/s with it, {without:.2f} without, ratio {with_it / without:.2f}; "
        f"it starts {first:.0f} s later at first, {again:.0f} s later the last of {repeats} times"
    )


def cases(only: list[str], precisions: list[str], steps: int, device: torch.device) -> Iterator[Case]:
    warm = max(1, steps // 5)
    total = (-(-steps // warm) + 1) * warm
    for name, student, size in CASES:
        if not any(text in f"{name} {student}" for text in only):
            continue
        for precision in precisions:
            changed = recipe(name).override(
                **RECIPES[name], steps=total, checks=total // warm, checks_from=0.0, precision=precision
            )
            protocol = changed.resolve(ipc=IPC, classes=CLASSES, student=student, size=size)
            yield Case(student, protocol, images(size)[0], warm, device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--steps", type=int, default=0, help="timed; by default 40 on a CPU and 400 on a GPU")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of torch, in both")
    parser.add_argument("--precision", nargs="+", default=["float32", "bf16"], choices=["float32", "bf16"])
    parser.add_argument("--only", nargs="+", default=[""], help="recipes or students, such as rded or resnet18")
    options = parser.parse_args()
    device = torch.device(options.device)
    steps = options.steps or (400 if device.type == "cuda" else 40)
    threads = torch.get_num_threads()
    torch.set_num_threads(options.threads)
    try:
        print(machine())
        print(f"{device.type}, {options.threads} torch threads, {IPC} images a class: {images(64)[1]}, {images(28)[1]}")
        print(f"{steps} steps, median of {options.repeats} in turns; in brackets: DataLoader workers, share of a step")
        for name, text in VIEWS.items():
            print(f"  {name}: {text}")
        rows, last = [], ""
        for case in cases(options.only, options.precision, steps, device):
            rows.append(compare(case, options.repeats))
            print(" ".join(rows[-1]), flush=True)
            if not last and case.student == "convnet3-w32" and case.protocol.name == "rded":
                last = compiled(case, options.repeats)
                print(last, flush=True)
    finally:
        torch.set_num_threads(threads)
    print()
    head = ["recipe", "student", "batch", "precision", "raycond steps/s", "plain steps/s (workers)", "ratio"]
    print_table([*head, "raycond views alone", "plain views alone"], rows)
    print(last)


if __name__ == "__main__":
    main()
