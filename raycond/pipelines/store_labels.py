"""Stored soft labels for condensed sets: for each set and IPC the views that a protocol shows of its images."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from raycond.core import files
from raycond.core.errors import UserError
from raycond.core.lock import locked
from raycond.data.images import MAX_PIXELS, Decoding
from raycond.data.labelled import LabelledImages
from raycond.evaluate.protocol import Recipe
from raycond.evaluate.stored_views import store_labels
from raycond.evaluate.training_sets import SetImages
from raycond.labels.agreement import measure_agreement
from raycond.labels.base import Labeler
from raycond.labels.registry import open_labeler
from raycond.labels.stored.labels import Encoding
from raycond.sets.manifest import read_manifest

MOST = 1024  # images on which a labeler is measured


def store_set_labels(
    folder: str,
    set_path: str,
    *,
    labeler: str,
    recipe: Recipe,
    ipcs: Sequence[int] = (),
    student: str = "",
    device: str = "cpu",
    views: int | None = None,
    seed: int = 0,
    encoding: Encoding | None = None,
    report: Callable[[int, dict[str, Any]], None] | None = None,
) -> dict[int, dict[str, Any]]:
    """Labels of a condensed set into `folder`/ipc<n>, which `stored:folder` then opens; IPC → content of labels.json.

    labeler: what `open_labeler` takes, one of views (teacher:…, projector:…). student: for recipes that depend on it;
    those of presets change no view by it. ipcs: default all of the set. report: told of each when it is done. Raises
    UserError for an IPC that the set does not have, where another run is at work, and as `store_labels` does.
    """
    folder = files.absolute(folder)
    manifest = read_manifest(files.absolute(set_path))
    if missing := sorted(set(ipcs) - set(manifest.ipcs)):
        raise UserError(f"--ipc {missing[0]}: {set_path} has only {', '.join(map(str, manifest.ipcs))}")
    classes, content = manifest.classes, manifest.content
    opened = open_labeler(labeler, classes=classes, device=device)
    options = Decoding(content["size"], "crop", content["channels"], MAX_PIXELS)
    found = {}
    with locked(folder, "raycond store-labels"):
        files.sweep(folder)
        for ipc in ipcs or manifest.ipcs:
            images = SetImages(set_path, ipc, "uniform").load(len(classes), options)
            _tell_agreement(opened, images, device)
            found[ipc] = store_labels(
                files.join(folder, f"ipc{ipc}"),
                images,
                labeler=opened,
                protocol=recipe.resolve(ipc=ipc, classes=len(classes), student=student, size=content["size"]),
                classes=classes,
                device=device,
                views=views,
                seed=seed,
                encoding=encoding,
                stage=f"ipc{ipc}",
            )
            if report is not None:
                report(ipc, found[ipc])
    return found


def _tell_agreement(labeler: Labeler, images: LabelledImages, device: str) -> None:
    """Say how the labels agree with the hard ones of the set, before hours go into storing them. Raises UserError for
    outputs that are no numbers."""
    if labeler.logits is None:
        return
    few = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:MOST]
    measured = measure_agreement(labeler, images.images[few].to(device), images.labels[few], images.classes)
    agreement = replace(measured, what="images of the set")
    print(f"labeler    {labeler.name} {agreement}", file=sys.stderr)
    if agreement.warning:
        print(f"WARNING    {agreement.warning}", file=sys.stderr)
