from __future__ import annotations

from pathlib import Path

import pytest

from raycond.core.errors import UserError
from raycond.evaluate import EvaluationProtocol, preset, presets, recipe
from raycond.evaluate.protocol import parse_settings


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
    assert EvaluationProtocol.from_dict(quick.to_dict()) == quick
    changed = quick.override(lr="0.1", flip="true", scale=[0.5, 1])
    assert (changed.lr, changed.flip, changed.scale) == (0.1, True, (0.5, 1.0))
    assert changed.override(lr=quick.lr, flip=False, scale=quick.scale) == quick


def test_epochs_replace_steps() -> None:
    by_epoch = preset("quick").override(epochs=3, batch=64)
    assert by_epoch.steps is None
    assert by_epoch.total_steps(129) == 6  # 64 + 65: one image alone joins the batch before it
    assert by_epoch.total_steps(130) == 9  # 64 + 64 + 2
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
        ({"milestones": [0.5]}, "milestones go with schedule steps"),
        ({"schedule": "steps", "milestones": [0.5]}, "milestones are epochs"),
        ({"restart": True}, "restart happens at milestones"),
        ({"dsa": "color_magic"}, "dsa: .*magic"),
        ({"test_crop": 0}, "test_crop must be from 0.1 to 1"),
        ({"jitter": [1, 2, -1]}, "jitter"),
        ({"colour": 1}, "colour: is not a setting.*weight_decay"),
    ],
)
def test_wrong_settings_are_named(fields: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        preset("quick").override(**fields)


def test_unknown_preset_lists_the_known() -> None:
    with pytest.raises(UserError, match=r"'fast' is not known.*quick"):
        preset("fast")


def test_rules_settle_what_depends_on_the_cell() -> None:
    minimax = recipe("minimax-hard")

    def epochs(ipc: int | None, classes: int) -> int | None:
        return minimax.resolve(ipc=ipc, classes=classes, student="resnet18").epochs

    assert [epochs(ipc, 10) for ipc in (1, 2, 10, 50, 200, 500, 501, None)] == [
        *(3000, 2000, 2000, 1500, 1000, 500, 300, 300)
    ]
    # 100 classes: two thirds, rounded down to a multiple of 100
    assert [epochs(ipc, 100) for ipc in (1, 10, 50, 200, 500, None)] == [2000, 1300, 1000, 600, 300, 200]
    large = minimax.resolve(ipc=10, classes=1000, student="resnet18")
    assert (large.lr, large.weight_decay, large.batch) == (0.1, 1e-4, 128)

    rded = recipe("rded")
    batches = [rded.resolve(ipc=i, classes=c, student="x").batch for c in (10, 1000) for i in (1, 10, 50)]
    assert batches == [10, 50, 100, 20, 100, 200]
    lrs = {name: rded.resolve(ipc=10, classes=10, student=name).lr for name in ("resnet18", "mobilenet_v2", "vgg11_bn")}
    assert lrs == {"resnet18": 0.001, "mobilenet_v2": 0.0025, "vgg11_bn": 0.0005}
    assert [recipe("rd3").resolve(ipc=10, classes=10, student=s).smoothing for s in ("resnet18", "resnet50")] == [1, 2]


def test_what_the_user_fixes_wins_over_rules() -> None:
    fixed = recipe("minimax-hard").override(epochs=7, lr=0.5)
    assert {fixed.resolve(ipc=i, classes=1000, student="x").epochs for i in (1, 10, None)} == {7}
    assert fixed.resolve(ipc=1, classes=1000, student="x").lr == 0.5
    with pytest.raises(UserError, match="colour: is not a setting"):
        recipe("quick").override(colour=1)


def test_assumed_fields_are_fields() -> None:
    for name in presets():
        assert set(preset(name).assumed) <= set(EvaluationProtocol.__dataclass_fields__), name


def test_a_protocol_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("base: quick\nname: mine\nsource: me\nsteps: 7\nwhen:\n- if: {ipc_max: 1}\n  set: {lr: 0.1}\n")
    mine = recipe(str(path))
    assert (mine.name, mine.resolve(ipc=10, classes=10, student="x").steps) == ("mine", 7)
    assert mine.resolve(ipc=1, classes=10, student="x").lr == 0.1
    for text, message in (
        ("base: quick\nname: mine\nwhen:\n- if: {size: 1}\n  set: {lr: 1}\n", "size: conditions are ipc_min"),
        ("base: quick\nname: mine\nwhen:\n- {ipc_max: 1}\n", "has `if` and `set`"),
        ("base: quick\nname: mine\nwhen:\n- if: {ipc_max: 1}\n  set: {speed: 1}\n", "speed: is not a setting"),
        ("- 1", "setting: value"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            recipe(str(path))


def test_settings_from_the_command_line() -> None:
    parsed = parse_settings(["steps=50", "scale=[0.5, 1]", "dsa=null", "mix=cutmix"])
    assert parsed == {"steps": 50, "scale": [0.5, 1], "dsa": None, "mix": "cutmix"}
    assert preset("quick").override(**parsed).scale == (0.5, 1.0)
    with pytest.raises(UserError, match="expected field=value"):
        parse_settings(["steps"])


def test_without_augmentation_nothing_moves() -> None:
    plain = preset("minimax-hard").without_augmentation()
    assert (plain.mix, plain.scale, plain.flip, plain.jitter, plain.lighting, plain.dsa) == (
        *("none", None, False, None, 0.0, None),
    )
    assert plain.epochs == preset("minimax-hard").epochs
