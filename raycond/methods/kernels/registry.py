"""Kernels by name: the networks of KIP (arXiv 2011.00050, 2107.13034) and those they were compared with."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable

from raycond.core.errors import UserError
from raycond.methods.kernels.architecture import Activation, Architecture, Head, Level

MYRTLE = {5: (1, 1, 1), 7: (1, 2, 2), 10: (2, 3, 3)}  # convolutions of each block after the first layer
FORMS = "fcN, conv-vecN (N layers), convnet, convnet3, myrtle5, myrtle7, myrtle10"


def kernel(
    name: str,
    *,
    activation: Activation = "relu",
    head: Head | None = None,
    w_std: float = math.sqrt(2),
    b_std: float = 0.1,
) -> Architecture:
    """The network called `name`.

    fcN: N hidden layers. conv-vecN: N convolutions of 3×3, no pooling. convnet3: three times convolution, activation,
    2×2 average pooling; convnet: one more convolution before these, the main network of KIP. myrtleN: N layers.
    head: default `gap` for Myrtle, `flatten` otherwise. Raises UserError for an unknown name, naming near ones.
    """
    text = name.lower()
    for pattern, build in _BUILDERS.items():
        match = re.fullmatch(pattern, text)
        if match:
            network = build(text, *(int(number) for number in match.groups()))
            options = {"activation": activation, "head": head or network.head, "w_std": w_std, "b_std": b_std}
            return Architecture(**{**vars(network), **options})
    near = difflib.get_close_matches(text, EXAMPLES, n=2, cutoff=0.5)
    meant = f" Did you mean {' or '.join(near)}?" if near else ""
    raise UserError(f"no kernel {name!r}.{meant} Kernels: {FORMS}")


def _fully_connected(name: str, depth: int) -> Architecture:
    return Architecture(name, (Level(depth),), filter=1, dense=True)


def _conv_vec(name: str, depth: int) -> Architecture:
    return Architecture(name, (Level(depth),))


def _convnet(name: str) -> Architecture:
    return Architecture(name, (Level(2, True), Level(1, True), Level(1, True)))


def _convnet3(name: str) -> Architecture:
    return Architecture(name, (Level(1, True),) * 3)


def _myrtle(name: str, depth: int) -> Architecture:
    """The first layer and the first block are at the same size; no pooling after the last block."""
    first, second, third = MYRTLE[depth]
    return Architecture(name, (Level(1 + first, True), Level(second, True), Level(third)), head="gap", square=True)


_BUILDERS: dict[str, Callable[..., Architecture]] = {
    r"fc([1-9]\d?)": _fully_connected,
    r"conv-?vec([1-9]\d?)": _conv_vec,
    r"convnet": _convnet,
    r"convnet3": _convnet3,
    r"myrtle-?(5|7|10)": _myrtle,
}
EXAMPLES = ("fc1", "fc2", "fc3", "conv-vec3", "convnet", "convnet3", "myrtle5", "myrtle7", "myrtle10")
