"""A condensed set in the file layouts of other tools: DD-Ranking, rethinkdc, and plain class folders."""

from __future__ import annotations

import csv
import io
import os
import shutil
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from raycond.core import files, stream
from raycond.core.errors import UserError
from raycond.core.registry import did_you_mean
from raycond.core.text import csv_cell, shown
from raycond.sets.card import markdown_text
from raycond.sets.pictures import open_picture
from raycond.sets.reader import CondensedSet, open_set

KINDS = {
    "ddranking": "tensors and numbered class folders for the package ddranking",
    "rethinkdc": "numbered class folders for the command rethinkdc",
    "folder": "class folders named by class id",
}
IMAGE_FOLDERS = {"ddranking": "images", "rethinkdc": "train", "folder": "."}  # where the class folders are
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
FILES = ("weights.pt", "weights.csv", "classes.json", "README.md", "export.json")  # beside the class folders
MOST_NAME_BYTES = 255  # of a folder's name on every usual file system
_AS_STORED = {"png": "png", "jpeg": "jpg"}  # image format → file name's end; others are written anew as PNG
_LABEL_BATCH = 64


def export(
    path: str,
    out: str,
    *,
    kind: str,
    ipc: int | None = None,
    labeler: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    device: str = "cpu",
) -> dict[str, Any]:
    """Write the set at `path` (its largest IPC by default) into the new folder `out`; returns what export.json holds.

    Every kind has class folders, with files that sort into the set's order, weights.pt (n,) float32 and weights.csv in
    that order, label after label, classes.json, README.md and, last, export.json. Numbered folders sort into label
    order. PNG and JPEG are written as they are stored, WebP as PNG.

    - ddranking: images.pt (n, 3, size, size) float32, class after class, of the float tensors of a set that has them
      for pixels, normalized by mean and std of pixels in [0, 1], one number or three (default ImageNet's), gray
      repeated; images/00000/00000.png; and soft_labels.pt
      (n, classes) float32 logits of the stored images if a labeler with soft labels is given (`open_labeler`). The
      tensor is held in memory, as ddranking holds it.
    - rethinkdc: train/00000/00000.png; nothing else is in train, whose first entry rethinkdc takes for a class.
    - folder: CLASS_ID/00000.png. Most readers, raycond among them, take the sorted order of the ids for label order;
      README.md says whether it is the set's.

    Raises UserError for an unknown kind, an `out` that is not empty, options that the kind does not use and a set that
    the layout cannot hold.
    """
    _require(kind, labeler, mean, std)
    out = files.absolute(out)
    condensed = open_set(path, ipc)
    layout = _layout(condensed, kind)
    if files.exists(out) and (not files.is_dir(out) or files.listdir(out)):
        raise UserError(f"--out {shown(out)}: is not an empty folder; give a new one, or delete it first")
    about = _about(condensed, kind)
    with _whole_folder(out) as folder:
        if kind == "ddranking":
            order = [index for _, index in layout]
            means, stds = _channels("mean", mean or IMAGENET[0]), _channels("std", std or IMAGENET[1])
            about |= {"mean": means, "std": stds}
            if labeler is not None:
                about["labeler"], labels = _soft_labels(condensed, order, labeler, device)
                about["agreement"] = _agreement(condensed, order, labels)
                _save(files.join(folder, "soft_labels.pt"), labels)
            _save(files.join(folder, "images.pt"), _normalized(condensed, order, means, stds))
        for name, index in layout:
            files.write_bytes(files.join(folder, name), _encoded(condensed, index))
        _write_weights(folder, condensed, layout)
        files.write_json(files.join(folder, "classes.json"), condensed.classes.to_dict())
        files.write_bytes(files.join(folder, "README.md"), _readme(about).encode())
        files.write_json(files.join(folder, "export.json"), about)
    return about


@contextmanager
def _whole_folder(out: str) -> Iterator[str]:
    """A folder to write into that becomes `out` at the end, and goes if anything fails. In an object store, where a
    folder cannot be renamed, it is `out` itself, and export.json is written last."""
    if not files.is_local(out):
        yield out
        return
    parent = os.path.dirname(out)
    os.makedirs(parent, exist_ok=True)
    folder = files.hidden_folder(parent)
    try:
        os.chmod(folder, 0o755)
        yield folder
        os.rename(folder, out)  # `out` may be there if it is empty
    except BaseException:
        shutil.rmtree(folder)
        raise


def _about(condensed: CondensedSet, kind: str) -> dict[str, Any]:
    content = condensed.manifest.content
    formation = content.get("formation", {}).get(f"ipc{condensed.ipc}")
    return {
        "kind": kind,
        "set": content["name"],
        "method": content["method"],
        "ipc": condensed.ipc,
        "images": len(condensed),
        "classes": condensed.classes.to_dict(),
        "weights": content["weights"],
        "image_folder": IMAGE_FOLDERS[kind],
        **({"formation": formation} if formation is not None else {}),
    }


def _require(kind: str, labeler: str | None, mean: object, std: object) -> None:
    if kind not in KINDS:
        known = "\n".join(f"  {name:10} {text}" for name, text in KINDS.items())
        raise UserError(f"--to {shown(kind)}: expected one of{did_you_mean(kind, KINDS)}\n{known}")
    given = {"--labeler": labeler, "--mean": mean, "--std": std}
    unused = [option for option, value in given.items() if value is not None]
    if kind != "ddranking" and unused:
        raise UserError(f"{unused[0]}: goes with kind ddranking, not {kind}")
    if labeler is not None and labeler.partition(":")[0] == "hard":
        raise UserError("--labeler hard: has no soft labels; leave it out, folders and their order are the hard labels")
    if (mean is None) != (std is None):
        raise UserError("--mean and --std: give both or none")


def _layout(condensed: CondensedSet, kind: str) -> list[tuple[str, int]]:
    """File name and index in the set of every image, label after label."""
    counts = torch.bincount(condensed.labels, minlength=len(condensed.classes)).tolist()
    if kind != "folder" and set(counts) != {condensed.ipc}:
        raise UserError(
            f"{shown(condensed.path)}: {kind} needs {condensed.ipc} images of every class, and there are {min(counts)} "
            f"to {max(counts)}; use --to folder"
        )
    folders, end = _class_folders(condensed, kind), _AS_STORED.get(condensed.manifest.content["image_format"], "png")
    seen = [0] * len(folders)
    rows = []
    for index in torch.argsort(condensed.labels, stable=True).tolist():
        label = int(condensed.labels[index])
        rows.append((f"{folders[label]}/{_padded(seen[label], max(counts))}.{end}", index))
        seen[label] += 1
    return rows


def _class_folders(condensed: CondensedSet, kind: str) -> list[str]:
    ids = condensed.classes.ids
    if kind != "folder":
        return [f"{IMAGE_FOLDERS[kind]}/{_padded(label, len(ids))}" for label in range(len(ids))]
    if problem := _folder_problem(ids):
        raise UserError(f"{shown(condensed.path)}: {problem}; use --to rethinkdc, whose folders are numbers")
    return list(ids)


def _folder_problem(ids: Sequence[str]) -> str:
    """Why the class ids cannot be folders beside the files of an export; nothing if they can, on any file system."""
    beside = {name.casefold(): "a file of the export" for name in FILES}
    for class_id in ids:
        if not class_id or class_id.startswith(".") or "/" in class_id or "\\" in class_id:
            return f"class id '{shown(class_id)}' cannot name a folder"
        if not class_id.isprintable() or len(class_id.encode(errors="surrogateescape")) > MOST_NAME_BYTES:
            return f"class id '{shown(class_id, 80)}' cannot name a folder"
        # some file systems do not tell upper from lower case, or the two ways in which Unicode writes an accent
        same = unicodedata.normalize("NFC", class_id).casefold()
        if same in beside:
            return f"class id '{shown(class_id)}' would be the same folder as {shown(beside[same])}"
        beside[same] = class_id
    return ""


def _padded(number: int, count: int) -> str:
    return f"{number:0{max(5, len(str(count - 1)))}d}"


def _encoded(condensed: CondensedSet, index: int) -> bytes:
    content, data = condensed.manifest.content, condensed.images[index]
    try:
        picture = open_picture(data, content["size"], content["channels"])
    except ValueError as error:
        raise UserError(f"{shown(condensed.path)}: ipc{condensed.ipc}, image {index} {error}") from error
    if content["image_format"] in _AS_STORED:
        return data
    buffer = io.BytesIO()
    picture.save(buffer, "png")
    return buffer.getvalue()


def _write_weights(out: str, condensed: CondensedSet, layout: Sequence[tuple[str, int]]) -> None:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["file", "label", "class_id", "weight", "count"])
    for name, index in layout:
        label = int(condensed.labels[index])
        weight, count = float(condensed.weights[index]), int(condensed.counts[index])
        table.writerow([csv_cell(name), label, csv_cell(condensed.classes.ids[label]), repr(weight), count])
    files.write_bytes(files.join(out, "weights.csv"), text.getvalue().encode())
    _save(files.join(out, "weights.pt"), condensed.weights[[index for _, index in layout]])


def _save(uri: str, tensor: Tensor) -> None:
    with stream.writer(uri) as file:
        torch.save(tensor.contiguous(), file)


def _channels(option: str, values: Sequence[float]) -> list[float]:
    numbers = [float(v) for v in values]
    if len(numbers) not in (1, 3) or (option == "std" and min(numbers) <= 0):
        wanted = "above 0" if option == "std" else "in [0, 1]"
        raise UserError(f"--{option} {' '.join(map(str, values))}: expected one number or three, {wanted}")
    return numbers * 3 if len(numbers) == 1 else numbers


def _normalized(condensed: CondensedSet, order: Sequence[int], mean: Sequence[float], std: Sequence[float]) -> Tensor:
    first = condensed[order[0]][0]
    images = torch.empty(len(order), 3, *first.shape[1:])
    shift, scale = (torch.tensor(values).view(3, 1, 1) for values in (mean, std))
    exact = condensed.float_pixels()
    for row, index in enumerate(order):
        image = condensed[index][0] if exact is None else exact[index]
        images[row] = (image - shift) / scale  # one channel becomes three here
    return images


def _soft_labels(condensed: CondensedSet, order: Sequence[int], spec: str, device: str) -> tuple[str, Tensor]:
    from raycond.labels.agreement import require_finite_logits
    from raycond.labels.registry import open_labeler

    labeler = open_labeler(spec, classes=condensed.classes, device=device)
    assert labeler.logits is not None
    parts = []
    for start in range(0, len(order), _LABEL_BATCH):
        images = torch.stack([condensed[index][0] for index in order[start : start + _LABEL_BATCH]])
        logits = labeler.logits(images).float().cpu()
        require_finite_logits(labeler.name, logits)
        parts.append(logits)
    return labeler.name, torch.cat(parts)


def _agreement(condensed: CondensedSet, order: Sequence[int], logits: Tensor) -> dict[str, Any]:
    """How the soft labels agree with the hard ones, and what is wrong if they seem to be of other classes."""
    from raycond.labels.agreement import agreement_of

    hard = condensed.labels[list(order)]
    found = agreement_of(logits.argmax(1), hard, len(condensed.classes), "images of the set")
    return {"images": found.images, "agreed": found.agreed, "text": str(found), "warning": found.warning}


def _readme(about: dict[str, Any]) -> str:
    use = {"ddranking": _ddranking, "rethinkdc": _rethinkdc, "folder": _folder}[about["kind"]](about)
    return f"""# {markdown_text(about["set"])}, condensed by {markdown_text(about["method"])}

{about["images"]} images, {about["ipc"]} for each of {len(about["classes"]["ids"])} classes: {KINDS[about["kind"]]}.

{use}
{_formation(about)}* `classes.json` lists the classes in label order.
* `weights.pt`, `weights.csv`: how much each image counts (mode {about["weights"]}, mean 1 per class), in the order of
  the images. Results of tools that do not read them are those of uniform weights. A cell that a spreadsheet would take
  for a formula begins with an apostrophe.
"""


def _formation(about: dict[str, Any]) -> str:
    """What to do with stored images that hold several training images."""
    factor = about.get("formation", {"factor": 1})["factor"]
    if factor == 1:
        return ""
    return (
        f"* Each image holds {factor} × {factor} training images as tiles (IDC), which its method enlarges to the full "
        "size before\n  training. Tools that do not know this train on the images as they are.\n"
    )


def _ddranking(about: dict[str, Any]) -> str:
    soft = about.get("labeler")
    metric = "LabelRobustScoreSoft" if soft else "LabelRobustScoreHard"
    load, argument, what = "", "", ""
    if soft:
        load, argument = '\nsoft_labels = torch.load("soft_labels.pt")', ", soft_labels=soft_labels"
        what = f"* `soft_labels.pt`: float32 logits of `{soft}` for each image as it is.\n"
    return f"""```python
import torch
from ddranking.config import Config
from ddranking.metrics import {metric}

images = torch.load("images.pt"){load}
metric = {metric}(Config.from_file("CONFIG.yaml"))  # whose ipc is {about["ipc"]}
print(metric.compute_metrics(image_tensor=images{argument}))
```

* `images.pt`: float32, class after class in label order, which must be that of ddranking's data set; pixels in [0, 1]
  minus {about["mean"]}, divided by {about["std"]}.
{what}* `images/`: the same images as class folders, for `image_path="images"`; custom_train_trans must then normalise.
* ddranking 0.2.0 puts percent into the exponential of its scores, which saturates there: take the HLR and IOR that it
  prints, divided by 100, and compute the score from these."""


def _rethinkdc(about: dict[str, Any]) -> str:
    other = ""
    if len(about["classes"]["ids"]) != 1000:
        other = (
            "\n* It is made for ImageNet-1K: give other classes `--hard`, as its teacher has 1000 outputs of its own."
        )
    return f"""```sh
IMAGENET_VAL_DIR=VAL rethinkdc train --soft --ipc {about["ipc"]} --output-dir results  # or --hard
```

* Folder k of `train` is label k, so the folders of VAL must be those classes and sort into the same order.
* Call it from here, with the path `train`: it takes a path with `he-y` in it for a name on the hub.
* rethinkdc 0.3.2 reads folders with torchvision below 0.18 only.{other}"""


def _folder(about: dict[str, Any]) -> str:
    ids = about["classes"]["ids"]
    order = "is" if ids == sorted(ids) else "is NOT"
    return f"* One folder for each class, named by its id; the sorted order of the ids {order} label order."
