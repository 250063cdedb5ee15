"""The dataset card: front matter that the Hugging Face hub and `datasets` read, and a page for people."""

from __future__ import annotations

from typing import Any

import yaml


def card(manifest: dict[str, Any]) -> str:
    """README.md of a set: one configuration per IPC, the largest being the default."""
    ipcs = manifest["ipc"]
    configs = [
        {
            "config_name": f"ipc{ipc}",
            "data_files": [{"split": "train", "path": f"data/ipc{ipc}/train-*.parquet"}],
            **({"default": True} if ipc == ipcs[-1] else {}),
        }
        for ipc in ipcs
    ]
    classes = manifest["classes"]["ids"]
    largest = max(cell["images"] for cell in manifest["cells"].values())
    front = {
        "pretty_name": f"{manifest['name']}, condensed",
        "task_categories": ["image-classification"],
        "tags": ["dataset-condensation", "dataset-distillation", "raycond"],
        "size_categories": [_size(largest)],
        "configs": configs,
    }
    rows = "\n".join(
        f"| `ipc{ipc}` | {cell['images']:,} | {cell['source_images']:,} | {mean:.5g} |"
        for ipc in ipcs
        for cell in [manifest["cells"][f"ipc{ipc}"]]
        for mean in [sum(cell["distortion"]) / len(classes)]
    )
    if manifest["codec"]["name"] == "none":
        about = "each image is a collage of `count` patches of real images"
        source, latents = "names the images whose patches are in a collage, within the source", ""
    else:
        about = "each image stands for the `count` source images\nthat are nearest to its latent"
        source = "is the real image nearest to the latent, within the source"
        latents = f"; latents from `{manifest['codec']['name']}`"
    storage = ", ".join(f"{k.replace('_', ' ')} {v:,}" for k, v in manifest["storage_bytes"].items())
    return f"""---
{yaml.safe_dump(front, sort_keys=False, allow_unicode=True).strip()}
---

# {manifest["name"]}, condensed

{len(classes)} classes, condensed by {manifest["method"]} with raycond: {about},
and is to be trained on with its `weight` (mode `{manifest["weights"]}`, mean 1 per class). Images
come from the generator `{manifest["generator"]}`{latents}.

![preview](preview.png)

| configuration | images | source images | mean distortion |
|---|---|---|---|
{rows}

```python
import datasets, raycond
datasets.load_dataset("PATH", "ipc{ipcs[-1]}")["train"]  # image, label, weight, count, class_id, source_id
raycond.open("PATH", ipc={ipcs[-1]})                     # torch Dataset of (image, label, weight)
```

* `source_id` {source}.
{_labels(manifest)}* Bytes: {storage}.
* Every file's SHA-256, the class order, the configuration and the seeds are in `manifest.json`; check them with
  `raycond verify PATH`. The terms of the source images apply to what was made from them.
"""


def _labels(manifest: dict[str, Any]) -> str:
    """How to use a projector that the set carries."""
    generator = manifest.get("label_generator")
    if generator is None:
        return ""
    base = generator["base"]
    where = "which is carried too" if base["carried"] else f"digest {base['digest'][:16]}, which is not in the set"
    return f"* Soft labels: `--labeler projector:PATH`, a delta on the CLIP {base['name']}, {where}.\n"


def _size(images: int) -> str:
    for limit, name in ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M")):
        if images < limit:
            return name
    return "1M<n<10M"
