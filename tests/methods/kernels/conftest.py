from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def normal() -> Callable[..., Tensor]:
    """Normal images (n, *shape), float64, other ones for every seed."""

    def draw(n: int, shape: tuple[int, ...], seed: int = 0) -> Tensor:
        return torch.randn(n, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))

    return draw


@pytest.fixture
def stripes() -> Tensor:
    """(40, 1, 4, 4) of two classes in turn, float64: bright upper half or bright left half, and noise."""
    noise = 0.3 * torch.randn(40, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    noise[0::2, :, :2] += 1
    noise[1::2, :, :, :2] += 1
    return noise
