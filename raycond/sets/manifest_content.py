"""What manifest.json must hold, checked before any of it is used."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any, Literal

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
    """One IPC: how many images it has, how many source images they stand for, the distortion of each class."""

    images: _Count
    source_images: _Count
    distortion: list[_Number]


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


_OPTIONAL: dict[str, Any] = {"diffusion": _Diffusion, "label_generator": _LabelGenerator}


def content_problem(content: Any) -> str:
    """The first thing in a manifest that is missing or wrong, in words; nothing if readers can rely on it."""
    try:
        _adapter(_Content).validate_python(content, strict=True)
        for name, kind in _OPTIONAL.items():
            if name in content:
                _adapter(kind).validate_python(content[name], strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(shown(part, 80) for part in first["loc"]) or "its content"
        return f"missing or wrong {where!r}" + ("" if first["type"] == "missing" else f": {shown(first['msg'])}")
    return _disagreement(content)


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
        if len(cell["distortion"]) != len(classes["ids"]):
            return f"'cells.ipc{ipc}.distortion' has {len(cell['distortion'])} values for {len(classes['ids'])} classes"
    for name in content["files"]:
        if problem := name_problem(name):
            return f"file '{shown(name)}': {problem}"
    return ""


@lru_cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
