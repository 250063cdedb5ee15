"""Stored soft labels on the device: those that the CPU stores, read back, and a training on them."""

from __future__ import annotations

import torch

from benchmarks.gpu.context import Context, differing, full_float32, largest_difference
from benchmarks.gpu.part import Part
from benchmarks.gpu.photos import pictures
from raycond.data.classes import Classes
from raycond.data.labelled import LabelledImages
from raycond.evaluate.protocol import EvaluationProtocol, preset
from raycond.evaluate.stored_views import store_labels
from raycond.evaluate.train import trained
from raycond.labels.registry import Labeler
from raycond.labels.stored.labels import StoredLabels
from raycond.models import students

COUNT = 10  # classes
CLASSES = Classes.of([f"class {k}" for k in range(COUNT)])
# of logits of order 1, which are stored as float16: its rounding, once the views are equal but for rounding
LIMIT = 5e-3
STUDENT = "convnet3-w32"


def run(context: Context) -> None:
    size, per_class, steps = (16, 2, 2) if context.tiny else (64, 20, 20)
    labels = torch.arange(COUNT).repeat_interleave(per_class)
    train = LabelledImages(pictures(len(labels), size), labels, COUNT)
    protocol = preset("rded").override(batch=20, steps=steps, checks=1, max_size=None, view_size=None)
    devices = {"cpu": torch.device("cpu"), "device": context.device}
    stored = {name: _stored(context, name, train, protocol, device) for name, device in devices.items()}
    rows = torch.arange(len(labels))
    error = max(
        largest_difference(stored["device"].logits(view, rows.to(context.device)), stored["cpu"].logits(view, rows))
        for view in range(stored["cpu"].views)
    )
    context.check("stored labels, against the CPU", error, LIMIT, "largest difference of a logit")
    labeler = Labeler("online", "stored", "", stored["device"])
    first, second = (
        trained(train, student=STUDENT, protocol=protocol, seed=0, device=context.device, labeler=labeler)[0]
        for _ in range(2)
    )
    wrong = sum(differing(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    context.check("training on stored labels, twice", wrong, 0, "weights that differ")


def _stored(
    context: Context, name: str, train: LabelledImages, protocol: EvaluationProtocol, device: torch.device
) -> StoredLabels:
    """The labels of a network with random weights, stored from the given device."""
    torch.manual_seed(0)
    net = students.build(STUDENT, classes=COUNT, size=train.images.shape[-1], channels=3).eval().to(device)
    folder = str(context.scratch / f"labels-{name}")
    with full_float32():
        store_labels(
            folder,
            train,
            labeler=Labeler("online", "random network", "", net),
            protocol=protocol,
            classes=CLASSES,
            device=device,
            views=3,
        )
    return StoredLabels(folder, CLASSES)


PART = Part("stored soft labels", seconds=10, least=4, run=run)
