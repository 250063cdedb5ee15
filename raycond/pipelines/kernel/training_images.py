"""The training images of a run as kernels see them: how pixels are preprocessed, and which images are targets."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from raycond.core import records
from raycond.core.tensors import read_safetensors
from raycond.data.labelled import LabelledImages
from raycond.data.quarantine import BadRecord
from raycond.data.rows import RowSource
from raycond.methods.kernels.targets import Augmentation, Targets, balanced_rows, class_counts
from raycond.methods.kernels.whitening import Preprocessing, fit_preprocessing
from raycond.pipelines.kernel.config import KernelConfig
from raycond.pipelines.prepare import decoding


@dataclass(frozen=True)
class Pool:
    """A decoded training split, and which of its images a run uses."""

    split: LabelledImages
    """Mapped from a file."""

    rows: Tensor
    """(n,) int64: the targets, from which supports are drawn too."""

    preprocessing: Preprocessing
    """Of pixels in 0 … 255, fitted on the whole split."""

    digest: str
    """Of the decoded images and of the preprocessing."""

    @property
    def labels(self) -> Tensor:
        """(n,) int64, of the targets."""
        return self.split.labels[self.rows]

    @property
    def classes(self) -> int:
        return self.split.classes

    def preprocessed(self, targets: Tensor | slice, dtype: torch.dtype) -> Tensor:
        """Some of the targets, by their place among them, as kernels see them: (k, C, H, W)."""
        return self.preprocessing.apply(self.split.images[self.rows[targets]], dtype)

    def in_memory(self, dtype: torch.dtype, augmentation: Augmentation) -> Targets:
        """All targets, and their pixels too where these are to be augmented."""
        images = self.preprocessed(slice(None), dtype)
        raw = self.split.images[self.rows] if augmentation.active else images[:0]
        return Targets(raw, images, self.labels, self.classes, self.preprocessing, augmentation)


def open_pool(config: KernelConfig, split: LabelledImages, listing: str, output: str) -> tuple[Pool, bool]:
    """The pool, and whether its preprocessing was fitted now, into the file `output`.

    listing: digest of what the source lists.

    Raises UserError for images that do not vary, and for a class without images that can be read.
    """
    rows = _target_rows(config, split.labels, split.classes)
    settings: dict[str, Any] = {"kind": config.preprocess, "layer_norm": config.layer_norm}
    if config.preprocess == "zca":
        settings["zca_reg"] = config.zca_reg
    decoded = decoding(config, config.channels).identity
    expected = records.fingerprint(stage="preprocessing", images=listing, decoding=decoded, **settings)
    facts = records.find(output, expected)
    computed = facts is None
    if facts is None:
        fitted = fit_preprocessing(
            split.images, config.preprocess, zca_reg=config.zca_reg, layer_norm=config.layer_norm
        )
        facts = records.finish(output, expected, save({k: v.contiguous() for k, v in fitted.tensors().items()}))
    preprocessing = Preprocessing.load(read_safetensors(output)[0])
    return Pool(split, rows, preprocessing, expected), computed


def _target_rows(config: KernelConfig, labels: Tensor, classes: int) -> Tensor:
    class_counts(labels, classes)
    if config.targets is None or config.targets >= len(labels):
        return torch.arange(len(labels))
    return balanced_rows(labels, classes, config.targets // classes, config.seed, "subset")


def augmentation_of(config: KernelConfig) -> Augmentation:
    return Augmentation(
        config.augment_share, config.augment_rotate, config.augment_shift, config.augment_flip, config.augment_channel
    )


def image_ids(source: RowSource, bad: Sequence[BadRecord]) -> list[str]:
    """The id of each image of a decoded split, in its order, which leaves bad images out."""
    left_out = {record.id for record in bad}
    refs = (ref for label in range(len(source.classes)) for ref in source.refs(label))
    return [ref.id for ref in refs if ref.id not in left_out]


def in_unit(preprocessing: Preprocessing) -> Preprocessing:
    """The same of pixels in [0, 1], as sets keep it."""
    return dataclasses.replace(preprocessing, mean=preprocessing.mean / 255, std=preprocessing.std / 255)
