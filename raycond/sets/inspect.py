"""Say what a condensed set is, from its manifest alone."""

from __future__ import annotations

from raycond.core import files
from raycond.sets.manifest import read_manifest


def describe(path: str) -> str:
    """A page of text: method, classes, images and distortion per IPC, bytes. Raises UserError if it is no set."""
    manifest = read_manifest(files.absolute(path))
    content, classes = manifest.content, manifest.classes
    shown = ", ".join(classes.names[:10]) + (f", … {len(classes) - 10} more" if len(classes) > 10 else "")
    lines = [
        f"{content['name']}: {content['method']}, weights {content['weights']}, labels {content['labels']}",
        f"classes     {len(classes)}: {shown}",
        f"images      {content['channels']} × {content['size']} × {content['size']} {content['image_format']} "
        f"by {content['generator']}",
        f"codec       {content['codec']['name']} (sha256 {content['codec']['sha256'][:16]})",
        f"source      {content['source']['uri']} (sha256 {content['source']['sha256'][:16]}, "
        f"{content['source']['quarantined']} quarantined)",
        f"seed        {content['seed']}, raycond {content['raycond']}",
    ]
    if made := content.get("diffusion"):
        told = ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in made["options"].items() if v is not None)
        lines.insert(4, f"generator   {made['name']} (sha256 {made['sha256'][:16]}): {told}")
    for ipc in manifest.ipcs:
        cell = content["cells"][f"ipc{ipc}"]
        mean = sum(cell["distortion"]) / len(classes)
        lines.append(f"ipc{ipc:<8} {cell['images']:,} images for {cell['source_images']:,}, mean distortion {mean:.5g}")
    for what, size in content["storage_bytes"].items():
        lines.append(f"{what.replace('_', ' '):<20} {size:>14,} bytes")
    lines.append(f"files       {len(manifest.files)}, {sum(f['bytes'] for f in manifest.files.values()):,} bytes")
    return "\n".join(lines)
