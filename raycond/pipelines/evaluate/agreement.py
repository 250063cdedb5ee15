"""The labeler of a grid, measured on real validation images before the trainings that learn from it."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch

from raycond.core import records
from raycond.data.classes import Classes
from raycond.data.labelled import LabelledImages, pixels
from raycond.evaluate.cell import TESTED
from raycond.labels.agreement import Agreement, measure_agreement
from raycond.labels.registry import open_labeler
from raycond.labels.stored.labels import StoredLabels
from raycond.runtime.resources import Resources
from raycond.runtime.runner import Runner

MOST = 1024  # images that are labeled


@dataclass(frozen=True)
class AgreementTask:
    """All that measuring on any node needs; small and picklable."""

    labeler: str
    """What `open_labeler` takes."""

    classes: Classes
    test: str
    """A decoded split of real images."""

    size: int
    """Side of the students' views; the split's images are cropped to it."""

    device: str


def labeler_agreement(
    task: AgreementTask, runner: Runner, *, labels_digest: str, test_digest: str, record: str
) -> Agreement | None:
    """Measured once for the same labeler and images; None for stored labels, which know no other images.

    labels_digest, test_digest: of the labeler and of the images. record: where the completion record lies. Raises
    UserError for outputs that are NaN or infinite.
    """
    expected = records.fingerprint(
        stage="agreement", labeler=labels_digest, test=test_digest, size=task.size, tested=TESTED
    )
    facts = records.find(record, expected)
    if facts is None:
        resources = Resources(gpus=1.0 if task.device.startswith("cuda") else 0.0)
        ((_, result),) = runner.tasks(_measure, [task], resources)
        if isinstance(result, Exception):
            raise result
        facts = records.finish(record, expected, None, agreement=None if result is None else asdict(result))
    return None if facts["agreement"] is None else Agreement(**facts["agreement"])


def _measure(task: AgreementTask) -> Agreement | None:
    labeler = open_labeler(task.labeler, classes=task.classes, device=task.device)
    if labeler.logits is None or isinstance(labeler.logits, StoredLabels):
        return None
    split = pixels(task.test, len(task.classes))
    step = max(1, -(-len(split) // MOST))
    rows = torch.arange(0, len(split), step)
    few = LabelledImages(split.images[rows], split.labels[rows], len(task.classes)).centre(task.size)
    return measure_agreement(labeler, few.images.to(task.device), few.labels, len(task.classes))
