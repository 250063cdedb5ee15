"""Class ids to names for people, and class lists kept beside the data."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from raycond.core import files
from raycond.core.errors import UserError
from raycond.data.classes import Classes

_SYNSET = re.compile(r"n\d{8}$")


def named(ids: Sequence[str]) -> Classes:
    """Classes with WordNet ids named by their first lemma where timm knows them all, else by the ids."""
    return Classes.of(ids, _lemmas(ids))


def _lemmas(ids: Sequence[str]) -> list[str] | None:
    if not ids or not all(_SYNSET.match(class_id) for class_id in ids):
        return None
    try:
        from timm.data.imagenet_info import ImageNetInfo

        info = ImageNetInfo("imagenet-22k")
        return [info.label_name_to_description(class_id).split(",")[0] for class_id in ids]
    except (ImportError, KeyError):
        return None


def read_class_list(folders: Sequence[str]) -> tuple[Classes | None, str]:
    """The class list in classes.json or classes.txt of the first folder that has one, and its content's digest.

    classes.json: a list of ids, an object id -> name, or {"ids": [...], "names": [...]}.
    classes.txt: one class a line, in order; a WordNet id at the start of a line is the id and the rest the name.
    Raises UserError if the file cannot be understood.
    """
    for folder in dict.fromkeys(folders):
        for name in ("classes.json", "classes.txt"):
            uri = files.join(folder, name)
            if files.exists(uri):
                data = files.read_bytes(uri)
                return _parse(uri, data), files.sha256(data)
    return None, ""


def _parse(uri: str, data: bytes) -> Classes:
    try:
        text = data.decode("utf-8-sig")
        classes = _from_json(json.loads(text)) if uri.endswith(".json") else _from_lines(text)
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{uri}: expected a list of class ids, an object id -> name, or ids and names; {error}"
        ) from error
    if not len(classes):
        raise UserError(f"{uri}: holds no class")
    return classes


def _from_json(value: Any) -> Classes:
    if isinstance(value, list):
        return named([str(item) for item in value])
    if set(value) == {"ids", "names"}:
        return Classes.from_dict(value)
    return Classes.of([str(key) for key in value], [str(name) for name in value.values()])


def _from_lines(text: str) -> Classes:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    heads = [line.split()[0] for line in lines]
    if not all(_SYNSET.match(head) for head in heads):
        return Classes.of(lines)
    rests = [line[len(head) :].split(",")[0].strip() for line, head in zip(lines, heads, strict=True)]
    return Classes.of(heads, rests) if all(rests) else named(heads)
