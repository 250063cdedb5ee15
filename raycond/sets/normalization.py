"""The constants of the real images that a set was made from: they travel with it, for whoever trains on it.

Published methods normalize by the statistics of the real training images, in the making of a set and in its
evaluation; those of a few condensed images are others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from safetensors.torch import load, save

from raycond.core import files
from raycond.core.errors import UserError, parsing
from raycond.core.text import shown
from raycond.methods.kernels.whitening import Preprocessing
from raycond.sets.stored_files import read_stored

CHANNELS, WHITENING = "channels", "whitening"


@dataclass(frozen=True)
class Normalization:
    """How pixels in [0, 1] become what students see, as a manifest says it. Small and picklable: the matrix of a
    whitening stays in its file."""

    mean: tuple[float, ...] = ()
    """Of each channel in [0, 1]; empty for a whitening."""

    std: tuple[float, ...] = ()
    """Standard deviation of each channel; empty for a whitening."""

    folder: str = ""
    """Of the set, for a whitening."""

    file: str = ""
    """Name of the whitening's file in the set."""

    sha256: str = ""
    """Of that file."""

    bytes: int = 0
    """Of that file."""

    @classmethod
    def of(cls, folder: str, content: Mapping[str, Any]) -> Normalization | None:
        """That of a set, from its folder and the content of its manifest; None if it has none."""
        about = content.get("normalization")
        if about is None:
            return None
        if about["kind"] == CHANNELS:
            return cls(tuple(map(float, about["mean"])), tuple(map(float, about["std"])))
        return cls(folder=folder, file=about["file"], **content["files"][about["file"]])

    @property
    def kind(self) -> str:
        return WHITENING if self.file else CHANNELS

    @property
    def keeps_pixels(self) -> bool:
        """Whether an image can go to the space of students and back to the same pixels."""
        return self.kind == CHANNELS

    @property
    def identity(self) -> dict[str, Any]:
        """What tells it from others, wherever its file lies."""
        return {"sha256": self.sha256} if self.file else {"mean": list(self.mean), "std": list(self.std)}

    def open(self, shape: Sequence[int]) -> Preprocessing:
        """As `raycond.methods.kernels.whitening` computes it. shape: (C, H, W) of the images.

        Raises UserError, naming the file, where it is missing, damaged or of other images.
        """
        if not self.file:
            return channels(self.mean, self.std)
        data = read_stored(self.folder, self.file, {"sha256": self.sha256, "bytes": self.bytes})
        where = shown(files.join(self.folder, self.file))
        with parsing(where, "the normalization of a condensed set"):
            found = Preprocessing.load(load(data))
        if problem := _problem(found, shape):
            raise UserError(f"{where}: damaged: {problem}")
        return found


def channels(mean: Sequence[float], std: Sequence[float]) -> Preprocessing:
    """(x − mean) / std per channel."""
    of_mean, of_std = (torch.tensor(values, dtype=torch.float64).view(-1, 1, 1) for values in (mean, std))
    return Preprocessing(of_mean, of_std)


def stored(normalization: Preprocessing) -> bytes | None:
    """The file of one that a manifest does not hold itself; None for constants of channels."""
    if normalization.whitening is None and not normalization.layer_norm:
        return None
    return save({name: tensor.contiguous() for name, tensor in normalization.tensors().items()})


def identity(normalization: Preprocessing) -> dict[str, Any]:
    """What tells it from others."""
    data = stored(normalization)
    return described(normalization) if data is None else {"sha256": files.sha256(data)}


def described(normalization: Preprocessing, file: str = "") -> dict[str, Any]:
    """What the manifest says of it. file: the name of its file, for a whitening."""
    if file:
        return {"kind": WHITENING, "file": file}
    found = Normalization(tuple(normalization.mean.flatten().tolist()), tuple(normalization.std.flatten().tolist()))
    return {"kind": CHANNELS, **{key: list(asdict(found)[key]) for key in ("mean", "std")}}


def _problem(found: Preprocessing, shape: Sequence[int]) -> str:
    """What is wrong with a normalization that was read from a file."""
    channel_shape, pixels = (shape[0], 1, 1), shape[0] * shape[1] * shape[2]
    for name, tensor, expected in (
        ("mean", found.mean, channel_shape),
        ("std", found.std, channel_shape),
        ("whitening", found.whitening, (pixels, pixels)),
    ):
        if tensor is None:
            continue
        if tensor.dtype != torch.float64 or tuple(tensor.shape) != expected or not bool(tensor.isfinite().all()):
            return f"{name} is {tensor.dtype} {tuple(tensor.shape)}; expected finite float64 numbers {expected}"
    if not bool((found.std > 0).all()) or not 0 < found.norm < float("inf"):
        return "std and norm must be above 0"
    return ""
