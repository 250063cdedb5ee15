"""The stage that writes a condensed set, once: a rerun finds it, and keeps a projector attached to it since."""

from __future__ import annotations

import os
from typing import Any

from raycond.core import files, records
from raycond.core.errors import UserError
from raycond.core.lock import locked
from raycond.sets.manifest import NAME, read_manifest
from raycond.sets.writer import SetWriter


def write_set(writer: SetWriter, about: dict[str, Any], *, record: str, parts: Any) -> tuple[dict[str, Any], bool]:
    """The manifest, and whether the set was written now: it is only where it is missing, stale or damaged.

    about: what the manifest says of where the set comes from. record: where the completion record lies. parts: plain
    values, such as digests, that stand for all images and weights of the set. Raises UserError if another run is
    changing the set.
    """
    output = writer.folder
    expected = records.fingerprint(
        stage="set", about=about, classes=writer.classes.to_dict(), made_of=parts, **writer.identity
    )
    facts = records.find(record, expected)
    if facts is not None:
        content = _unharmed(output, about, facts["manifest"])
        if content is not None:
            return content, False
    with locked(output, "a run that writes this set"):
        files.sweep(output)
        manifest = writer.write(about)
        records.finish(record, expected, None, manifest=records.measured(files.join(output, NAME)))
    return manifest, True


def _unharmed(output: str, about: dict[str, Any], written: dict[str, Any]) -> dict[str, Any] | None:
    """The manifest of a set that is as it was written, or has had a projector attached since; else None."""
    try:
        content = read_manifest(output).content
    except UserError:
        return None
    attached = "label_generator" in content and all(content.get(k) == v for k, v in about.items())
    same = attached or records.whole(files.join(output, NAME), written)
    return content if same and records.all_whole(output, content["files"]) else None


def public_uri(uri: str) -> str:
    """A source's address without the folders of this machine: a set is made to be given away."""
    return os.path.basename(uri.rstrip("/")) if files.is_local(uri) and not uri.endswith(":") else uri
