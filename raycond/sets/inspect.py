"""Say what a condensed set is, from its manifest alone."""

from __future__ import annotations

from typing import Any

from raycond.core.text import shown
from raycond.sets.manifest import read_manifest


def describe(path: str) -> str:
    """A page of text on the set at `path`, or in the run there: method, classes, images and distortion per IPC, bytes.

    Names come from the set and are shown with their control characters escaped. Raises UserError if it is no set.
    """
    manifest = read_manifest(path)
    content, classes = manifest.content, manifest.classes
    names = ", ".join(shown(name, 40) for name in classes.names[:10])
    if len(classes) > 10:
        names += f", … {len(classes) - 10} more"
    source, codec = content["source"], content["codec"]
    lines = [
        f"{shown(content['name'])}: {shown(content['method'])}, weights {content['weights']}, "
        f"labels {shown(content['labels'])}",
        f"classes     {len(classes)}: {names}",
        f"images      {content['channels']} × {content['size']} × {content['size']} {content['image_format']} "
        f"by {shown(content['generator'])}",
        *_generator(content),
        *_normalization(content),
        f"codec       {shown(codec['name'])} (sha256 {shown(codec['sha256'][:16])})",
        f"source      {shown(source['uri'])} (sha256 {shown(source['sha256'][:16])}, "
        f"{source['quarantined']} quarantined)",
        f"seed        {content['seed']}, raycond {shown(content['raycond'])}",
    ]
    for ipc in manifest.ipcs:
        cell = content["cells"][f"ipc{ipc}"]
        parts = [f"{cell['images']:,} images for {cell['source_images']:,} of the source"]
        if "distortion" in cell:
            parts.append(f"mean distortion {sum(cell['distortion']) / len(classes):.5g}")
        if manifest.tensor_files(ipc):
            parts.append("float tensors beside them")
        if (formation := content.get("formation", {}).get(f"ipc{ipc}")) is not None:
            factor = formation["factor"]
            parts.append(f"{factor} × {factor} training images in each (decoder {formation['decoder']})")
        lines.append(f"ipc{ipc:<8} {ipc:,} per class: {', '.join(parts)}")
    for what, size in content["storage_bytes"].items():
        lines.append(f"{shown(what.replace('_', ' '), 40):<20} {size:>14,} bytes")
    lines.append(f"files       {len(manifest.files)}, {sum(f['bytes'] for f in manifest.files.values()):,} bytes")
    return "\n".join(lines)


def _generator(content: dict[str, Any]) -> list[str]:
    """A line on the diffusion model that made the images, if one did."""
    model = content.get("diffusion")
    if model is None:
        return []
    options = ", ".join(
        f"{shown(k.replace('_', ' '), 40)} {shown(v, 80)}" for k, v in model["options"].items() if v is not None
    )
    return [f"generator   {shown(model['name'])} (sha256 {shown(model['sha256'][:16])}): {options}"]


def _normalization(content: dict[str, Any]) -> list[str]:
    """A line on the constants of the real images, if the set has them."""
    about = content.get("normalization")
    if about is None:
        return []
    text = f"whitening, {shown(about.get('file', ''))}"
    if about["kind"] == "channels":
        mean, std = (" ".join(f"{value:.4f}" for value in about[key]) for key in ("mean", "std"))
        text = f"mean {mean}, deviation {std} (of the real images)"
    return [f"normalized  {text}"]
