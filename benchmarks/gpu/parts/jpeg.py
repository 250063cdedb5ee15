"""Decoding JPEG files: by threads of the processor as raycond does, and by the device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.gpu.context import Context
from benchmarks.gpu.part import Part
from benchmarks.gpu.photos import Photos, photo_sets
from benchmarks.gpu.record import Setting
from benchmarks.processor import cores
from raycond.data.images import decode

SIZE = 256  # that the decoded images are resized and cropped to
THREADS = (1, 2, 4, 8, 16, 32, 64)
BATCHES = (16, 64, 256)


def run(context: Context) -> None:
    size = 32 if context.tiny else SIZE
    for photos in photo_sets(context):
        context.sweep(
            f"{photos.kind}, threads",
            [count for count in THREADS if count <= cores()],
            partial(_by_threads, context, photos, size),
        )
        _on_device(context, photos, size)


def _by_threads(context: Context, photos: Photos, size: int, threads: int) -> None:
    """What the pipeline does to a file once it is in memory."""
    files = photos.some(4 if context.tiny else 32 * threads)
    with ThreadPoolExecutor(threads) as pool:
        seconds = context.seconds(lambda: list(pool.map(partial(decode, size=size), files)), host=True)
    rates = [len(files) / one for one in seconds]
    context.figure("decode JPEG", "files/s", rates, {"photos": photos.name, "threads": threads, "size": size})


def _on_device(context: Context, photos: Photos, size: int) -> None:
    """torchvision's decoder, and the same with a resize and crop like raycond's."""
    from torchvision.io import ImageReadMode, decode_jpeg

    def decoded(files: Sequence[Tensor]) -> list[Tensor]:
        images: Any = decode_jpeg(list(files), mode=ImageReadMode.RGB, device=context.device)
        return list(images)

    def resized(files: Sequence[Tensor]) -> Tensor:
        return torch.stack([_cropped(image, size) for image in decoded(files)])

    def measure(batch: int) -> None:
        data = [torch.from_numpy(np.frombuffer(file, np.uint8).copy()) for file in photos.some(batch)]
        calls: dict[str, Callable[[Sequence[Tensor]], Any]] = {"decoded": decoded, "decoded and resized": resized}
        for name, call in calls.items():
            rates = [batch / one for one in context.seconds(partial(call, data), host=True)]
            setting: Setting = {"photos": photos.name, "batch": batch, "what": name}
            context.figure("decode JPEG by torchvision on the device", "files/s", rates, setting)

    try:
        batches = BATCHES[: 1 if context.tiny else None]
        context.sweep(f"{photos.kind}, torchvision on the device, batch", batches, measure)
    except RuntimeError as error:  # of a torchvision that was built without nvJPEG
        context.note(f"torchvision.io.decode_jpeg on the device: {error}")


def _cropped(image: Tensor, size: int) -> Tensor:
    """(3, h, w) uint8 → (3, size, size) uint8: the shorter side becomes `size`, and the centre is kept."""
    height, width = image.shape[1:]
    scale = size / min(height, width)
    sides = (max(size, round(height * scale)), max(size, round(width * scale)))
    resized = F.interpolate(image[None].float(), sides, mode="bicubic", antialias=True)[0]
    top, left = (sides[0] - size) // 2, (sides[1] - size) // 2
    return resized[:, top : top + size, left : left + size].round().clamp(0, 255).to(torch.uint8)


PART = Part("JPEG decoding", seconds=25, least=8, run=run)
