"""The stage that trains a run's own autoencoder, once, and finds it again by digest."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from raycond.core import files, records
from raycond.core.errors import UserError
from raycond.data.class_arrays import npy
from raycond.data.images import Decoding
from raycond.data.sources import Source
from raycond.models.codecs.autoencoder import RECIPE, AutoencoderTraining, finished, save_autoencoder
from raycond.models.codecs.options import AutoencoderConfig
from raycond.models.codecs.recommended import announcement, seconds_of_training, useful_threads
from raycond.pipelines.layout import Layout
from raycond.pipelines.stages.class_images import ClassImages
from raycond.runtime.job import TrainingJob
from raycond.runtime.local_runner import LocalRunner
from raycond.runtime.resources import Resources
from raycond.runtime.runner import Runner

CHECKPOINT_EVERY = 100  # steps
DECODE_THREADS = 4


@dataclass(frozen=True)
class AutoencoderJob(TrainingJob):
    """The training of an autoencoder on images that were decoded before."""

    folder: str
    config: AutoencoderConfig
    images: str
    """Address of the images, .npy of (N, C, H, W) uint8."""

    seed: int
    threads: int
    checkpoint_every: int = CHECKPOINT_EVERY

    @property
    def total(self) -> int:
        return self.config.steps

    def open(self, device: str | torch.device, rank: int, world: int) -> AutoencoderTraining:
        images = _load(self.images)
        return AutoencoderTraining(self.config, images, seed=self.seed, device=device, rank=rank, world=world)


def trained_codec(
    settings: AutoencoderConfig,
    source: Source,
    decoding: Decoding,
    *,
    classes: Sequence[str],
    layout: Layout,
    seed: int,
    resources: Resources,
    get_runner: Callable[[], Runner],
) -> str:
    """`kl:FOLDER` of the autoencoder that these settings and images give, trained if it is not there.

    classes: the fingerprint of each class. A training that was stopped goes on from its last checkpoint. Raises
    UserError if not one image can be read.
    """
    expected = records.fingerprint(
        stage="autoencoder",
        recipe=RECIPE,
        settings=settings.__dict__,
        classes=list(classes),
        seed=seed,
        **{name: value for name, value in decoding.identity.items() if name != "channels"},
    )
    folder = layout.codec(expected)
    facts = records.find(folder, expected)
    if facts is None or not records.all_whole(folder, facts["files"]):
        place = layout.codec_training(expected)
        uri = _images(source, decoding, settings.images, files.join(place, "images"), expected)
        images = _load(uri)
        job = AutoencoderJob(place, settings, uri, seed, useful_threads(settings, decoding.size))
        _train(job, images, decoding.size, resources, get_runner())
        save_autoencoder(finished(job.state(), settings, images, device="cpu"), folder)
        listed = {entry.name: records.measured(entry.uri) for entry in files.listdir(folder)}
        records.finish(folder, expected, None, images=len(images), files=listed)
    return f"kl:{folder}"


def _train(job: AutoencoderJob, images: torch.Tensor, size: int, resources: Resources, runner: Runner) -> None:
    """On a GPU of the cluster where there is one; on CPUs in this process, which is there already."""
    device = runner.device(resources)
    if device == "cpu":
        seconds = seconds_of_training(job.config, images, device=device, threads=job.threads)
        print(announcement(job.config, size, seconds), file=sys.stderr)
        runner = LocalRunner()
        resources = Resources()
    runner.train(job, resources, stage="codec")


def _images(source: Source, decoding: Decoding, most: int, place: str, expected: str) -> str:
    """The address of up to `most` good images, the same number from every class, decoded unless that is done."""
    uri = f"{place}.npy"
    if records.find(uri, expected) is None:
        share = max(1, most // len(source.classes))
        decoded: list[np.ndarray] = []
        for label, class_id in enumerate(source.classes.ids):
            threads = min(DECODE_THREADS, os.cpu_count() or 1) + 1
            decoded += ClassImages(source.refs(label)[:share], class_id, decoding, threads, prefetch=256)
        if not decoded:
            raise UserError(f"{source.uri}: not one image can be read, so no autoencoder can be trained")
        stacked = np.ascontiguousarray(np.stack(decoded).transpose(0, 3, 1, 2))
        records.finish(uri, expected, npy(stacked), images=len(decoded))
    return uri


def _load(uri: str) -> torch.Tensor:
    return torch.from_numpy(np.load(io.BytesIO(files.read_bytes(uri)), allow_pickle=False))


def codec_label(asked: str, spec: str) -> str:
    """What the manifest calls the codec, without the paths of one machine. asked: what --codec says."""
    if asked == "train":
        return "train"
    kind, _, where = spec.partition(":")
    local = where and files.is_local(where) and files.exists(where)
    return f"{kind}:{os.path.basename(where.rstrip('/'))}" if local else spec
