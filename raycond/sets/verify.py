"""Check a condensed set against its own manifest, and that the tools which read it can."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from raycond.core import files
from raycond.core.errors import UserError
from raycond.core.text import shown
from raycond.core.yaml_text import read_yaml
from raycond.methods.quantize.codebook import weights as weights_of
from raycond.sets.class_names import name_problems
from raycond.sets.class_rows import class_rows
from raycond.sets.latents import read_latents
from raycond.sets.manifest import Manifest, read_manifest
from raycond.sets.normalization import Normalization
from raycond.sets.pictures import open_picture
from raycond.sets.place import set_folder
from raycond.sets.stored_files import CODE_ENDINGS, file_problem, read_stored
from raycond.sets.tables import label_names, read_table
from raycond.sets.tensors import read_tensors

CARD = "README.md"
DEEPEST = 6  # folders of a set lie in one another three deep; more is a link that leads back to itself
_WEIGHT_TOLERANCE = 1e-4
_PROBLEM_LENGTH = 500  # characters shown of a problem


def verify(path: str) -> list[str]:
    """Everything that is wrong with the set at `path` (or in the run there); an empty list means that it is intact.

    Checked: digest and size of every file, no unlisted data file, no file that could run code, rows, class order and
    names, weights that follow from the counts, counts that add up to the source images, images that decode to the
    stated size, latents and float tensors beside images, the normalization, classes, digest and bytes of a projector;
    and what `datasets` and pandas need: distinct label names, text that is UTF-8, columns of the right kinds, a card
    whose configurations are the set's files. Each problem is one line that is safe to print. A set that is replaced
    meanwhile is checked again.
    """
    try:
        folder = set_folder(path)
        manifest = read_manifest(folder)
        problems = list(_problems(folder, manifest))
        if problems and (replaced := read_manifest(folder)) != manifest:
            problems = list(_problems(folder, replaced))
    except (UserError, OSError) as error:  # OSError: a place that cannot be reached
        problems = [str(error)]
    return [shown(problem, _PROBLEM_LENGTH) for problem in problems]


def _problems(folder: str, manifest: Manifest) -> Iterator[str]:
    damaged = set()
    for name, expected in manifest.files.items():
        if problem := file_problem(folder, name, expected):
            damaged.add(name)
            yield f"{name}: {problem}"
    for name in sorted(_present(folder) - set(manifest.files)):
        if name.startswith("data/"):
            yield f"{name}: not in the manifest, but readers of the folder would take it"
        elif name.endswith(CODE_ENDINGS):
            yield f"{name}: not in the manifest, and tools that are given the folder may run it"
    yield from name_problems(manifest.classes)
    if CARD in manifest.files and CARD not in damaged:
        yield from _card(folder, manifest)
    for ipc in manifest.ipcs:
        data, latents, tensors = manifest.data_files(ipc), manifest.latent_files(ipc), manifest.tensor_files(ipc)
        quantized = "distortion" in manifest.content["cells"][f"ipc{ipc}"]
        if not data or (quantized and not latents):
            yield f"ipc{ipc}: the manifest lists no data or no latents"
        elif not damaged & {*data, *latents, *tensors}:
            try:
                yield from _cell(folder, manifest, ipc)
            except UserError as error:  # a file with the right digest that cannot be read
                yield str(error)
    if (normalization := Normalization.of(folder, manifest.content)) is not None and normalization.file not in damaged:
        try:
            normalization.open(manifest.image_shape)
        except UserError as error:
            yield str(error)
    if "label_generator" in manifest.content:
        from raycond.sets.attach import projector_problems

        yield from projector_problems(folder, manifest)


def _present(folder: str, inside: str = "", deep: int = 0) -> set[str]:
    """The names of all files in the folder that are not hidden, down to `DEEPEST` folders in one another."""
    names: set[str] = set()
    for entry in files.listdir(files.join(folder, inside) if inside else folder):
        name = f"{inside}/{entry.name}" if inside else entry.name
        if not entry.is_dir:
            names.add(name)
        elif deep < DEEPEST:
            names |= _present(folder, name, deep + 1)
    return names


def _card(folder: str, manifest: Manifest) -> Iterator[str]:
    """What is wrong with the card's front matter, from which `datasets` takes the configurations and their files."""
    try:
        text = read_stored(folder, CARD, manifest.files[CARD]).decode()
        configs = read_yaml(text.split("---\n")[1], CARD)["configs"]
        listed = {config["config_name"]: config["data_files"] for config in configs}
        patterns = {name: [path for part in parts for path in _paths(part["path"])] for name, parts in listed.items()}
    except Exception as error:  # whatever it is, datasets would stumble over it too
        yield f"{CARD}: its front matter, which datasets reads, is damaged: {shown(error) or type(error).__name__}"
        return
    every = [name for ipc in manifest.ipcs for name in manifest.data_files(ipc)]
    for ipc in manifest.ipcs:
        taken = [[n for n in every if fnmatch.fnmatchcase(n, pattern)] for pattern in patterns.get(f"ipc{ipc}", [])]
        if {name for names in taken for name in names} != set(manifest.data_files(ipc)) or not all(taken):
            yield f"{CARD}: its configuration ipc{ipc}, which datasets reads, does not name the files of the manifest"


def _paths(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else [str(path) for path in value]


def _cell(folder: str, manifest: Manifest, ipc: int) -> Iterator[str]:
    """What is wrong with the rows of one IPC, whose files have the right digests. Raises UserError where one cannot
    be read."""
    classes, content, what = manifest.classes, manifest.content, f"ipc{ipc}"
    expected, tables = content["cells"][what], []
    for name in manifest.data_files(ipc):
        table = read_table(folder, name, manifest.files[name], checked=True)
        if label_names(table) != list(classes.names):
            yield f"{name}: its class names are not the manifest's"
        for image in table.column("image").to_pylist():
            try:
                open_picture(image["bytes"], content["size"], content["channels"])
            except ValueError as error:
                yield f"{name}: {image['path']}: {error}"
        tables.append(table.select(["label", "weight", "count", "class_id"]))
    rows = pa.concat_tables(tables)
    if len(rows) != expected["images"] or len(rows) != ipc * len(classes):
        yield f"{what}: {len(rows)} images, the manifest says {expected['images']}, IPC × classes {ipc * len(classes)}"
    labels, weights, counts = (torch.from_numpy(rows[c].to_numpy().copy()) for c in ("label", "weight", "count"))
    if (total := int(counts.sum())) != expected["source_images"]:
        yield f"{what}: counts add up to {total}, not {expected['source_images']}"
    for label, class_id in zip(labels.tolist(), rows["class_id"].to_pylist(), strict=True):
        if not 0 <= label < len(classes) or classes.ids[label] != class_id:
            yield f"{what}: label {label} says class {class_id}, which the class list does not"
            return
    for class_id, own in zip(classes.ids, class_rows(labels, len(classes)), strict=True):
        if problem := _class(weights[own], counts[own], ipc, content["weights"]):
            yield f"{what}: class {class_id} {problem}"
    for kind, beside in (("latents", _latent_labels), ("tensors", _tensor_labels)):
        found = list(beside(folder, manifest, ipc))
        if found and not torch.equal(torch.cat(found), labels):
            yield f"{what}: {kind} and images are not in the same order"


def _latent_labels(folder: str, manifest: Manifest, ipc: int) -> Iterator[Tensor]:
    for name in manifest.latent_files(ipc):
        yield read_latents(folder, name, manifest.files[name], checked=True)[1]


def _tensor_labels(folder: str, manifest: Manifest, ipc: int) -> Iterator[Tensor]:
    for name in manifest.tensor_files(ipc):
        yield read_tensors(folder, name, manifest.files[name], shape=manifest.image_shape, checked=True)[1]


def _class(weights: Tensor, counts: Tensor, ipc: int, mode: str) -> str:
    """What is wrong with the weights and counts of one class's images; nothing if they are right."""
    if len(counts) != ipc:
        return f"has {len(counts)} images"
    if int(counts.min()) < 1:
        return "has an image that stands for none"
    right = torch.allclose(weights, weights_of(counts, mode), _WEIGHT_TOLERANCE)
    return "" if right else f"has weights that are not {mode} of its counts"
