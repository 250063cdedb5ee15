"""The pipeline that writes a set of collages (RDED): source → crops that a teacher is surest of → condensed set."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from raycond import __version__
from raycond.core import files, records
from raycond.core.progress import Progress
from raycond.data import quarantine
from raycond.data.encoded import encode_image, pack, unpack
from raycond.data.images import Decoding
from raycond.data.quarantine import BadRecord
from raycond.labels.teacher import describe
from raycond.methods.collages.collages import Collages
from raycond.methods.collages.image_update import UpdateOptions
from raycond.methods.quantize.codebook import Codebook
from raycond.models.clip import describe_clip
from raycond.pipelines.run_folder import at_work
from raycond.pipelines.stages.condensed import public_uri, write_set
from raycond.sets.writer import ClassPart, SetWriter


@dataclass
class CollageRun:
    """What a run made. quarantine: the file that lists `bad`, if there are any. computed: classes that were
    worked on now."""

    manifest: dict[str, Any]
    bad: list[BadRecord]
    quarantine: str
    computed: int


def write_collages(
    folder: str,
    make: Collages,
    options: Decoding,
    *,
    ipcs: Sequence[int],
    name: str,
    image_format: str = "png",
    max_bad: str = "1%",
) -> CollageRun:
    """A condensed set of the collages of `make` at each IPC; what is made is kept in `folder`-work, to go on there.

    The count of each collage is its number of patches, its `source_id` the ids of their images with spaces between; it
    has no latents. Raises UserError for too many bad images, where another run is at work, and as `Collages.of_class`
    does.
    """
    quarantine.Limit.parse(max_bad)
    out = files.absolute(folder)
    with at_work(f"{out}-work", "raycond collages"):
        return _write(out, make, options, ipcs, name, image_format, max_bad)


def _write(
    out: str, make: Collages, options: Decoding, ipcs: Sequence[int], name: str, image_format: str, max_bad: str
) -> CollageRun:
    work, listed = f"{out}-work", files.join(f"{out}-work", "quarantine.parquet")
    labels = range(len(make.source.classes))
    images = [make.source.fingerprint(label) for label in labels]
    config = _config(make, options)
    models = functools.cache(make.models)
    parts: dict[tuple[int, int], dict[str, Any]] = {}
    computed = 0

    def place(ipc: int, label: int) -> str:
        return files.join(work, f"ipc{ipc}", f"{label:05d}.parquet")

    with Progress("collages", len(labels), "classes") as progress:
        for label, class_id in enumerate(make.source.classes.ids):
            expected = {
                ipc: records.fingerprint(
                    stage="collages",
                    config=config,
                    ipc=ipc,
                    seed=make.seed,
                    images=images[label],
                    class_id=class_id,
                    size=options.size,
                    channels=options.channels,
                    max_pixels=options.max_pixels,
                    format=image_format,
                )
                for ipc in ipcs
            }
            known = {ipc: records.find(place(ipc, label), expected[ipc]) for ipc in ipcs}
            missing = [ipc for ipc in ipcs if known[ipc] is None]
            for ipc, made in make.at(missing, label, options, *models()).items() if missing else ():
                data = pack([encode_image(image, image_format) for image in made.images])
                about = {"ids": made.ids, "good": made.good, "bad": [list(b) for b in made.bad]}
                known[ipc] = records.finish(place(ipc, label), expected[ipc], data, **about)
            parts |= {(ipc, label): facts for ipc, facts in known.items() if facts is not None}
            computed += bool(missing)
            progress.step(1, make.source.classes.names[label])
    looked_at = {BadRecord(*row) for known in parts.values() for row in known["bad"]}
    bad = looked_at | set(make.source.bad)
    quarantine.update(listed, bad)
    good = sum(max(parts[ipc, label]["good"] for ipc in ipcs) for label in labels)
    quarantine.require_few(listed, looked_at, good, max_bad)

    def part(ipc: int, label: int) -> ClassPart:
        counts = torch.full((ipc,), make.choice.factor**2)
        book = Codebook(torch.empty(ipc, 0), counts, 0.0, torch.zeros(ipc, dtype=torch.int64))
        return ClassPart(label, unpack(place(ipc, label)), book, tuple(parts[ipc, label]["ids"]))

    about = {
        "name": name,
        "method": "RDED",
        "generator": "collages",
        "size": options.size,
        "channels": options.channels,
        "codec": {"name": "none", "sha256": "none", "channels": options.channels},
        "seed": make.seed,
        "config": config,
        "source": {
            "uri": public_uri(make.source.uri),
            "sha256": files.digest(images),
            "quarantined": len(bad),
        },
        "raycond": __version__,
    }
    writer = SetWriter(out, make.source.classes, ipcs, "uniform", image_format, part)
    digests = [[ipc, label, facts["sha256"]] for (ipc, label), facts in sorted(parts.items())]
    manifest, _ = write_set(writer, about, record=files.join(work, "set"), parts=digests)
    return CollageRun(manifest, sorted(bad), listed, computed)


def _config(make: Collages, options: Decoding) -> dict[str, Any]:
    """What the collages depend on beside their images, without the folders of this machine."""
    teacher = describe(make.teacher, make.source.classes)
    found = {
        **dataclasses.asdict(make.choice),
        "resize": options.resize,
        "teacher": {"name": teacher.name, "sha256": teacher.digest},
    }
    if make.clip:
        name, digest = describe_clip(make.clip)
        found["update"] = {
            **dataclasses.asdict(make.update or UpdateOptions()),
            "clip": {"name": name, "sha256": digest},
        }
    return found
