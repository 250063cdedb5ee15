"""A report of a run and one of a grid, with hostile text in every place for text."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from raycond.data.classes import Classes
from raycond.data.quarantine import BadRecord
from raycond.evaluate import Row, preset
from raycond.evaluate.table import Check
from raycond.report import GridReport, Picture, Quarantine, Report, Size
from tests.report.page import HOSTILE
from tests.support.methods import DENSITY, SQRT, UNIFORM


def png(side: int, value: int = 100) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.full((side, side, 3), value, np.uint8)).save(out, "PNG")
    return out.getvalue()


def report(classes: int = 3, images: int = 4, side: int = 8) -> Report:
    listed = Classes.of([f"n{k:04d}" for k in range(classes)], [f"{HOSTILE} {k}" for k in range(classes)])
    weights = [1 + 0.125 * (k - (images - 1) / 2) for k in range(images)]  # lightest first
    pictures = [Picture(png(side, k), weight, 10 + k) for k, weight in enumerate(weights)]
    rows = [
        Row(method, ipc, "convnet3", seed, top1 + more, top1 + more, 200, 0.5, 30, "quick")
        for method, ipc, top1 in (("random", 4, 70.0), (SQRT, 4, 80.0), (UNIFORM, 4, 79.5), ("full", None, 97.0))
        # in another order with uniform weights, so that their pairs do not differ by the same
        for seed, more in enumerate((1, 0, 2) if method == UNIFORM else (0, 1, 2))
    ]
    values = {("d4m", "uniform"): 40.0, ("d4m", "voronoi"): 30.0, ("ours", "uniform"): 20.0, ("ours", "voronoi"): 19.0}
    return Report(
        title=f"run {HOSTILE}",
        classes=listed,
        config={"source": HOSTILE, "ipc": (4,), "nested": {"lr": 0.005}},
        galleries={4: dict.fromkeys(listed.ids, pictures)},
        distortion={4: [100.0 + k for k in range(classes)]},
        accuracy=rows,
        w2=[{"ipc": 4, "centroids": c, "weights": w, "w2": v, "ess": 0.5} for (c, w), v in values.items()],
        sizes=[Size("images", 2048, "PNG"), Size("label generator", None), Size("weights", 48, "float32")],
        source_bytes=4096 * 100,
        quarantine=Quarantine([BadRecord("a", 0, "n0000", f"/x/{HOSTILE}.jpg", "truncated")] * 5, 500),
        environment={"torch": "2.14"},
    )


TOP1 = {"random": 60.0, "medoid": 64.0, UNIFORM: 70.0, SQRT: 80.0, DENSITY: 71.0, "full": 97.0}
LABELS = f"teacher:{HOSTILE}"


def rows(students: Sequence[str] = ("convnet3",), ipcs: Sequence[int] = (1, 10), checks: int = 3) -> list[Row]:
    """Accuracies TOP1 + seed, by two points more at every further IPC, on a curve that rises to them."""
    result = []
    for student in students:
        for method, top1 in TOP1.items():
            for k, ipc in enumerate(ipcs if method != "full" else [None]):
                for seed in range(3):
                    last = top1 + 2 * k + seed
                    curve = tuple(Check(100 * c, float(c), last - checks + c, 1.0) for c in range(1, checks + 1))
                    row = Row(method, ipc, student, seed, last, last + 0.5, 300, 60.0, 10, "quick")
                    result.append(replace(row, labeler=LABELS, memory=3 << 20, curve=curve))
    return result


def grid_report() -> GridReport:
    own = rows()
    return GridReport(
        title=f"grid {HOSTILE}",
        subtitle="one set",
        rows=[*own, *(replace(row, variant="hard", top1=1.0) for row in own)],
        distortion={m: {1: 900.0 - k, 10: 30.25 - k} for k, m in enumerate(TOP1) if m != "full"},
        scores=[
            {"method": HOSTILE, "IPC": 1, "HLR": "30.1 ± 0.4", "LRS": 19.125},
            {"method": UNIFORM, "IPC": 10, "LRS": None, "ARS": 27.0},
        ],
        failures=[f"ddoq {HOSTILE}: the loss is nan"],
        protocol={
            **preset("rded").to_dict(),
            "rules": [
                {"if": {"ipc_min": 2, "ipc_max": 10, "classes_min": 100}, "set": {"batch": 100}},
                {
                    "if": {"classes_min": 9, "classes_max": 9, "students": ["vgg*"]},
                    "set": {"lr": 5e-4, "flip": False},
                },
            ],
        },
        changed=["batch", "lr"],
        sizes={
            f"a {HOSTILE}": [Size("images", 2048, "PNG"), Size("labels", 100, "int64"), Size("label generator", None)],
            "b": [Size("images", 1024, "PNG")],
        },
        environment={"torch": "2.14"},
        config={"sets": (HOSTILE,)},
    )
