"""The device that an option names."""

from __future__ import annotations

from raycond.core.errors import OptionError


def require_device(name: str) -> None:
    """Raise OptionError unless torch can compute on the device that --device names here."""
    import torch

    try:
        kind = torch.device(name).type
    except RuntimeError:
        kind = ""
    if kind not in ("cpu", "cuda"):
        raise OptionError(f"--device {name}: expected cpu or cuda")
    if kind == "cuda" and not torch.cuda.is_available():
        raise OptionError(f"--device {name}: torch {torch.__version__} finds no usable GPU on this machine")
