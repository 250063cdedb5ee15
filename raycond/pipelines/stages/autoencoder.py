"""The stage that trains a run's own autoencoder, once, and finds it again by digest."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch

from raycond.core import files, records
from raycond.core.errors import BadImage, UserError
from raycond.core.progress import Progress
from raycond.data.images import Channels, Resize, load_many
from raycond.data.sources import Source
from raycond.models.codecs.autoencoder import RECIPE, save_autoencoder, train_autoencoder
from raycond.models.codecs.options import AutoencoderConfig
from raycond.models.codecs.recommended import useful_threads
from raycond.pipelines.layout import Layout


class CodecConfig(Protocol):
    """The options that the training of a codec depends on."""

    @property
    def autoencoder(self) -> AutoencoderConfig | None: ...

    @property
    def seed(self) -> int: ...

    @property
    def size(self) -> int: ...

    @property
    def resize(self) -> Resize: ...

    @property
    def max_pixels(self) -> int: ...


def trained_codec(config: CodecConfig, source: Source, classes: Sequence[str], layout: Layout, device: str) -> str:
    """`kl:FOLDER` of the autoencoder that this configuration and these images give, trained if it is not there.

    classes: the fingerprint of each class. Raises UserError if not one image can be read.
    """
    settings = config.autoencoder
    assert settings is not None  # the configuration checks it
    expected = records.fingerprint(
        stage="autoencoder",
        recipe=RECIPE,
        settings=settings.__dict__,
        classes=list(classes),
        seed=config.seed,
        size=config.size,
        resize=config.resize,
        max_pixels=config.max_pixels,
    )
    folder = layout.codec(expected)
    found = records.find(folder, expected)
    if found is None or not records.all_whole(folder, found["files"]):
        images = _images(config, source, settings.channels, settings.images)
        with Progress("codec", settings.steps, "steps") as progress:

            def report(step: int, loss: float) -> None:
                progress.step(step - progress.done, f"loss {loss:.4f}")

            count = useful_threads(settings, config.size)
            model = train_autoencoder(images, settings, seed=config.seed, device=device, threads=count, progress=report)
        save_autoencoder(model, folder)
        listed = {entry.name: records.measured(entry.uri) for entry in files.listdir(folder)}
        records.finish(folder, expected, None, images=len(images), files=listed)
    return f"kl:{folder}"


def threads() -> int:
    """Images are decoded by the driver on at most four cores."""
    return min(4, os.cpu_count() or 1)


def _images(config: CodecConfig, source: Source, channels: Channels, most: int) -> torch.Tensor:
    """Up to `most` good images (N, C, H, W) uint8, the same number from every class."""
    share = max(1, most // len(source.classes))
    refs = [ref for label in range(len(source.classes)) for ref in source.refs(label)[:share]]
    found = [
        image
        for _, image, _ in load_many(
            refs,
            size=config.size,
            resize=config.resize,
            channels=channels,
            max_pixels=config.max_pixels,
            threads=threads() + 1,
            prefetch=256,
        )
        if not isinstance(image, BadImage)
    ]
    if not found:
        raise UserError(f"{source.uri}: not one image can be read, so no autoencoder can be trained")
    return torch.from_numpy(np.ascontiguousarray(np.stack(found).transpose(0, 3, 1, 2)))


def codec_label(asked: str, spec: str) -> str:
    """What the manifest calls the codec, without the paths of one machine. asked: what --codec says."""
    if asked == "train":
        return "train"
    kind, _, where = spec.partition(":")
    local = where and files.is_local(where) and files.exists(where)
    return f"{kind}:{os.path.basename(where.rstrip('/'))}" if local else spec
