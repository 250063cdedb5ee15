"""The condensed set of a run: 8-bit images for people, float images and learned labels for students."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from torch import Tensor

from raycond import __version__
from raycond.core import files
from raycond.data.encoded import encode_image
from raycond.data.quarantine import BadRecord
from raycond.data.rows import RowSource
from raycond.methods.kernels.targets import class_counts
from raycond.pipelines.kernel.config import KernelConfig
from raycond.pipelines.kernel.supports import Support
from raycond.pipelines.kernel.training_images import Pool, image_ids, in_unit
from raycond.pipelines.stages.condensed import public_uri, write_set
from raycond.sets.tensors import IMAGES, LEARNED, LEARNED_KIND
from raycond.sets.writer import ClassPart, SetWriter

IMAGE_FORMAT = "png"
METHODS = {"kip": "KIP", "ls": "LS"}  # as manifests name them
# what the set depends on, beside what its images were computed from; the rest must not change its bytes
IDENTITY = (
    *("size", "channels", "resize", "method", "kernel", "activation", "head", "w_std", "b_std", "ipc", "targets"),
    *("reg", "raise_reg", "dtype", "preprocess", "zca_reg", "layer_norm", "limit", "classes", "seed"),
    *("image_column", "label_column", "max_pixels"),
)
OF_KIP = (
    *("steps", "lr", "batch", "learn_labels"),
    *("augment_share", "augment_rotate", "augment_shift", "augment_flip", "augment_channel"),
)
SINCE = ("val_share", "max_value")  # told where they are given


def write_kernel_set(
    config: KernelConfig,
    source: RowSource,
    pool: Pool,
    supports: Sequence[Support],
    *,
    bad: Sequence[BadRecord],
    folder: str,
    record: str,
) -> tuple[dict[str, Any], bool]:
    """The manifest, and whether the set was written now. bad: images that were left out. record: of the set."""
    ids = image_ids(source, bad)
    counts = class_counts(pool.split.labels, pool.classes).tolist()
    by_ipc = {support.ipc: support for support in supports}
    learned = has_learned_labels(config)

    @cache
    def read(ipc: int) -> tuple[dict[str, Tensor], list[bytes]]:
        images, labels = by_ipc[ipc].snapshots[-1].read()
        tensors = {IMAGES: images, **({LEARNED: labels.float()} if learned else {})}
        return tensors, shown(config, pool, by_ipc[ipc])

    def load(ipc: int, label: int) -> ClassPart:
        tensors, images = read(ipc)
        rows = slice(label * ipc, (label + 1) * ipc)
        first = tuple(ids[row] for row in by_ipc[ipc].rows[rows].tolist())
        parts = {name: tensor[rows] for name, tensor in tensors.items()}
        return ClassPart(label, images[rows], None, first, parts, counts[label])

    writer = SetWriter(folder, source.classes, config.ipc, "uniform", IMAGE_FORMAT, load, in_unit(pool.preprocessing))
    about = _about(config, pool, len(bad))
    parts = [[support.ipc, support.digest] for support in sorted(supports, key=lambda one: one.ipc)]
    return write_set(writer, about, record=record, parts=parts)


def has_learned_labels(config: KernelConfig) -> bool:
    return config.method == "ls" or config.learn_labels


def shown(config: KernelConfig, pool: Pool, support: Support) -> list[bytes]:
    """The images of a support for people: as they were read where they did not change, else un-whitened, rounded, and
    cut off at black and white."""
    if config.method == "ls":
        return encoded(pool.split.images[support.rows])
    images, _ = support.snapshots[-1].read()
    return encoded(pool.preprocessing.invert(images).round().clamp(0, 255).byte())


def encoded(images: Tensor) -> list[bytes]:
    """Pixels (n, C, H, W) uint8 as files."""
    arrays = np.ascontiguousarray(images.permute(0, 2, 3, 1).numpy())
    return [encode_image(image, IMAGE_FORMAT) for image in arrays]


def _about(config: KernelConfig, pool: Pool, bad: int) -> dict[str, Any]:
    """What the manifest says of where the set comes from."""
    plain = config.to_dict()
    names = [*IDENTITY, *(OF_KIP if config.method == "kip" else ())]
    return {
        "name": config.name,
        "method": METHODS[config.method],
        "generator": config.network.name,
        "labels": LEARNED_KIND if has_learned_labels(config) else "hard",
        "size": config.size,
        "channels": config.channels,
        "codec": {"name": "none", "sha256": "none", "channels": config.channels},
        "seed": config.seed,
        "config": {k: plain[k] for k in names} | {k: plain[k] for k in SINCE if plain[k] is not None},
        "source": {"uri": public_uri(config.data), "sha256": files.digest(pool.digest), "quarantined": bad},
        "raycond": __version__,
    }
