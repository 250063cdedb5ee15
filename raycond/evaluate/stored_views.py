"""Store a labeler's answers for the views of a training set, and train on them later without the labeler."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from raycond.core.errors import UserError
from raycond.core.progress import Progress
from raycond.data.classes import Classes
from raycond.data.labelled import LabelledImages
from raycond.evaluate.losses import Targets
from raycond.evaluate.numbered_views import SeededViews, Views, image_ids, settings
from raycond.evaluate.protocol import EvaluationProtocol
from raycond.evaluate.views import prepared
from raycond.labels.stored.labels import Encoding, StoredLabels, write_labels
from raycond.training.augment import drawn

if TYPE_CHECKING:
    from raycond.labels.registry import Labeler

LABEL_BATCH = 256


def store_labels(
    folder: str,
    train: LabelledImages,
    *,
    labeler: Labeler,
    protocol: EvaluationProtocol,
    classes: Classes,
    device: str | torch.device,
    views: int | None = None,
    seed: int = 0,
    encoding: Encoding | None = None,
    stage: str = "",
) -> dict[str, Any]:
    """The labels of `views` seeded views of each image of `train`, as `labeler` (online) gives them, into `folder`.

    views: as many as the protocol has epochs for this set (default), so that no student sees one twice; with fewer
    they come again, which is pruning as in LPLD (NeurIPS 2024). seed: of the views; it has nothing to do with the seeds
    of students. stage: the name under which progress is shown; "" for none. Returns the content of labels.json.
    Interrupted, it goes on where it was. Raises UserError for a labeler without soft labels of views, and for a
    protocol whose views cannot be numbered.
    """
    if labeler.mode != "online" or labeler.logits is None:
        raise UserError(
            f"labeler {labeler.name}: labels of views come from one that labels views, such as teacher:NAME"
        )
    train, logits = prepared(train, protocol), labeler.logits
    ids = image_ids(train.images)
    seen = SeededViews(train.images.to(device), ids, protocol, seed)

    views = passes(protocol, len(train)) if views is None else views

    @torch.no_grad()
    def label(number: int) -> Tensor:
        parts = seen.by_id.split(LABEL_BATCH)
        answers = [logits(seen(rows, torch.full_like(rows, number)).images).float() for rows in parts]
        progress.step(number + 1 - progress.done)  # views that were stored before are not asked for
        return torch.cat(answers)

    with Progress(stage, views, "views", quiet=not stage) as progress:
        return write_labels(
            folder,
            ids.sort().values,
            classes,
            views=views,
            label=label,
            encoding=encoding,
            about={
                "labeler": {"name": labeler.name, "digest": labeler.digest},
                "seed": seed,
                "views": settings(protocol),
                **drawn(protocol.scale, protocol.jitter),
                "shape": list(train.images.shape[1:]),
            },
        )


def passes(protocol: EvaluationProtocol, count: int) -> int:
    """How often a training under `protocol` sees each of `count` images, at most."""
    return protocol.epochs or math.ceil(protocol.total_steps(count) * min(protocol.batch, count) / count)


class StoredViews:
    """Batches of a training whose labels are stored: image rows in, views and targets out.

    images (N, c, h, w) uint8, labels and weights (N,), all on one device. The k-th time that an image comes, it comes
    as its view k modulo the number of views stored. Raises UserError where labels and training do not belong together.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        weights: Tensor,
        classes: int,
        protocol: EvaluationProtocol,
        stored: StoredLabels,
    ) -> None:
        ids = image_ids(images)
        stored = stored.of(ids)
        _require_fit(protocol, classes, stored)
        self.rows = stored.rows(ids).to(images.device)
        if protocol.mix != "none" and not torch.equal(ids.sort().values, stored.ids):
            raise UserError(
                f"{stored.folder}: its views are mixed ({protocol.mix}) from {len(stored.ids)} images, and the "
                f"training set has {len(ids)}: store labels for this set, or with --set mix=none"
            )
        self.labels, self.weights, self.classes = labels, weights, classes
        self.protocol, self.stored, self.count, self.drawn = protocol, stored, len(images), 0
        self.views = SeededViews(images, ids, protocol, int(stored.about["seed"]))

    def batch(self, index: Tensor) -> tuple[Tensor, Targets]:
        """Views in [0, 1] of the images `index`, the next of a stream in which every image comes once per pass."""
        # which pass each place of the stream is in is known here, without asking the device
        place = torch.arange(self.drawn, self.drawn + len(index))
        self.drawn += len(index)
        views, lengths = torch.unique_consecutive(place // self.count % self.stored.views, return_counts=True)
        numbers = views.repeat_interleave(lengths).to(index.device, non_blocking=True)
        seen = self.views(index, numbers)
        parts = zip(views.tolist(), self.rows[index].split(lengths.tolist()), strict=True)
        soft = torch.cat([self.stored.logits(view, rows) for view, rows in parts])
        return seen.images, self._targets(index, seen, soft)

    def _targets(self, index: Tensor, views: Views, soft: Tensor) -> Targets:
        labels, weights, lam = self.labels[index], self.weights[index], views.lam
        if views.second is not None:
            # the second image need not be in the batch: its share of the hard label and the weight is put in here
            one_hot = F.one_hot(torch.stack([labels, self.labels[views.second]]), self.classes).float()
            labels = lam[:, None] * one_hot[0] + (1 - lam)[:, None] * one_hot[1]
            if self.protocol.mix_weights == "mix":
                weights = lam * weights + (1 - lam) * self.weights[views.second]
        return Targets(labels, weights, soft, soft_of_mixed_view=True)


def _require_fit(protocol: EvaluationProtocol, classes: int, stored: StoredLabels) -> None:
    if classes != stored.classes:
        raise UserError(
            f"{stored.folder}: stored labels are of {stored.classes} classes, and these students learn {classes}"
        )
    if protocol.loss == "mse+ce" and stored.encoding.top_k and stored.encoding.rest == "zero":
        raise UserError(
            f"{stored.folder}: only the top {stored.encoding.top_k} logits are stored, and the others have probability "
            f"0, of which loss {protocol.loss} has no logit: store them with rest=minimum, or use loss=kl"
        )
    stored_settings = stored.about.get("views", {})
    for name, value in settings(protocol).items():
        if (before := stored_settings.get(name)) != value:
            raise UserError(
                f"{stored.folder}: its labels are of views with {name}={before}, and protocol {protocol.name} "
                f"has {name}={value}: use --set {name}={before}, or store labels for this protocol"
            )
    expected = drawn(protocol.scale, protocol.jitter).get("drawn", 1)
    if (before := stored.about.get("drawn", 1)) != expected:
        raise UserError(
            f"{stored.folder}: its labels are of views that another version of raycond drew (way {before} of drawing "
            f"crops and color jitter; this version has way {expected}): store labels again"
        )
