"""The dataset card: front matter that the Hugging Face hub and `datasets` read, and a page for people."""

from __future__ import annotations

from typing import Any

import yaml

from raycond.core.text import shown
from raycond.sets.manifest import Manifest
from raycond.sets.tensors import LEARNED, LEARNED_KIND


def card(content: dict[str, Any]) -> str:
    """README.md of a set, from the content of its manifest: one configuration per IPC, the largest being the default.

    Each configuration names its files one by one. Their names hold digests of their content, and `datasets` keeps what
    it has read under a digest of these names: another set, or the same folder with a new set, is never taken for one
    that was read before.
    """
    manifest = Manifest(content)
    ipcs, classes = manifest.ipcs, manifest.classes
    rows = "\n".join(
        f"| `ipc{ipc}` | {cell['images']:,} | {cell['source_images']:,} | {_mean(cell, len(classes))} |"
        for ipc in ipcs
        for cell in [content["cells"][f"ipc{ipc}"]]
    )
    name, codec = content["name"], content["codec"]["name"]
    if "distortion" not in content["cells"][f"ipc{ipcs[-1]}"]:
        what = "the label of each image" if content["method"] == "LS" else "each image"
        about = f"{what} was optimized; it stands for `count` source images,\nan equal share of its class"
        source, latents = "names a real image that stands for the class, within the source", ""
    elif codec == "none":
        about = "each image is a collage of `count` patches of real images"
        source, latents = "names the images whose patches are in a collage, within the source", ""
    else:
        about = "each image stands for the `count` source images\nthat are nearest to its latent"
        source, latents = "is the real image nearest to the latent, within the source", f"; latents from {_code(codec)}"
    storage = ", ".join(f"{markdown_text(k.replace('_', ' '))} {v:,}" for k, v in content["storage_bytes"].items())
    return f"""---
{yaml.safe_dump(_front(manifest), sort_keys=False, allow_unicode=True).strip()}
---

# {markdown_text(name)}, condensed

{len(classes)} classes, condensed by {markdown_text(content["method"])} with raycond: {about},
and is to be trained on with its `weight` (mode {_code(content["weights"])}, mean 1 per class). Images
come from the generator {_code(content["generator"])}{latents}.

![preview](preview.png)

| configuration | images | source images | mean distortion |
|---|---|---|---|
{rows}

```python
import datasets, raycond
datasets.load_dataset("PATH", "ipc{ipcs[-1]}")["train"]  # image, label, weight, count, class_id, source_id
raycond.open("PATH", ipc={ipcs[-1]})                     # torch Dataset of (image, label, weight)
```

* A configuration `ipcN` has N images of each class. Distortion is the mean squared distance of a source image's latent
  to the nearest latent of the set.
* `source_id` {source}.
{_tensors(content)}{_labels(content)}* Bytes: {storage}.
* SHA-256 of the content: `{content.get("content_sha256", "")}`.
* Every file's SHA-256, the class order, the configuration and the seeds are in `manifest.json`; check them with
  `raycond verify PATH`. The terms of the source images apply to what was made from them.
"""


def _front(manifest: Manifest) -> dict[str, Any]:
    """What the hub and `datasets` read of the card."""
    ipcs = manifest.ipcs
    largest = max(cell["images"] for cell in manifest.content["cells"].values())
    return {
        "pretty_name": f"{shown(manifest.content['name'])}, condensed",
        "task_categories": ["image-classification"],
        "tags": ["dataset-condensation", "dataset-distillation", "raycond"],
        "size_categories": [_size(largest)],
        "configs": [
            {
                "config_name": f"ipc{ipc}",
                "data_files": [{"split": "train", "path": manifest.data_files(ipc)}],
                **({"default": True} if ipc == ipcs[-1] else {}),
            }
            for ipc in ipcs
        ],
    }


def _mean(cell: dict[str, Any], classes: int) -> str:
    return f"{sum(cell['distortion']) / classes:.5g}" if "distortion" in cell else "–"


def _tensors(content: dict[str, Any]) -> str:
    """How to use the float images, the constants of the real ones, and images that hold several."""
    text, factors = "", {one["factor"] for one in content.get("formation", {}).values()}
    if "normalization" in content:
        text += (
            "* `normalization` in `manifest.json` has the constants of the real images that the set was made from.\n"
        )
    if any(name.startswith("tensors/") for name in content["files"]):
        text += (
            "* `tensors/` holds the images as they were optimized, in the space of `normalization`, before they were\n"
            '  rounded to 8 bits: `raycond.open("PATH").tensors()["images"]`.\n'
        )
    if LEARNED_KIND in content["labels"]:
        text += (
            f'* Labels were learned: `.tensors()["{LEARNED}"]` has a number for each image and class, which protocol\n'
            "  `kip-transfer` trains on; `label` is the class of the image that learning began with.\n"
        )
    if (factor := max(factors, default=1)) > 1:
        text += (
            f"* Each image holds {factor} × {factor} training images as tiles, which are enlarged to the full size "
            "before training\n  (IDC; `formation` in `manifest.json`); `raycond evaluate` does so.\n"
        )
    return text


def _labels(content: dict[str, Any]) -> str:
    """How to use a projector that the set carries."""
    generator = content.get("label_generator")
    if generator is None:
        return ""
    base = generator["base"]
    where = "which is carried too" if base["carried"] else f"digest {base['digest'][:16]}, which is not in the set"
    return f"* Soft labels: `--labeler projector:PATH`, a delta on the CLIP {markdown_text(base['name'])}, {where}.\n"


def markdown_text(value: Any) -> str:
    """A name on a line of Markdown: it starts no element of HTML and no code."""
    return shown(value).replace("&", "&amp;").replace("<", "&lt;").replace("`", "&#96;")


def _code(value: Any) -> str:
    """A name in backquotes."""
    return f"`{shown(value).replace('`', chr(39))}`"


def _size(images: int) -> str:
    for limit, name in ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M")):
        if images < limit:
            return name
    return "1M<n<10M"
