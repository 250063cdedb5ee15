"""What a family of students is: networks of one kind by depth, width and other options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from torch import nn


@dataclass(frozen=True)
class Family:
    """Networks that are named KIND, a depth, and options after hyphens, as in convnet4-w64-bn."""

    network: Callable[..., nn.Module]
    """Called with the depth (if there are depths), then by name `classes`, `size`, `channels`, `width` if the name has
    it, and the options that the name has. It may raise UserError for options that do not fit together."""

    listed: tuple[str, ...]
    """Names that are shown to people."""

    depths: tuple[int, ...] = ()
    """The depths that a name may have; empty for networks without."""

    choices: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    """Option → its values, the default first; no value may belong to two options."""

    smallest: int = 2
    """The side of the smallest images. A norm over a single pixel leaves nothing of the image."""
