from __future__ import annotations

import pytest

from raycond.core.errors import UserError
from raycond.methods.kernels.registry import EXAMPLES, kernel


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("fc1", 1),
        ("fc12", 12),
        ("conv-vec3", 3),
        ("ConvVec8", 8),
        ("convnet", 4),
        ("convnet3", 3),
        ("myrtle5", 4),
        ("myrtle7", 6),
        ("myrtle10", 9),
    ],
)
def test_layers_of_a_name(name: str, layers: int) -> None:
    """Hidden layers; the read-out is one more, which is where Myrtle's numbers come from."""
    assert sum(level.layers for level in kernel(name).levels) == layers


def test_examples_are_kernels() -> None:
    assert [kernel(name).name for name in EXAMPLES] == list(EXAMPLES)


def test_heads_and_options() -> None:
    assert kernel("myrtle10").head == "gap"
    assert kernel("convnet").head == "flatten"
    changed = kernel("convnet", head="gap", activation="erf", w_std=1.5, b_std=0.0)
    assert (changed.head, changed.activation, changed.w_std, changed.b_std) == ("gap", "erf", 1.5, 0.0)


@pytest.mark.parametrize(("name", "meant"), [("convnet4", "convnet"), ("myrtle", "myrtle5"), ("fc", r"fc\d")])
def test_unknown_names_meet_near_ones(name: str, meant: str) -> None:
    with pytest.raises(UserError, match=rf"no kernel '{name}'. Did you mean .*{meant}.*Kernels: fcN"):
        kernel(name)


@pytest.mark.parametrize("name", ["fc0", "resnet", "myrtle6", "fc1 "])
def test_unknown_names(name: str) -> None:
    with pytest.raises(UserError, match="no kernel"):
        kernel(name)
