"""A projector on disk: its delta as safetensors, and JSON that names the public CLIP it belongs to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import safetensors
import torch
from safetensors.torch import load, save
from torch import Tensor

from raycond.core import files
from raycond.core.errors import RaycondError, UserError
from raycond.data.classes import Classes, require_same
from raycond.labels.projector.network import Projector, ProjectorOptions
from raycond.models.clip import CONFIG, Clip, describe_clip, open_clip_model

Dtype = Literal["float32", "float16", "int8"]
FORMAT_VERSION = 1
ABOUT, DELTA, CLIP = "projector.json", "delta.safetensors", "clip"
_SCALE = ".scale"  # after a tensor's name: what its int8 numbers are to be multiplied by
_BITS = 127


@dataclass(frozen=True)
class StoredProjector:
    """What `folder` holds, as its projector.json says: nothing is loaded yet.

    clip_bytes: of its weights, both towers. spec: of the CLIP: MODEL:TAG, "clip" for the folder beside the delta, or
    None for a folder that was not stored.
    bytes: of the delta's file. parameters: numbers in the delta. about: what the fit says of itself.
    """

    folder: str
    name: str
    clip_name: str
    clip_digest: str
    clip_bytes: int
    spec: str | None
    classes: Classes
    options: ProjectorOptions
    dtype: Dtype
    parameters: int
    sha256: str
    bytes: int
    about: dict[str, Any]

    def __str__(self) -> str:
        return f"projector {self.folder}"

    @property
    def digest(self) -> str:
        """Changes with whatever changes a label."""
        options, classes = self.options.to_dict(), self.classes.to_dict()
        return files.digest([FORMAT_VERSION, self.sha256, self.clip_digest, classes, options, self.dtype])

    def clip(self, other: str | None = None) -> str:
        """The CLIP's spec to open: `other`, the folder `clip` beside the delta, or the hub's.

        Raises UserError if there is none or its digest is another.
        """
        spec = self._spec(other)
        with self._told():
            self._require(*describe_clip(spec, safetensors_only=not other))
        return spec

    def open_clip(self, other: str | None = None) -> Clip:
        """The CLIP itself, on the CPU. Raises as `clip`."""
        spec = self._spec(other)
        with self._told():
            model = open_clip_model(spec, device="cpu", safetensors_only=not other)
            self._require(model.name, model.digest)
        return model

    def _spec(self, other: str | None) -> str:
        if other:
            return other
        beside = files.join(self.folder, CLIP)
        # beside a projector of the hub's CLIP it may be left from an earlier fit, or be a copy of the hub's
        if files.exists(files.join(beside, CONFIG)) and (
            self.spec in (None, CLIP) or describe_clip(beside, safetensors_only=True)[1] == self.clip_digest
        ):
            return beside
        if self.spec is None or self.spec == CLIP:
            raise UserError(
                f"{self}: was fitted on the CLIP folder {self.clip_name!r}, which is not here: copy that folder to "
                f"{beside}, or give it as projector:DIR,clip=FOLDER"
            )
        return self.spec

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except UserError as error:
            where = files.join(self.folder, CLIP)
            raise UserError(f"{self}: {error}\nSuch a folder is also found at {where}") from error

    def _require(self, name: str, digest: str) -> None:
        if digest != self.clip_digest:
            raise UserError(
                f"was fitted on {self.clip_name} of digest {self.clip_digest[:16]}, and {name} has {digest[:16]}: "
                "give the very CLIP that it was fitted on"
            )

    def delta(self) -> dict[str, Tensor]:
        """The delta as float32. Raises UserError for a file that is missing or is not what projector.json says."""
        uri = files.join(self.folder, DELTA)
        try:
            data = files.read_bytes(uri)
        except OSError as error:
            raise UserError(f"{uri}: cannot be read: {error.strerror or error}") from error
        if files.sha256(data) != self.sha256:
            raise UserError(f"{uri}: its SHA-256 is not the one in {ABOUT}: copy the projector again")
        try:
            return unpack(load(data))
        except (safetensors.SafetensorError, KeyError) as error:
            raise UserError(f"{uri}: damaged: {type(error).__name__}: {error}") from error


def save_projector(
    folder: str, projector: Projector, dtype: Dtype, about: Mapping[str, Any] | None = None
) -> tuple[str, ...]:
    """Write the delta of a projector into a folder; the names of its files. Returns after projector.json, the last.

    dtype: float32, float16, or int8 with one float32 scale for each row or column, whichever are fewer. about: anything
    for JSON; its `name` is shown for the projector in place of the CLIP's. A CLIP in the folder `clip` beside the delta
    is noted as such, one of the hub by its name, and of any other folder only name and digest. Raises RaycondError for
    a delta that is not finite.
    """
    folder = files.absolute(folder)
    clip, delta = projector.clip, projector.delta()
    if bad := [name for name, tensor in delta.items() if not tensor.isfinite().all()]:
        raise RaycondError(f"projector: {bad[0]} of the delta is not finite: the fit has diverged")
    data = save(pack(delta, dtype), {"format": "pt"})
    content = {
        "format_version": FORMAT_VERSION,
        "clip": {
            "name": clip.name,
            "digest": clip.digest,
            "spec": _portable(folder, clip.spec, clip.carrier),
            "bytes": clip.bytes,
        },
        "classes": projector.classes.to_dict(),
        "options": projector.options.to_dict(),
        "dtype": dtype,
        "parameters": projector.count,
        "delta": {"sha256": files.sha256(data), "bytes": len(data)},
        "about": dict(about or {}),
    }
    files.delete(files.join(folder, ABOUT))
    files.write_bytes(files.join(folder, DELTA), data)
    files.write_json(files.join(folder, ABOUT), content)
    return DELTA, ABOUT


def read_projector(folder: str) -> StoredProjector:
    """What projector.json says. Raises UserError if there is none, it is damaged, or of another format."""
    folder = files.absolute(folder)
    uri = files.join(folder, ABOUT)
    if not files.exists(uri):
        raise UserError(f"projector {folder}: no {ABOUT}: expected a folder that fit_projector.py wrote")
    try:
        content = files.read_json(uri)
        if content["format_version"] != FORMAT_VERSION:
            raise UserError(f"{uri}: format version {content['format_version']}; this raycond reads {FORMAT_VERSION}")
        clip, about, spec = content["clip"], dict(content["about"]), content["clip"]["spec"]
        if spec not in (None, CLIP) and (":" not in spec or "/" in spec):
            raise ValueError(f"its CLIP is {spec!r}")
        if content["dtype"] not in get_args(Dtype):
            raise ValueError(f"its dtype is {content['dtype']!r}")
        return StoredProjector(
            folder,
            str(about.get("name") or clip["name"]),
            *(clip["name"], clip["digest"], int(clip["bytes"]), spec),
            Classes.from_dict(content["classes"]),
            ProjectorOptions.from_dict(content["options"]),
            content["dtype"],
            *(int(content["parameters"]), content["delta"]["sha256"], int(content["delta"]["bytes"])),
            about,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{uri}: damaged: {type(error).__name__}: {error}") from error


def describe_projector(folder: str, classes: Classes, *, clip: str | None = None) -> tuple[str, str]:
    """(name, digest) of the projector in a folder, after every check that needs no device: classes, delta, CLIP.

    clip: the CLIP's folder or MODEL:TAG, in place of what the projector says. Raises ClassMismatch for other classes
    and UserError for the rest.
    """
    stored = _checked(folder, classes)
    stored.delta()
    stored.clip(clip)
    return stored.name, stored.digest


def open_projector(
    folder: str, device: str | torch.device, *, classes: Classes | None = None, clip: str | None = None
) -> Projector:
    """The projector of a folder, ready for labels or for more training. Raises as `describe_projector`."""
    stored = _checked(folder, classes)
    delta = stored.delta()
    model = stored.open_clip(clip)
    # a head that is learned as a whole comes with the delta: the texts would only be thrown away
    head = None if stored.options.head == "text" else torch.zeros(len(stored.classes), model.width)
    projector = Projector(model, stored.classes, stored.options, device, head=head)
    try:
        projector.load_delta(delta)
    except UserError as error:
        raise UserError(f"{stored}: {error}") from error
    return projector


def pack(delta: Mapping[str, Tensor], dtype: Dtype) -> dict[str, Tensor]:
    """A delta as it is stored, on the CPU; int8 tensors have a `NAME.scale`. Raises UserError for an unknown dtype."""
    plain = {name: tensor.detach().float().cpu().contiguous() for name, tensor in delta.items()}
    if dtype == "float32":
        return plain
    if dtype == "float16":
        return {name: tensor.half() for name, tensor in plain.items()}
    if dtype != "int8":
        raise UserError(f"dtype {dtype!r}: expected {', '.join(get_args(Dtype))}")
    packed: dict[str, Tensor] = {}
    for name, tensor in plain.items():
        # along the shorter side are the ranks, each with a size of its own, and the fewest scales to store
        most = tensor.abs().amax(1 if tensor.shape[0] <= tensor.shape[1] else 0, keepdim=True)
        scale = torch.where(most > 0, most / _BITS, torch.ones_like(most))
        packed[name] = (tensor / scale).round().clamp(-_BITS, _BITS).to(torch.int8)
        packed[name + _SCALE] = scale
    return packed


def unpack(packed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A stored delta as float32. Raises KeyError if an int8 tensor has no scale."""
    return {
        name: tensor.float() * packed[name + _SCALE] if tensor.dtype == torch.int8 else tensor.float()
        for name, tensor in packed.items()
        if not name.endswith(_SCALE)
    }


def _checked(folder: str, classes: Classes | None) -> StoredProjector:
    stored = read_projector(folder)
    if classes is not None:
        require_same(stored.classes, classes, str(stored), "the set")
    return stored


def _portable(folder: str, spec: str, carrier: str | None) -> str | None:
    """The CLIP's spec without the folders of this machine."""
    if carrier is None:
        return spec
    return CLIP if carrier.rstrip("/") == files.join(folder, CLIP) else None
