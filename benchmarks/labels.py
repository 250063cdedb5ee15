"""What labels cost a student's step, and a projector's fit against a bare loop: python -m benchmarks.labels [--rn50]

Labels: a student is trained with hard labels, with a teacher online and with a projector online, in turns; what a step
takes longer is the labels' share of it. Fit: raycond's job (draws that can be resumed, parts, checks, loss curve,
states on disk) against the loop that a script would have, with the same CLIP, delta, teacher, views and optimiser, in
turns. Scaling: the fit by one and by two processes of one thread each, DDP over gloo, the same batch in all.

By default a CLIP and a student so small that a minute or two are enough; --rn50 takes CLIP's RN50 at 224 px with random
weights, a ResNet-18 as teacher and as student. All images and weights are random: times do not depend on them.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.common import machine, print_table
from benchmarks.training import in_turns, wait
from raycond.data.class_arrays import Pixels
from raycond.data.classes import Classes
from raycond.data.holdout import split
from raycond.data.labelled import LabelledImages
from raycond.evaluate.protocol import recipe
from raycond.evaluate.train import _reproducible, _Training
from raycond.labels.projector.clip_training import model_config
from raycond.labels.projector.fitting import ProjectorFit
from raycond.labels.projector.labeler import Logits
from raycond.labels.projector.network import Projector
from raycond.labels.projector.options import ClipTrainingConfig, FitConfig
from raycond.labels.projector.weak_teachers import Teachers, centred, spec_of
from raycond.labels.registry import Labeler
from raycond.labels.teacher import open_teacher
from raycond.models import students
from raycond.models.clip import Clip, build
from raycond.runtime.job import TrainingJob
from raycond.training.augment.augmentation import Augmentation

COUNT = 10  # classes
NAMES = Classes.of([f"class {k}" for k in range(COUNT)])


@dataclass(frozen=True)
class Sizes:
    """What is measured. clip: open_clip's model configuration. size: of the images, also of the student's."""

    name: str
    clip: dict[str, Any]
    size: int
    channels: int
    teacher: str
    student: str
    batch: int
    images: int  # a class


def tiny() -> Sizes:
    """The CLIP, the teacher and the images of the preset fashion-mnist."""
    config = ClipTrainingConfig(tower="resnet", image_size=32, width=16, layers=1, embed=128)
    return Sizes("tiny CLIP (32 px)", model_config(config), 28, 1, "convnet3-w32", "convnet3-w32", 128, 60)


def rn50() -> Sizes:
    import open_clip

    config: Any = open_clip.get_model_config("RN50")
    return Sizes("CLIP RN50 (224 px)", config, 224, 3, "resnet18", "resnet18", 32, 20)


def random_clip(config: dict[str, Any], device: torch.device) -> Clip:
    torch.manual_seed(0)
    tower, width = build(config).visual.eval().requires_grad_(False), int(config["embed_dim"])
    side = int(config["vision_cfg"]["image_size"])
    return Clip(
        *("random", "", "random", tower.to(device), width, 100.0, side, (0.5,) * 3, (0.25,) * 3, "bicubic", None),
        texts=lambda texts: F.normalize(torch.randn(len(texts), width), dim=-1),
    )


def teacher_spec(sizes: Sizes, folder: str) -> str:
    torch.manual_seed(1)
    net = students.build(sizes.teacher, classes=COUNT, size=sizes.size, channels=sizes.channels)
    place = os.path.join(folder, "teacher.safetensors")
    save_file({name: tensor.contiguous() for name, tensor in net.state_dict().items()}, place)
    return spec_of(sizes.teacher, place, sizes.size, (0.5,) * sizes.channels, (0.25,) * sizes.channels)


def pictures(sizes: Sizes) -> list[np.ndarray]:
    draw = np.random.default_rng(0)
    shape = (sizes.images, sizes.channels, sizes.size, sizes.size)
    return [draw.integers(0, 256, shape, dtype=np.uint8) for _ in range(COUNT)]


def rate(steps: Iterator[object], warm: int, count: int, device: torch.device, every: int = 1) -> float:
    """Steps per second of the `count` after the first `warm` ones, of a loop that is seen after `every` steps."""
    for _ in islice(steps, warm // every):
        pass
    wait(device)
    started = time.perf_counter()
    for _ in islice(steps, count // every):
        pass
    wait(device)
    return count / (time.perf_counter() - started)


# ---- labels


def student_rate(sizes: Sizes, labeler: Labeler | None, warm: int, count: int, device: torch.device) -> float:
    """Steps per second of a student with these labels."""
    total = warm + count
    changes: dict[str, Any] = {"batch": sizes.batch, "steps": total, "checks": total // warm, "checks_from": 0.0}
    changes |= {"max_size": None, "loss": "cross-entropy" if labeler is None else "mse+ce"}
    protocol = recipe("quick").override(**changes).resolve(ipc=sizes.images, classes=COUNT, student=sizes.student)
    images = torch.from_numpy(np.concatenate(pictures(sizes)))
    labels = torch.arange(COUNT).repeat_interleave(sizes.images)
    with _reproducible(0, device, None):
        training = _Training(LabelledImages(images, labels, COUNT), sizes.student, protocol, 0, device, labeler)
        return rate(training.run(), warm, count, device, every=warm)


def label_rows(
    sizes: Sizes, folder: str, options: argparse.Namespace, warm: int, device: torch.device
) -> list[list[str]]:
    teacher = open_teacher(teacher_spec(sizes, folder), classes=NAMES, device=device)
    projector = Logits(Projector(random_clip(sizes.clip, device), NAMES, device=device))
    kinds: dict[str, Callable[[Tensor], Tensor]] = {"teacher": teacher, "projector": projector}
    views = torch.rand(sizes.batch, sizes.channels, sizes.size, sizes.size, device=device)
    count = options.steps
    runs: dict[str, Callable[[], float]] = {"hard": partial(student_rate, sizes, None, warm, count, device)}
    for name, logits in kinds.items():
        labeler = Labeler("online", name, name, logits)
        runs[name] = partial(student_rate, sizes, labeler, warm, count, device)
        runs[f"{name} alone"] = lambda call=logits: rate((call(views) for _ in iter(int, 1)), warm, count, device)
    found = in_turns(runs, options.repeats)
    rows = [[sizes.name, sizes.student, "hard", "", f"{found['hard']:.2f}", ""]]
    for name in kinds:
        share = 1 - found[name] / found["hard"]
        alone = f"{sizes.batch * found[f'{name} alone']:.0f}"
        rows.append([sizes.name, sizes.student, name, alone, f"{found[name]:.2f}", f"{100 * share:.0f} %"])
    return rows


# ---- fit


@dataclass(frozen=True)
class Fit(TrainingJob):
    """A projector's fit with random weights, as the pipeline's job runs it: its state is kept now and then."""

    folder: str
    sizes: Sizes
    config: FitConfig
    total_steps: int
    threads: int = 1
    checkpoint_every: int = 20

    @property
    def total(self) -> int:
        return self.total_steps

    def open(self, device: str | torch.device, rank: int, world: int) -> ProjectorFit:
        where = torch.device(device)
        pixels = Pixels(pictures(self.sizes), where)
        learn, held = split([self.sizes.images] * COUNT, 2, 0)
        projector = Projector(random_clip(self.sizes.clip, where), NAMES, device=where)
        teachers = Teachers([teacher_spec(self.sizes, self.folder)], classes=NAMES, device=where)
        options: dict[str, Any] = {"seed": 0, "device": where, "rank": rank, "world": world}
        return ProjectorFit(self.config, projector, pixels, learn, held, teachers, **options)


def fit_job(sizes: Sizes, folder: str, warm: int, count: int) -> Fit:
    images, total = COUNT * (sizes.images - 2), 2 * warm + count  # the last step, which is checked, is not timed
    epochs = total * sizes.batch / images
    # an entry of the curve where the clock is read
    return Fit(folder, sizes, FitConfig(batch=sizes.batch, epochs=epochs, log_every=warm, checks=1, patience=0), total)


def our_fit(sizes: Sizes, folder: str, warm: int, count: int, device: torch.device) -> float:
    job = fit_job(sizes, tempfile.mkdtemp(dir=folder), warm, count)
    return rate(job.steps(job.open(device, 0, 1)), warm, count, device, every=warm)


def bare_fit(sizes: Sizes, folder: str, warm: int, count: int, device: torch.device) -> float:
    return rate(bare_steps(sizes, folder, device), warm, count, device)


def bare_steps(sizes: Sizes, folder: str, device: torch.device) -> Iterator[Tensor]:
    """What a script does: shuffle, take a batch, make views, ask the teacher, step."""
    config = FitConfig()
    projector = Projector(random_clip(sizes.clip, device), NAMES, device=device).to(memory_format=torch.channels_last)
    teacher = open_teacher(teacher_spec(sizes, folder), classes=NAMES, device=device)
    learnt = list(projector.delta().values())
    optimizer = torch.optim.AdamW(learnt, lr=config.lr, weight_decay=config.weight_decay, fused=True)
    images = torch.from_numpy(np.concatenate(pictures(sizes))).to(device)
    labels = torch.arange(COUNT, device=device).repeat_interleave(sizes.images)
    draw = torch.Generator(device).manual_seed(0)
    views = Augmentation(config.scale, config.shift, config.flip)
    while True:
        for rows in torch.randperm(len(images), device=device).split(sizes.batch):
            if len(rows) < sizes.batch:
                continue
            x = views(images[rows].float() / 255, draw)
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                logits = projector(x)
            logits = logits.float()
            loss = F.mse_loss(centred(logits), centred(teacher(x))) + config.ce * F.cross_entropy(logits, labels[rows])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(learnt, config.clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            yield loss.detach()


# ---- several workers


def _worker(rank: int, world: int, sizes: Sizes, folder: str, warm: int, count: int) -> None:
    torch.set_num_threads(1)
    meet = f"file://{folder}/meet-{world}"
    torch.distributed.init_process_group("gloo", init_method=meet, rank=rank, world_size=world)
    own = tempfile.mkdtemp(dir=folder)
    training = fit_job(sizes, own, warm, count).open("cpu", rank, world)
    found = rate(training.run(), warm, count, torch.device("cpu"), every=warm)
    if not rank:
        Path(folder, "rate").write_text(str(found))
    torch.distributed.destroy_process_group()


def scaling(sizes: Sizes, worlds: list[int], warm: int, count: int) -> list[list[str]]:
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    rows: list[list[str]] = []
    first = 0.0
    for world in worlds:
        with tempfile.TemporaryDirectory() as folder:
            torch.multiprocessing.spawn(_worker, (world, sizes, folder, warm, count), nprocs=world)
            found = float(Path(folder, "rate").read_text())
        first = first or found
        share = found / first * worlds[0] / world
        rows.append([sizes.name, str(world), f"{found:.2f}", f"{found / first:.2f}", f"{100 * share:.0f} %"])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rn50", action="store_true", help="CLIP's RN50 at 224 px with random weights")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--steps", type=int, default=0, help="timed; by default 20, or 4 of RN50 on a CPU")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch", type=int, default=0, help="by default 128, or 32 of RN50")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of torch")
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2], help="of the scaling; none leaves it out")
    options = parser.parse_args()
    wanted = options.steps or (4 if options.rn50 and options.device == "cpu" else 20)
    warm = max(1, wanted // 4)
    options.steps = -(-wanted // warm) * warm
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    sizes = rn50() if options.rn50 else tiny()
    sizes = replace(sizes, batch=options.batch or sizes.batch)
    print(machine())
    print(f"{device.type}, {options.threads} torch threads, batches of {sizes.batch}, {options.steps} steps, "
          f"median of {options.repeats} in turns\n")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        rows = label_rows(sizes, folder, options, warm, device)
        print_table(["CLIP", "student", "labels", "labels/s alone", "student's steps/s", "share of the step"], rows)
        runs = {
            "raycond": partial(our_fit, sizes, folder, warm, options.steps, device),
            "bare": partial(bare_fit, sizes, folder, warm, options.steps, device),
        }
        found = in_turns(runs, options.repeats)
    own, other = found["raycond"], found["bare"]
    print_table(["CLIP", "fit, steps/s", "bare loop, steps/s", "ratio"],
                [[sizes.name, f"{own:.2f}", f"{other:.2f}", f"{own / other:.2f}"]])  # fmt: skip
    if options.workers and device.type == "cpu":
        head = ["CLIP", "workers of one thread", "steps/s", "times one", "of what they could"]
        print_table(head, scaling(sizes, options.workers, warm, options.steps))


if __name__ == "__main__":
    main()
