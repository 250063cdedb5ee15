"""Small condensed sets made from random codebooks, through the real writer."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from raycond.core import files
from raycond.data.classes import Classes
from raycond.data.encoded import encode_image
from raycond.methods.kernels.whitening import Preprocessing
from raycond.methods.quantize.codebook import Codebook
from raycond.sets.normalization import channels
from raycond.sets.writer import ClassPart, SetWriter

CLASSES = Classes(("n01", "n02", "n03"), ("tench", "English springer", "crête"))
LATENT = (2, 3, 3)
NORMALIZATION = channels((0.5, 0.4, 0.3), (0.2, 0.25, 0.5))


def about(**changes: Any) -> dict[str, Any]:
    return {
        "name": "toy",
        "method": "DDOQ",
        "generator": "vae",
        "size": 12,
        "channels": 3,
        "codec": {"name": "pixels", "sha256": "pixels", "channels": 3},
        "seed": 0,
        "config": {},
        "source": {"uri": "toy", "sha256": "0" * 64, "quarantined": 0},
        "raycond": "0",
    } | changes


def images(ipc: int, label: int, size: int = 12, channels: int = 3) -> np.ndarray:
    """(ipc, size, size, channels) uint8, other for every class and IPC; smooth, so that JPEG keeps them."""
    random = np.random.default_rng(1000 * ipc + label)
    corners = random.uniform(0, 255, (ipc, 2, 2, channels))
    t = np.linspace(0, 1, size)
    mix = np.stack([1 - t, t])
    return np.einsum("kabc,ay,bx->kyxc", corners, mix, mix).round().astype(np.uint8)


def codebook(ipc: int, label: int) -> Codebook:
    random = torch.Generator().manual_seed(1000 * ipc + label)
    counts = torch.randint(1, 50, (ipc,), generator=random).sort(descending=True).values
    return Codebook(torch.randn(ipc, *LATENT, generator=random), counts, 1.5 + label, torch.arange(ipc))


def part(ipc: int, label: int, image_format: str = "png", channels: int = 3) -> ClassPart:
    encoded = [encode_image(image, image_format) for image in images(ipc, label, channels=channels)]
    return ClassPart(label, encoded, codebook(ipc, label), tuple(f"{label}/{k}.jpg" for k in range(ipc)))


def tensors(ipc: int, label: int) -> dict[str, torch.Tensor]:
    """What an optimization might give: images in the space of `NORMALIZATION`, and a target for each."""
    random = torch.Generator().manual_seed(2000 * ipc + label)
    return {
        "images": 2 * torch.randn(ipc, 3, 12, 12, generator=random),
        "targets": torch.randn(ipc, 3, generator=random),
    }


def optimized(ipc: int, label: int) -> ClassPart:
    """A class without a codebook: 8-bit images beside float tensors."""
    encoded = part(ipc, label).images
    ids = tuple(f"{label}/{k}.jpg" for k in range(ipc))
    return ClassPart(label, encoded, None, ids, tensors(ipc, label), real_images=50 + label)


def write_optimized(folder: object, normalization: Preprocessing = NORMALIZATION, **changes: Any) -> dict[str, Any]:
    """Write a set of float tensors at IPC 1 and 4, and return its manifest."""
    settings = {"method": "DC", "generator": "match", "codec": {"name": "none", "sha256": "none", "channels": 3}}
    load = changes.pop("load", optimized)
    classes = changes.pop("classes", CLASSES)
    writer = SetWriter(str(folder), classes, (1, 4), "uniform", "png", load, normalization)
    return writer.write(about(**{**settings, **changes}))


def tensors_name(folder: Path, ipc: int = 4) -> str:
    (found,) = sorted((folder / "tensors").glob(f"ipc{ipc}-*"))
    return found.relative_to(folder).as_posix()


def whitening(pixels: int = 432) -> Preprocessing:
    """Of images of 3 × 12 × 12, with layer norm."""
    random = torch.Generator().manual_seed(5)
    square = torch.randn(pixels, pixels, generator=random, dtype=torch.float64) / pixels**0.5
    matrix = square @ square.T + torch.eye(pixels, dtype=torch.float64)
    constants = NORMALIZATION
    return Preprocessing(constants.mean, constants.std, matrix, layer_norm=True, norm=2.5)


def write(
    folder: object,
    *,
    ipcs: Sequence[int] = (1, 4),
    classes: Classes = CLASSES,
    weights: str = "sqrt",
    image_format: str = "png",
    channels: int = 3,
    load: Any = None,
    **changes: Any,
) -> dict[str, Any]:
    """Write a set and return its manifest."""
    load = load or (lambda ipc, label: part(ipc, label, image_format, channels))
    writer = SetWriter(str(folder), classes, ipcs, weights, image_format, load)
    return writer.write(about(channels=channels, **changes))


def change_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads((folder / "manifest.json").read_text())
    change(content)
    (folder / "manifest.json").write_text(json.dumps(content))


def relist(folder: Path, name: str) -> None:
    """Give the manifest the digest of a changed file, so that only its content can give it away."""
    data = (folder / name).read_bytes()
    facts = {"sha256": files.sha256(data), "bytes": len(data)}
    change_manifest(folder, lambda m: m["files"].update({name: facts}))


def data_name(folder: Path, ipc: int = 4) -> str:
    """The data file of a set with one shard, as it is called inside the set."""
    (found,) = sorted((folder / "data" / f"ipc{ipc}").iterdir())
    return found.relative_to(folder).as_posix()


def latents_name(folder: Path, ipc: int = 4) -> str:
    (found,) = sorted((folder / "latents").glob(f"ipc{ipc}-*"))
    return found.relative_to(folder).as_posix()


def change_column(folder: Path, column: str, change: Callable[[list[Any]], list[Any]]) -> None:
    """Change the values of a column at IPC 4, and the digest in the manifest with them."""
    name = data_name(folder)
    table = pq.read_table(folder / name)
    index = table.schema.get_field_index(column)
    values = pa.array(change(table.column(column).to_pylist()), table.schema.types[index])
    pq.write_table(table.set_column(index, table.schema.field(index), values), folder / name)
    relist(folder, name)
