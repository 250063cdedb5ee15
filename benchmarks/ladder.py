"""HeLlO's ladder and the labels it stands beside, in one table: python -m benchmarks.ladder --source digits

Linear probe on CLIP, + weak teachers, + low-rank deltas, + text initialisation, + image update (arXiv 2408.08201, its
ablation on ImageNet-1K: 28.2, 30.1, 43.5, 43.6, 43.7 %), each a call of `fit_projector` with the preset of the source
and one trained CLIP and its teachers for all; then students on one set of collages with hard labels, the last teacher
online, that teacher's labels stored, and the projector. The image update needs patches that are smaller than what
they were cut from: with --factor 1, which RDED takes for images of 32 pixels, it stands beside 2x2 collages of its own.
Everything is kept in --out, and a second run goes on there.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import ROOT, folder, machine, print_table
from raycond.core import records
from raycond.data.images import Decoding
from raycond.data.sources import Source, open_source
from raycond.evaluate.cell import Cell, run_cell
from raycond.evaluate.protocol import Recipe, parse_settings, recipe
from raycond.evaluate.training_sets import SetImages
from raycond.labels.registry import identity
from raycond.methods.collages.collages import CollageOptions, Collages
from raycond.methods.collages.image_update import UpdateOptions
from raycond.pipelines.collages import write_collages
from raycond.pipelines.fit_projector.config import load_projector_config
from raycond.pipelines.fit_projector.run import ProjectorRun, fit_projector
from raycond.pipelines.stages.listing import source_digest
from raycond.pipelines.stages.splits import decode_split
from raycond.pipelines.store_labels import store_set_labels
from raycond.sets.manifest import read_manifest

SOFT = {"loss": "mse+ce", "ce_weight": 0.1}  # HeLlO's student loss, β as in G-VBSM
PLAIN, PARTS, UPDATED = "plain", "2x2", "updated"  # the collages of --factor; others for the image update
# rung → what it changes of the whole method, and the images of its students
LADDER: dict[str, tuple[dict[str, Any], str]] = {
    "linear probe": ({"teachers": ["none"], "conv_rank": 0, "head": "scratch"}, PLAIN),
    "+ weak teachers": ({"conv_rank": 0, "head": "scratch"}, PLAIN),
    "+ low-rank deltas": ({"head": "scratch"}, PLAIN),
    "+ text initialisation": ({}, PLAIN),
    "the same, other images": ({}, PARTS),
    "+ image update": ({}, UPDATED),
}


@dataclass(frozen=True)
class Line:
    """One line of the table: who labels which images. fit: the projector's run, None for other labels."""

    name: str
    labels: str
    images: str
    labeler: str
    fit: ProjectorRun | None = None


def data_of(source: str, given: str | None) -> str:
    if given:
        return given
    return "digits:" if source == "digits" else str(folder("RAYCOND_DATA", "data") / source)


def changes_of(source: str) -> dict[str, Any]:
    """What two processors change of the preset: of photographs the side, the CLIP and its rates, and the side that the
    teacher sees."""
    if source != "imagenette":
        return {}
    weights = folder("RAYCOND_WEIGHTS", "weights") / "mobilenet_v2_imagenet.safetensors"
    teacher = f"mobilenet_v2@{weights},mean=0.5,std=0.5,size=128"
    return {"clip": "train", "size": 64, "teachers": [teacher], "lr": 0.01, "lambda": 1.0, "patience": 0}


def fits(options: argparse.Namespace, data: str, out: Path) -> dict[str, ProjectorRun]:
    """The projector of every rung. The whole method comes first: its CLIP and teachers serve the others."""
    common = {"data": data, "runner": options.runner, **changes_of(options.source)}
    if options.limit:
        common["limit"] = options.limit

    def fitted(name: str, changes: Mapping[str, Any]) -> ProjectorRun:
        place = out / "projectors" / name
        config = load_projector_config({**common, "out": str(place), **changes}, preset=options.source)
        return fit_projector(config)

    whole = fitted("whole", {})
    shared = {"clip": whole.layout.clip, "teachers": list(whole.teachers)}
    found = {}
    for rung, (changes, _) in LADDER.items():
        if not changes:
            found[rung] = whole
            continue
        name = rung.removeprefix("+ ").replace(" ", "-")
        pixels = out / "projectors" / name / "work" / "pixels"
        if not pixels.exists():  # decoded already
            shutil.copytree(out / "projectors" / "whole" / "work" / "pixels", pixels)
        found[rung] = fitted(name, {**shared, **changes})
    return found


def image_sets(options: argparse.Namespace, run: ProjectorRun, size: Decoding, out: Path) -> dict[str, str]:
    """Collages of the last teacher's surest patches, as they are and updated against CLIP: name → the set's folder."""
    wanted = {PLAIN: (options.factor, ""), PARTS: (2, ""), UPDATED: (max(2, options.factor), run.layout.clip)}
    if options.factor > 1:
        del wanted[PARTS]  # the plain ones are what the updated ones compare with
    found = {}
    for name, (factor, clip) in wanted.items():
        choice, update = CollageOptions(pool=options.pool, factor=factor), UpdateOptions() if clip else None
        make = Collages(run.source, options.ipc, 0, run.teachers[-1], choice, options.device, clip, update)
        place = str(out / "sets" / name)
        print(f"collages, {factor}x{factor}{', updated' if clip else ''} …", flush=True)
        write_collages(place, make, size, ipcs=[options.ipc], name=name)
        found[name] = place
    return found


def factor_of(name: str, options: argparse.Namespace) -> int:
    return options.factor if name == PLAIN else max(2, options.factor)


def shown(name: str, options: argparse.Namespace) -> str:
    factor = factor_of(name, options)
    return f"{factor}x{factor}{', updated' if name == UPDATED else ''}"


def cells_of(
    line: Line, sets: dict[str, str], test: str, options: argparse.Namespace, size: Decoding, source: Source
) -> list[Cell]:
    chosen = recipes(options, factor_of(line.images, options))[line.labels == "hard"]
    protocol = chosen.resolve(ipc=options.ipc, classes=len(source.classes), student=options.student, size=size.size)
    images = SetImages(sets[line.images], options.ipc, "uniform")
    return [
        Cell(
            *(line.name, options.ipc, options.student, seed, protocol, source.classes, size, images, test),
            *(options.device, line.labeler),
        )
        for seed in options.seeds
    ]


def recipes(options: argparse.Namespace, factor: int) -> tuple[Recipe, Recipe]:
    """Of soft labels and of hard ones, for collages of this factor.

    As in RDED, the patches of a collage are shuffled, and views are crops down to one of them: a student that has only
    seen quarters would not know a picture that has one thing in it.
    """
    plain, changes = recipe(options.protocol).override(checks=1), parse_settings(options.changes)
    if factor > 1:
        plain = plain.override(shuffle=factor, scale=[1 / factor**2, 1.0])
    hard = {name: value for name, value in changes.items() if name not in ("loss", "ce_weight", "temperature")}
    return plain.override(**{**SOFT, **changes}), plain.override(**{**hard, "loss": "cross-entropy"})


def place_of(cell: Cell, out: Path) -> tuple[str, str]:
    """Where a training's accuracy is kept, and what it depends on."""
    assert isinstance(cell.train, SetImages)
    expected = records.fingerprint(
        protocol=asdict(cell.protocol),
        labeler=identity(cell.labeler, cell.classes),
        images=read_manifest(cell.train.path).content["files"],
        cell=(cell.student, cell.seed, cell.ipc),
    )
    return str(out / "students" / expected[:16]), expected


def trained(cells: list[Cell], out: Path, workers: int) -> dict[str, float]:
    """Test accuracy of every cell, by where it is kept; those of an earlier run are read."""
    found, missing = {}, []
    for cell in cells:
        place, expected = place_of(cell, out)
        known = records.find(place, expected)
        if known is None:
            missing.append((cell, place, expected))
        else:
            found[place] = known["top1"]
    # not forked: a process whose OpenMP has threads cannot be
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_start) as pool:
        rows = pool.map(run_cell, [cell for cell, _, _ in missing])
        for k, ((cell, place, expected), row) in enumerate(zip(missing, rows, strict=True), 1):
            records.finish(place, expected, None, top1=row.top1, seconds=row.seconds)
            found[place] = row.top1
            print(f"{k}/{len(missing)} {cell.name}: {row.top1:.1f} %, {row.seconds:.0f} s", flush=True)
    return found


def _start() -> None:
    torch.set_num_threads(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="digits", choices=["digits", "fashion-mnist", "imagenette"])
    parser.add_argument("--data", help="by default digits:, or the source's folder in RAYCOND_DATA")
    parser.add_argument("--out", help="by default runs/bench/ladder-SOURCE")
    parser.add_argument("--limit", type=int, help="images per class that the projectors are fitted on")
    parser.add_argument("--ipc", type=int, default=10)
    parser.add_argument("--pool", type=int, default=300, help="images of a class that collages are made of")
    parser.add_argument("--factor", type=int, default=1, help="patches a side of a collage")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--student", default="convnet3-w32")
    parser.add_argument("--protocol", default="quick")
    parser.add_argument("--set", dest="changes", nargs="+", default=[], metavar="FIELD=VALUE", help="of the protocol")
    parser.add_argument("--runner", default="local", choices=["local", "ray"], help="of the fits")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="of collages and students")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="students at once")
    options = parser.parse_args()
    data = data_of(options.source, options.data)
    out = Path(options.out or ROOT / "runs" / "bench" / f"ladder-{options.source}").absolute()
    run = fits(options, data, out)
    whole, classes = run["+ text initialisation"], run["+ text initialisation"].source.classes
    preset = load_projector_config({"data": data, **changes_of(options.source)}, preset=options.source)
    size = Decoding(preset.size, preset.resize, preset.channels, preset.max_pixels)
    sets = image_sets(options, whole, size, out)
    labels = str(out / "labels")
    teacher = f"teacher:{whole.teachers[-1]}"
    soft = recipes(options, options.factor)[0]
    store_set_labels(labels, sets[PLAIN], labeler=teacher, recipe=soft, student=options.student, device=options.device)
    lines = [
        Line("hard labels", "hard", PLAIN, "hard"),
        Line("teacher online", "soft", PLAIN, teacher),
        Line("stored labels", "soft", PLAIN, f"stored:{labels}"),
        *(
            Line(rung, "soft", images, f"projector:{run[rung].layout.out},clip={whole.layout.clip}", run[rung])
            for rung, (_, images) in LADDER.items()
            if images in sets
        ),
    ]
    val = open_source(data, split="val", index_dir=str(out / "index"))
    test = str(out / "val.npz")
    decode_split("val", val, source_digest([val.fingerprint(k) for k in range(len(classes))]), size, test)
    cells = {line.name: cells_of(line, sets, test, options, size, whole.source) for line in lines}
    found = trained([cell for some in cells.values() for cell in some], out, options.workers)
    print(f"\n{machine()}\n{options.source}, {size.size} px, IPC {options.ipc}, {options.student}, {options.protocol} "
          f"{' '.join(options.changes)}, soft: {SOFT}, seeds {options.seeds}\n")  # fmt: skip
    rows = []
    for line in lines:
        top1 = [found[place_of(cell, out)[0]] for cell in cells[line.name]]
        spread = f" ± {statistics.stdev(top1):.1f}" if len(top1) > 1 else ""
        best = line.fit.best if line.fit else None
        about = [f"{line.fit.parameters:,}" if line.fit else "", f"{best.agreement:.1f}" if best else ""]
        rows.append([line.name, shown(line.images, options), *about, f"{best.accuracy:.1f}" if best else "",
                     f"{statistics.mean(top1):.1f}{spread}"])  # fmt: skip
    head = ["labels", "collages", "parameters", "agreement %", "own accuracy %", "student %"]
    print_table(head, rows)
    (out / "table.json").write_text(json.dumps([dict(zip(head, row, strict=True)) for row in rows], indent=2))
    assert whole.best is not None
    print(f"agreement: with the teachers on held-out images (the probe's: with the labels); the teachers together give "
          f"{whole.best.teachers:.1f} % of the labels there")  # fmt: skip


if __name__ == "__main__":
    main()
