"""The projector that a condensed set carries: labels that weigh a megabyte, in place of stored ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from raycond.core import files
from raycond.core.errors import UserError
from raycond.core.lock import locked
from raycond.core.text import shown
from raycond.data.classes import require_same
from raycond.labels.projector.delta import ABOUT, CLIP, DELTA, StoredProjector, read_projector
from raycond.labels.projector.labeler import IN_SET
from raycond.labels.stored import sizes
from raycond.sets.card import card
from raycond.sets.manifest import NAME, Manifest, read_manifest
from raycond.sets.place import set_folder
from raycond.sets.stored_files import name_problem

GENERATOR = "label_generator"
BASE = "label_generator_base"
BESIDE = ", projector"  # after the labels that a set has itself


def attach_projector(set_dir: str, projector_dir: str) -> dict[str, Any]:
    """Copy a projector into the set's labels/projector and note it in manifest and card; returns the manifest.

    set_dir may also be the folder of the set's run. storage_bytes gets `label_generator`, the delta with its JSON, and
    `label_generator_base`, a CLIP that is stored inside the projector's folder and so goes with it; a public one is
    only named. An earlier projector is replaced; what it had more goes when the manifest no longer lists it. Raises
    ClassMismatch for other classes and UserError for either folder, also for a file that a set must not have, and for
    a set that is being written.
    """
    folder, source = set_folder(set_dir), files.absolute(projector_dir)
    read_manifest(folder)  # a folder that is no set is not written to
    with locked(folder, "raycond attach"):
        return _attach(folder, source)


def _attach(folder: str, source: str) -> dict[str, Any]:
    manifest, stored = read_manifest(folder), read_projector(source)
    require_same(stored.classes, manifest.classes, str(stored), f"the set {shown(folder)}")
    stored.delta()  # neither a damaged delta nor a carried CLIP that is another is ever copied
    if stored.spec == CLIP:
        stored.clip()
    copied = {name: files.read_bytes(files.join(source, name)) for name in _names(source, stored)}
    former = {name for name in manifest.files if name.startswith(f"{IN_SET}/")}
    listed = {name: entry for name, entry in manifest.files.items() if name not in former}
    for name, data in copied.items():
        listed[f"{IN_SET}/{name}"] = _put(folder, f"{IN_SET}/{name}", data)
    delta_bytes = len(copied[DELTA]) + len(copied[ABOUT])
    content = {
        **manifest.content,
        "labels": f"{manifest.content['labels'].removesuffix(BESIDE)}{BESIDE}",
        GENERATOR: _about(stored),
        "storage_bytes": {
            **manifest.content["storage_bytes"],
            GENERATOR: delta_bytes,
            BASE: sum(map(len, copied.values())) - delta_bytes,
        },
    }
    listed["README.md"] = _put(folder, "README.md", card({**content, "files": listed}).encode())
    content["files"] = dict(sorted(listed.items()))
    files.write_json(files.join(folder, NAME), content)
    for name in former - set(listed):
        files.delete(files.join(folder, name))
    return content


def bytes_table(content: Mapping[str, Any]) -> str:
    """What the labels of a set that carries a projector weigh, each kind beside its images: a table for each IPC.

    content: of the manifest. The Parquet files of an IPC are counted whole as its images.
    """
    manifest, about, weighed = Manifest(dict(content)), content[GENERATOR], content["storage_bytes"]
    classes, base = len(manifest.classes), about["base"]
    spec = CLIP if base["carried"] else base["name"] if ":" in base["name"] else None
    carried = sizes.Projector(
        about["parameters"],
        about["dtype"],
        weighed[GENERATOR],
        base["name"],
        base["bytes"],
        base_note=sizes.base_note(spec),
    )
    parts = []
    for ipc in manifest.ipcs:
        images = content["cells"][f"ipc{ipc}"]["images"]
        stored = sum(manifest.files[name]["bytes"] for name in manifest.data_files(ipc))
        amounts = sizes.table(images, classes, image_bytes=stored, top_k=sizes.few_classes(classes), projector=carried)
        paper = sizes.paper_ratio(about["parameters"], images, classes)
        parts.append(f"IPC {ipc}, base model {base['name']}\n\n{sizes.markdown(amounts, paper=paper)}")
    return "\n".join(parts)


def projector_problems(path: str, manifest: Manifest) -> Iterator[str]:
    """What is wrong with the projector that the manifest says the set at `path` carries; nothing if it has none.

    For `verify`, which has looked at the files' digests.
    """
    noted = manifest.content.get(GENERATOR)
    if noted is None:
        return
    try:
        stored = read_projector(files.join(path, IN_SET))
        require_same(stored.classes, manifest.classes, IN_SET, "the manifest")
    except UserError as error:
        yield str(error)
        return
    if _about(stored) != noted:
        yield f"{IN_SET}/{ABOUT}: is of another projector than the manifest's {noted.get('name')}"
    listed = {n.removeprefix(f"{IN_SET}/"): f["bytes"] for n, f in manifest.files.items() if n.startswith(IN_SET)}
    if missing := [name for name in (DELTA, ABOUT) if name not in listed]:
        yield f"{IN_SET}/{missing[0]}: the manifest lists no such file"
        return
    weighed = manifest.content["storage_bytes"]
    if weighed.get(GENERATOR) != (own := listed[DELTA] + listed[ABOUT]):
        yield f"manifest.json: {GENERATOR} {weighed.get(GENERATOR)} bytes, the files have {own}"
    if weighed.get(BASE) != (base := sum(listed.values()) - own):
        yield f"manifest.json: {BASE} {weighed.get(BASE)} bytes, the files have {base}"


def _names(source: str, stored: StoredProjector) -> list[str]:
    """The projector's files: the delta first, and last the JSON that says which delta it belongs to."""
    inside = files.join(source, CLIP)
    carried = files.listdir(inside) if stored.spec == CLIP and files.exists(inside) else []
    names = [DELTA, *(f"{CLIP}/{entry.name}" for entry in carried if not entry.is_dir), ABOUT]
    for name in names:
        if problem := name_problem(f"{IN_SET}/{name}"):
            raise UserError(f"{shown(files.join(source, name))}: cannot go into a set: {problem}")
    return names


def _about(stored: StoredProjector) -> dict[str, Any]:
    return {
        "kind": "projector",
        "name": stored.name,
        "digest": stored.digest,
        "dtype": stored.dtype,
        "parameters": stored.parameters,
        "base": {
            "name": stored.clip_name,
            "digest": stored.clip_digest,
            "bytes": stored.clip_bytes,
            "carried": stored.spec == CLIP,
        },
    }


def _put(folder: str, name: str, data: bytes) -> dict[str, Any]:
    files.write_bytes(files.join(folder, name), data)
    return {"sha256": files.sha256(data), "bytes": len(data)}
