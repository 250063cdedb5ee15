"""Addresses as people type them, made to hold on every machine and in every folder."""

from __future__ import annotations

import re

from raycond.core import files


def run_name(data: str) -> str:
    """A name for what comes from a source: /data/imagenet/train is imagenet."""
    parts = [part for part in re.split(r"[/:]+", data) if part not in ("", "train", "training")]
    name = re.sub(r"[^\w.-]+", "-", re.split(r"[{*?\[]", parts[-1])[0]) if parts else ""
    return re.sub(r"\.(tar|parquet)$", "", name).strip("-.") or "run"


def place(uri: str) -> str:
    """An address that workers in other folders can open; built-in sets (`digits:`) stay as they are."""
    return uri if uri.endswith(":") else files.absolute(uri)


def spec_place(spec: str) -> str:
    """`KIND:WHERE` with a WHERE that workers in other folders can open."""
    kind, _, where = spec.partition(":")
    local = where.partition("//")[0]
    return f"{kind}:{files.absolute(where)}" if local and files.exists(local) and "@" not in where else spec


def labeler_place(spec: str) -> str:
    """`teacher:NAME@FILE,…`, `projector:DIR[,clip=…]` or `stored:DIR` that workers in other folders can open."""
    kind, _, where = spec.partition(":")
    if kind in ("projector", "stored"):
        folder, comma, clip = where.partition(",clip=")
        return f"{kind}:{files.absolute(folder)}{comma}{clip_place(clip)}"
    head, at, rest = spec.partition("@")
    where, comma, more = rest.partition(",")
    return f"{head}@{files.absolute(where)}{comma}{more}" if at else spec


def clip_place(spec: str) -> str:
    """A local folder of a CLIP as every worker can open it; names of open_clip stay as they are."""
    return files.absolute(spec) if spec and files.exists(spec) else spec


def yaml_place(name: str) -> str:
    """A YAML file that workers in other folders can open; names of presets stay as they are."""
    return files.absolute(name) if name.endswith((".yaml", ".yml")) else name
