"""The pipeline itself (`--runner local`) on JPEG files, against bare loops of read, decode and encode."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.gpu.context import Context
from benchmarks.gpu.models import autoencoder_kl
from benchmarks.gpu.part import Part
from benchmarks.gpu.photos import photo_sets
from benchmarks.gpu.record import Setting
from benchmarks.processor import cores
from raycond.core.errors import RaycondError
from raycond.data.images import load
from raycond.data.quarantine import Limit
from raycond.data.refs import ImageRef
from raycond.data.sources import Source, open_source
from raycond.models.codecs.registry import open_codec
from raycond.pipelines.layout import Layout
from raycond.pipelines.quantize.condense import condense_classes
from raycond.pipelines.quantize.config import QuantizeConfig, load_config
from raycond.pipelines.quantize.units import Result, WorkerSpec
from raycond.pipelines.stages.listing import class_fingerprints
from raycond.runtime.local_runner import LocalRunner
from raycond.runtime.resources import Resources


@dataclass(frozen=True)
class Sizes:
    """at_once: classes that are quantized together; the first group warms up and is not timed."""

    classes: int
    images: int
    pixels: int
    at_once: int
    ipcs: tuple[int, ...]
    repeats: int


FULL = Sizes(12, 200, 256, 4, (10, 50), 2)
TINY = Sizes(4, 6, 32, 2, (1, 2), 1)


def run(context: Context) -> None:
    sizes = TINY if context.tiny else FULL
    photos = photo_sets(context)[-1]
    folder = context.scratch / "photos"
    for label in range(sizes.classes):
        (folder / f"class{label:02d}").mkdir(parents=True)
    for k, file in enumerate(photos.some(sizes.classes * sizes.images)):
        (folder / f"class{k % sizes.classes:02d}" / f"{k:06d}.jpeg").write_bytes(file)
    source = open_source(str(folder), index_dir="")
    context.note(f"{sizes.classes} classes of {sizes.images} files, {photos.name}; encoded at {sizes.pixels} px")
    _loops(context, sizes, source)
    _pipelines(context, sizes, source)
    _ratio(context)


# ---- bare loops


def _loops(context: Context, sizes: Sizes, source: Source) -> None:
    """What a script does: read and decode a batch, by one thread or by a pool of them, and encode it."""
    codec = open_codec(f"kl:{autoencoder_kl(context)}", device=str(context.device))
    refs = [ref for label in range(sizes.classes) for ref in source.refs(label)]
    codec.encode(torch.zeros(32, 3, sizes.pixels, sizes.pixels, dtype=torch.uint8))

    def loop(refs: Sequence[ImageRef], batch: int, pool: Executor | None) -> None:
        read: Callable[[ImageRef], Any] = partial(load, size=sizes.pixels, resize="crop", channels=3)
        for start in range(0, len(refs), batch):
            decoded = (map if pool is None else pool.map)(read, refs[start : start + batch])
            images = np.stack([image for image, _ in decoded])
            codec.encode(torch.from_numpy(images).permute(0, 3, 1, 2))

    few = refs[: len(refs) // 6]  # one thread is slow
    seconds = context.seconds(lambda: loop(few, 32, None), repeats=sizes.repeats, warm=False, host=True)
    _report(context, len(few), seconds, 1, 32)
    with ThreadPoolExecutor(cores()) as pool:
        for batch in (32, 128):
            seconds = context.seconds(partial(loop, refs, batch, pool), repeats=sizes.repeats, warm=False, host=True)
            _report(context, len(refs), seconds, cores(), batch)


def _report(context: Context, images: int, seconds: Sequence[float], threads: int, batch: int) -> None:
    setting: Setting = {"what": "bare loop", "threads": threads, "batch": batch}
    context.figure("pipeline", "images/s", [images / one for one in seconds], setting)


# ---- the pipeline


def _pipelines(context: Context, sizes: Sizes, source: Source) -> None:
    """With the default options, and with those that fill this machine."""
    most: dict[str, Any] = {"cpus_per_actor": cores(), "decode_threads": cores(), "classes_at_once": sizes.at_once}
    cases: tuple[tuple[str, int, dict[str, Any]], ...] = (
        ("raycond, default options", 32, {}),
        ("raycond, all processors", 32, most),
        ("raycond, all processors", 128, most),
    )
    for number, (what, batch, options) in enumerate(cases):
        rates = [
            _rate(context, sizes, source, {**options, "batch": batch}, f"run-{number}-{repeat}")
            for repeat in range(sizes.repeats)
        ]
        threads = options.get("decode_threads", 2)  # by default one more than --cpus-per-actor, which is 1
        context.figure("pipeline", "images/s", rates, {"what": what, "threads": threads, "batch": batch})
    context.note("raycond also quantizes, writes codebooks and takes medoids; the loops read, decode and encode alone")


def _rate(context: Context, sizes: Sizes, source: Source, options: dict[str, Any], name: str) -> float:
    """Images per second from the end of the first group of classes to the end of the last."""
    config = _config(context, sizes, source, options, context.scratch / name)
    codec = open_codec(config.codec, dtype="float32")
    spec = WorkerSpec(config, source, config.codec, codec.digest, codec.channels, Layout(config.out))
    before = torch.get_num_threads()
    runner = _Watched(str(context.device))
    try:
        outcome = condense_classes(runner, spec, class_fingerprints(source), Limit())
    finally:
        torch.set_num_threads(before)
    if outcome.errors:
        raise RuntimeError("\n".join(outcome.errors.values()))
    group = config.classes_at_once
    (began, _), (ended, _) = runner.seen[group - 1], runner.seen[-1]
    return sum(images for _, images in runner.seen[group:]) / (ended - began)


def _config(context: Context, sizes: Sizes, source: Source, options: dict[str, Any], out: Path) -> QuantizeConfig:
    codec = f"kl:{autoencoder_kl(context)}"
    shared = {"data": source.uri, "out": str(out), "codec": codec, "size": sizes.pixels, "ipc": sizes.ipcs}
    fixed = {"runner": "local", "evaluate": False, "w2_classes": 0, "generator": "medoid"}
    return load_config({**shared, **fixed, **options})


class _Watched(LocalRunner):
    """The runner on a given device, which also keeps when each class came out, and how many images it had."""

    def __init__(self, device: str) -> None:
        self._device, self.seen = device, list[tuple[float, int]]()

    def device(self, resources: Resources) -> str:
        return self._device

    def pool(self, *arguments: Any, **options: Any) -> Iterator[tuple[int, str | RaycondError]]:
        for position, result in super().pool(*arguments, **options):
            if isinstance(result, str):
                self.seen.append((time.perf_counter(), Result.from_json(result).images))
            yield position, result


def _ratio(context: Context) -> None:
    rates: dict[str, float] = {}
    for figure in context.part.figures:
        what = str(figure.setting["what"])
        rates[what] = max(rates.get(what, 0.0), figure.value)
    bare, pipeline = rates["bare loop"], max(rate for what, rate in rates.items() if what != "bare loop")
    share = f"{100 * pipeline / bare:.0f} % of the images per second of the best bare loop"
    context.note(f"the pipeline at its best has {share}")


PART = Part("the pipeline against bare loops of read, decode and encode", seconds=60, least=25, run=run)
