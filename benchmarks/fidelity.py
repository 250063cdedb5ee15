"""How far condensed images are from the data in latent space, before and after they are generated.

python -m benchmarks.fidelity RUN... [--ipc 10] [--classes 10]

Each RUN is a folder of imagenet_quantize.py whose codec and data are still where its config.json says. W2 is exact
optimal transport (POT) between a class's latents, of equal mass, and the condensed points: the centroids, and the
images encoded again, each with uniform and with Voronoi mass. Means over the classes. `own` is the distance of an image
encoded again to its own centroid.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.common import print_table
from raycond.core import files
from raycond.core.errors import BadImage
from raycond.data.encoded import decode_image
from raycond.data.images import load_many
from raycond.data.sources import Source, open_source
from raycond.methods.quantize.wasserstein import w2
from raycond.models.codecs.base import Codec
from raycond.models.codecs.registry import open_codec
from raycond.models.generators.images import resized, to_uint8
from raycond.pipelines.layout import Layout
from raycond.sets.manifest import read_manifest
from raycond.sets.reader import CondensedSet, open_set

OPTIONS = ("size", "resize", "max_pixels")


def encode(codec: Codec, images: np.ndarray) -> Tensor:
    """(n, d) of images (n, H, W, C) uint8."""
    x = torch.from_numpy(images).permute(0, 3, 1, 2)
    return torch.cat([codec.encode(batch) for batch in x.split(64)]).flatten(1)


def real(codec: Codec, source: Source, label: int, options: dict[str, Any]) -> Tensor:
    """Latents of a class."""
    found = load_many(source.refs(label), **options, channels=codec.channels, threads=2, prefetch=64)
    return encode(codec, np.stack([image for _, image, _ in found if not isinstance(image, BadImage)]))


def measure(points: Tensor, opened: CondensedSet, label: int, codec: Codec, options: dict[str, Any]) -> list[float]:
    """W2 of centroids and of images, each with uniform and Voronoi mass; distance of an image to its centroid."""
    rows = (opened.labels == label).nonzero().flatten()
    centroids = opened.latents()[rows].flatten(1)
    pictures = np.stack([decode_image(opened.images[int(i)], codec.channels) for i in rows])
    tensors = resized(torch.from_numpy(pictures).permute(0, 3, 1, 2) / 255, options["size"])
    images = encode(codec, to_uint8(tensors))
    uniform, mass = torch.ones(len(rows)), opened.counts[rows]
    own = float((images - centroids).square().sum(1).mean().sqrt())
    return [*(w2(points, p, m) for p in (centroids, images) for m in (uniform, mass)), own]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN")
    parser.add_argument("--ipc", type=int, default=10)
    parser.add_argument("--classes", type=int, default=10)
    args = parser.parse_args()
    kept: dict[tuple[str, str, int], Tensor] = {}
    rows = []
    for run in args.runs:
        config = files.read_json(f"{run}/config.json")
        manifest = read_manifest(f"{run}/set")
        opened = open_set(f"{run}/set", args.ipc)
        codec = open_codec(config["codec"], dtype="float32")
        columns = {name: config[name] for name in ("limit", "image_column", "label_column")}
        source = open_source(config["data"], index_dir=Layout(run, config["work"]).index, **columns)
        options = {name: config[name] for name in OPTIONS}
        found = []
        for label in range(min(args.classes, len(manifest.classes))):
            key = (config["data"], codec.digest, label)
            if key not in kept:
                kept[key] = real(codec, source, label, options)
            found.append(measure(kept[key], opened, label, codec, options))
        rows.append([run.rstrip("/").rpartition("/")[2], *(f"{v:.3f}" for v in np.mean(found, axis=0))])
    head = ["run", "centroids, uniform", "centroids, Voronoi", "images, uniform", "images, Voronoi", "own"]
    print_table(head, rows)


if __name__ == "__main__":
    main()
