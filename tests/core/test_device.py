from __future__ import annotations

import pytest
import torch

from raycond.core.device import torch_threads


@pytest.mark.parametrize("count", [1, 2])
def test_threads_are_put_back(count: int) -> None:
    before = torch.get_num_threads()
    with torch_threads(count):
        assert torch.get_num_threads() == count
    assert torch.get_num_threads() == before


def test_threads_are_put_back_after_an_error() -> None:
    before = torch.get_num_threads()
    with pytest.raises(ValueError, match="inside"), torch_threads(before + 1):
        raise ValueError("inside")
    assert torch.get_num_threads() == before
