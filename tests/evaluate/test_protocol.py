from __future__ import annotations

import pytest

from raycond.errors import UserError
from raycond.evaluate import Protocol, preset, presets


def test_quick_is_a_fixed_budget_for_every_set() -> None:
    quick = preset("quick")
    assert "quick" in presets()
    assert quick.total_steps(10) == quick.total_steps(100_000) == quick.steps
    assert quick.loss == "cross-entropy"
    assert "nothing published" in quick.source


def test_every_preset_is_named_as_its_file() -> None:
    assert [preset(name).name for name in presets()] == presets()


def test_round_trip_and_override_from_text() -> None:
    quick = preset("quick")
    assert Protocol.from_dict(quick.to_dict()) == quick
    changed = quick.override(lr="0.1", flip="true", scale=[0.5, 1])
    assert (changed.lr, changed.flip, changed.scale) == (0.1, True, (0.5, 1.0))
    assert changed.override(lr=quick.lr, flip=False, scale=quick.scale) == quick


def test_epochs_replace_steps() -> None:
    by_epoch = preset("quick").override(epochs=3, batch=64)
    assert by_epoch.steps is None
    assert by_epoch.total_steps(129) == 9  # 64 + 64 + 1
    assert by_epoch.total_steps(10) == 3  # one short batch an epoch
    assert by_epoch.override(steps=5).epochs is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"lr": 0}, "lr must be above 0"),
        ({"lr": "fast"}, "lr"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"steps": 5, "epochs": 5}, "exactly one"),
        ({"steps": None}, "exactly one"),
        ({"scale": (0.9, 0.5)}, "scale"),
        ({"shift": 0.6}, "shift"),
        ({"momentum": 0.9}, "momentum is of sgd"),
        ({"optimizer": "lion"}, "optimizer"),
        ({"colour": 1}, "colour: is not a setting.*weight_decay"),
    ],
)
def test_wrong_settings_are_named(fields: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        preset("quick").override(**fields)


def test_unknown_preset_lists_the_known() -> None:
    with pytest.raises(UserError, match=r"'fast' is not known.*quick"):
        preset("fast")
