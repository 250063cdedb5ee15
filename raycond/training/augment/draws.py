"""Random numbers that Python itself needs: which operation, where a box lies."""

from __future__ import annotations

import hashlib

import torch


def on_host(generator: torch.Generator) -> torch.Generator:
    """A generator for draws on the host: the given one if it is on the CPU, else one that follows its state.

    The state of a CUDA generator (seed and offset) is kept on the host, so this does not wait for the device as
    reading one of its numbers would. The given generator moves on, so that the next call sees another state.
    """
    if generator.device.type == "cpu":
        return generator
    state = generator.get_state().numpy().tobytes()
    torch.rand(1, generator=generator, device=generator.device)
    return torch.Generator().manual_seed(int.from_bytes(hashlib.blake2b(state, digest_size=8).digest(), "big"))


def integer(below: int, host: torch.Generator) -> int:
    """Uniform in 0 … below − 1; `host` from `on_host`."""
    return int(torch.randint(below, (), generator=host))
