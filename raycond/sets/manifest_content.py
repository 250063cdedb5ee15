"""What manifest.json must hold, checked before any of it is used."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any, Literal, NotRequired

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from raycond.core.text import shown
from raycond.methods.quantize.codebook import WEIGHT_MODES
from raycond.sets.stored_files import name_problem

MOST_PIXELS = 65_535  # a side: the most that JPEG holds


def _utf8(text: str) -> str:
    text.encode()  # UnicodeEncodeError is a ValueError, which pydantic reports
    return text


_Text = Annotated[str, AfterValidator(_utf8)]
_Count = Annotated[int, Field(ge=0)]
_Digest = Annotated[_Text, Field(min_length=1, max_length=256)]
_Number = Annotated[float, Field(allow_inf_nan=False)]


class _File(TypedDict):
    bytes: _Count
    sha256: _Digest


class _Classes(TypedDict):
    ids: Annotated[list[_Text], Field(min_length=1)]
    names: Annotated[list[_Text], Field(min_length=1)]


class _Cell(TypedDict):
    """One IPC: how many images it has, how many source images they stand for, and the distortion of each class where
    they were made from the centroids of its latents."""

    images: _Count
    source_images: _Count
    distortion: NotRequired[list[_Number]]


class _Codec(TypedDict):
    name: _Text
    sha256: _Text
    channels: _Count


class _Source(TypedDict):
    uri: _Text
    sha256: _Text
    quarantined: _Count


class _Content(TypedDict):
    """The parts that readers rely on; a manifest may hold more."""

    name: _Text
    method: _Text
    generator: _Text
    size: Annotated[int, Field(ge=1, le=MOST_PIXELS)]
    channels: Literal[1, 3]
    image_format: Literal["png", "jpeg", "webp"]
    weights: _Text
    labels: _Text
    seed: int
    raycond: _Text
    classes: _Classes
    ipc: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)]
    cells: dict[str, _Cell]
    codec: _Codec
    source: _Source
    config: dict[str, Any]
    storage_bytes: dict[str, _Count]
    files: dict[str, _File]


class _Diffusion(TypedDict):
    name: _Text
    sha256: _Text
    options: dict[str, Any]


class _Base(TypedDict):
    name: _Text
    digest: _Text
    bytes: _Count
    carried: bool


class _LabelGenerator(TypedDict):
    name: _Text
    digest: _Text
    dtype: _Text
    parameters: _Count
    base: _Base


class _Channels(TypedDict):
    kind: Literal["channels"]
    mean: list[_Number]
    std: list[Annotated[float, Field(gt=0, allow_inf_nan=False)]]


class _Whitening(TypedDict):
    kind: Literal["whitening"]
    file: _Text


class _Formation(TypedDict):
    """How stored images become training images (IDC): `raycond.methods.match.formation`."""

    factor: Annotated[int, Field(ge=1, le=MOST_PIXELS)]
    decoder: Literal["single", "multi", "bound"]
    bound: Annotated[int, Field(ge=1)]


_OPTIONAL: dict[str, Any] = {
    "diffusion": _Diffusion,
    "label_generator": _LabelGenerator,
    "normalization": Annotated[_Channels | _Whitening, Field(discriminator="kind")],
    "formation": dict[str, _Formation],  # by IPC
}


def content_problem(content: Any) -> str:
    """The first thing in a manifest that is missing or wrong, in words; nothing if readers can rely on it."""
    if problem := _problem(_Content, content):
        return problem
    for name, kind in _OPTIONAL.items():
        if name in content and (problem := _problem(kind, content[name], name)):
            return problem
    return _disagreement(content)


def _problem(kind: Any, content: Any, inside: str = "") -> str:
    try:
        _adapter(kind).validate_python(content, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        parts = [*([inside] if inside else []), *(shown(part, 80) for part in first["loc"])]
        where = ".".join(parts) or "its content"
        return f"missing or wrong {where!r}" + ("" if first["type"] == "missing" else f": {shown(first['msg'])}")
    return ""


def _disagreement(content: dict[str, Any]) -> str:
    """Parts of the right kind that do not fit together."""
    classes, ipcs = content["classes"], content["ipc"]
    if content["weights"] not in WEIGHT_MODES:
        return f"missing or wrong 'weights': {shown(content['weights'], 40)} is not one of {', '.join(WEIGHT_MODES)}"
    if len(classes["ids"]) != len(classes["names"]):
        return f"{len(classes['ids'])} class ids, but {len(classes['names'])} names"
    if len(set(classes["ids"])) != len(classes["ids"]):
        return "a class id is there twice"
    if ipcs != sorted(set(ipcs)):
        return "'ipc' does not ascend"
    for ipc in ipcs:
        cell = content["cells"].get(f"ipc{ipc}")
        if cell is None:
            return f"missing or wrong 'cells.ipc{ipc}'"
        if len(cell.get("distortion", classes["ids"])) != len(classes["ids"]):
            return f"'cells.ipc{ipc}.distortion' has {len(cell['distortion'])} values for {len(classes['ids'])} classes"
    if problem := _normalization_problem(content):
        return f"missing or wrong 'normalization': {problem}"
    for name, formation in content.get("formation", {}).items():
        if formation["factor"] > content["size"]:
            more = f"more tiles than the {content['size']} pixels of a side"
            return f"missing or wrong 'formation.{shown(name, 40)}.factor': {more}"
    for name in content["files"]:
        if problem := name_problem(name):
            return f"file '{shown(name)}': {problem}"
    return ""


def _normalization_problem(content: dict[str, Any]) -> str:
    """What is wrong with the constants that the float images of a set need."""
    about = content.get("normalization")
    if about is None:
        needed = any(name.startswith("tensors/ipc") for name in content["files"])
        return "the set has float images, which are in its space" if needed else ""
    if about["kind"] == "whitening":
        return "" if about["file"] in content["files"] else f"file '{shown(about['file'], 80)}' is not listed"
    if {len(about["mean"]), len(about["std"])} != {content["channels"]}:
        return f"expected a mean and a deviation for each of {content['channels']} channels"
    return ""


@lru_cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
