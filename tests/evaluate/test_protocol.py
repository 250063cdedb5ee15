from __future__ import annotations

import os
from pathlib import Path

import pytest

from raycond.core import files
from raycond.core.errors import UserError
from raycond.evaluate import EvaluationProtocol, preset, presets, recipe
from raycond.evaluate.protocol import parse_settings
from raycond.evaluate.settings import SINCE


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
        ({"test_crop": 0.5, "test_resize": "sevenths"}, "test_crop goes with test_resize share"),
        ({"view_size": 0}, "view_size must be at least 1"),
        ({"jitter": [1, 2, -1]}, "jitter"),
        ({"color": 1}, "color: is not a setting.*weight_decay"),
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
    assert [
        recipe("rd3").resolve(ipc=10, classes=10, student=s).cosine_smoothing for s in ("resnet18", "resnet50")
    ] == [1, 2]


def settings(name: str, student: str = "x", *, size: int, classes: int = 10, ipc: int = 10) -> EvaluationProtocol:
    return recipe(name).resolve(ipc=ipc, classes=classes, student=student, size=size)


def test_small_images_follow_the_scripts_for_cifar_and_tiny_imagenet() -> None:
    for size, side in ((32, 32), (64, 72)):
        small = settings("rded", size=size)
        assert (small.shuffle, small.scale, small.view_side(size), small.test_side(size)) == (1, (1, 1), size, side)
    large = settings("rded", size=256)
    assert (large.shuffle, large.scale, large.view_side(256), large.test_side(256)) == (2, (0.5, 1), 224, 256)
    convnet = settings("rded", "convnet5-bn", size=256)
    assert (convnet.view_side(256), convnet.test_side(256)) == (128, 144)
    assert settings("rded", "convnet6-bn", size=256, classes=1000).view_size == 224
    special = settings("rded", "convnet3-bn", size=32, classes=100)
    assert (special.batch, special.lr) == (25, 0.002)
    assert settings("rded", "convnet3-bn", size=32).lr == 0.001


@pytest.mark.parametrize("name", ["rded", "rd3", "d4m", "rethinkdc-soft", "rethinkdc-hard", "minimax-hard"])
def test_views_of_imagenet_have_224_pixels_whatever_is_stored(name: str) -> None:
    for size in (128, 224, 256, 512):
        found = settings(name, size=size)
        assert (found.view_side(size), found.test_side(size)) == (224, 224 if name == "minimax-hard" else 256)
    assert settings(name, size=64).view_side(64) == 64


def test_what_the_user_fixes_wins_over_rules() -> None:
    fixed = recipe("minimax-hard").override(epochs=7, lr=0.5)
    assert {fixed.resolve(ipc=i, classes=1000, student="x").epochs for i in (1, 10, None)} == {7}
    assert fixed.resolve(ipc=1, classes=1000, student="x").lr == 0.5
    with pytest.raises(UserError, match="color: is not a setting"):
        recipe("quick").override(color=1)


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


def test_former_names_of_settings_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "old.yaml"
    path.write_text(
        "base: rded\nname: old\nsource: me\nsmoothing: 3\nnormalise: train\nassumed: {smoothing: a guess}\n"
        "when:\n- if: {ipc_max: 1}\n  set: {smoothing: 1.5}\n"
    )
    old = recipe(str(path))
    found = old.resolve(ipc=10, classes=10, student="x")
    assert (found.cosine_smoothing, found.normalize) == (3.0, "train")
    assert found.assumed == {"cosine_smoothing": "a guess"}
    assert old.resolve(ipc=1, classes=10, student="x").cosine_smoothing == 1.5
    fixed = old.override(**parse_settings(["smoothing=4", "normalise=imagenet"]))
    assert fixed.resolve(ipc=1, classes=10, student="x").cosine_smoothing == 4
    assert fixed.changes == {"cosine_smoothing": 4, "normalize": "imagenet"}
    assert preset("quick").override(smoothing=2).cosine_smoothing == 2
    with pytest.raises(UserError, match="cosine_smoothing: given twice"):
        preset("quick").override(smoothing=2, cosine_smoothing=2)


def test_a_new_name_makes_no_record_stale() -> None:
    """The digest is that of the settings as they were named when records were first written."""
    identity = preset("rded").identity()
    assert identity["smoothing"] == preset("rded").cosine_smoothing
    assert identity["normalise"] == "imagenet"
    assert {"cosine_smoothing", "normalize"}.isdisjoint(identity)
    assert EvaluationProtocol.from_dict(identity) == preset("rded")
    # those that came later are only in it where a protocol has them
    left_out = set(preset("rded").to_dict()) - {"cosine_smoothing", "normalize"} - set(identity)
    assert left_out < set(SINCE)
    assert {"view_size", "test_resize"}.isdisjoint(left_out)
    assert files.digest(preset("quick").identity()).startswith("f2f23039da7e")


HOSTILE = [
    ("base: 1.5\nname: x\n", "base must name a preset"),
    ("base: [quick]\nname: x\n", "base must name a preset"),
    ("base: self.yaml\nname: x\n", "the files name each other as base"),
    ("base: ./self.yaml\nname: x\n", "the files name each other as base"),
    ("base: https://example.com/p.yaml\nname: x\n", "must be a preset or a file beside this one"),
    ("base: simplecache::file://p.yaml\nname: x\n", "must be a preset or a file beside this one"),
    ("base: none.yaml\nname: x\n", "cannot be read"),
    ("base: qick\nname: x\n", "did you mean quick"),
    ("base: quick\nname: x\nwhen: 5\n", "`when` must be a list"),
    ("base: quick\nname: x\nwhen: [5]\n", "has `if` and `set`"),
    ("base: quick\nname: x\nwhen: [{if: 5, set: {lr: 1}}]\n", "has `if` and `set`"),
    ("base: quick\nname: x\nwhen: [{if: {ipc_min: a}, set: {lr: 1}}]\n", "ipc_min must be a whole number"),
    ("base: quick\nname: x\nwhen: [{if: {classes_max: .inf}, set: {lr: 1}}]\n", "classes_max must be a whole number"),
    ("base: quick\nname: x\nwhen: [{if: {students: 5}, set: {lr: 1}}]\n", "students must be a list"),
    ("base: quick\nname: x\nwhen: [{if: {students: [5]}, set: {lr: 1}}]\n", "students must be a list"),
    ("base: quick\nname: x\nwhen: [{if: {5: 5}, set: {lr: 1}}]\n", "5: conditions are"),
    ("base: quick\nname: x\nwhen: [{if: {}, set: {5: 1}}]\n", "setting: value"),
    ("base: quick\nname: 5\n", "name"),
    ("base: quick\nname: x\n5: 6\n", "setting: value"),
    ("base: quick\nname: x\nlr: .nan\n", "lr must be above 0"),
    ("base: quick\nname: x\njitter: [.nan, 1, 1]\n", "jitter must be"),
    ("base: quick\nname: x\ndsa_rotate: .inf\n", "dsa_rotate must be"),
    ("base: quick\nname: x\nepochs: 5\nschedule: steps\nmilestones: [.nan]\n", "milestones are epochs"),
    ("base: quick\nname: x\nchecks: 100000000000\n", "checks must be at most 10,000"),
    (f"base: quick\nname: x\nsteps: {'9' * 4000}\n", "steps"),
    ("base: quick\nname: x\nassumed: 5\n", "assumed"),
    ("base: quick\nname: x\nassumed: {5: 5}\n", "assumed"),
    ("name: x\n", "Field required"),
    ("base: quick\nname: \"\\e[31m\"\nlr: -1\n", r"protocol \\x1b\[31m: lr"),
    ("name: !!timestamp x\n", "not valid YAML"),
    ("name: !!int ''\n", "not valid YAML"),
    ("name: !!bool x\n", "not valid YAML"),
    ("name: 2024-13-45\n", "not valid YAML"),
    ("name: !!python/object/apply:os.system [true]\n", "not valid YAML"),
    ("a: &a [x]\nname: *a\n", "references .* are not taken"),
    ("[" * 20000, "not valid YAML"),
    ("{a: " * 20000, "not valid YAML"),
    ("name: \x00\n", "not valid YAML"),
    ("", "setting: value"),
    ("# " + "x" * 2**20, "cannot be read: more than 1048576 bytes"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), HOSTILE, ids=range(len(HOSTILE)))
def test_every_damage_of_a_file_is_our_own_error_that_names_it(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "self.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as error:
        recipe(str(path))
    assert "protocol" in str(error.value)
    assert len(str(error.value)) < 2000
    assert "\x1b" not in str(error.value)


def test_files_that_build_on_each_other(tmp_path: Path) -> None:
    """A base is looked for beside the file that names it, wherever the command is given."""
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.yaml").write_text("base: ../b.yaml\nname: a\n")
    (tmp_path / "b.yaml").write_text("base: quick\nname: b\nsteps: 9\n")
    assert recipe(str(tmp_path / "deep" / "a.yaml")).resolve(ipc=1, classes=2, student="").steps == 9
    (tmp_path / "b.yaml").write_text("base: deep/a.yaml\nname: b\n")
    with pytest.raises(UserError, match="name each other as base"):
        recipe(str(tmp_path / "b.yaml"))
    for k in range(20):
        (tmp_path / f"{k}.yaml").write_text(f"base: {k + 1}.yaml\nname: x\n")
    with pytest.raises(UserError, match="more than 10 bases"):
        recipe(str(tmp_path / "0.yaml"))


def test_bytes_that_are_no_text_and_pipes(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_bytes(b"name: caf\xe9\n")
    with pytest.raises(UserError, match="cannot be read"):
        recipe(str(path))
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UserError, match="cannot be read: not a regular file"):
        recipe(str(path))


@pytest.mark.parametrize("value", ["!!timestamp x", "&a [*a]", "[" * 5000, "{", "\x00"])
def test_settings_of_the_command_line_that_are_no_yaml(value: str) -> None:
    with pytest.raises(UserError, match=r"--set lr=.*not valid YAML"):
        parse_settings([f"lr={value}"])


def test_idc_is_the_recipe_of_its_code() -> None:
    idc = preset("idc")
    assert (idc.epochs, idc.batch, idc.optimizer, idc.lr, idc.momentum, idc.weight_decay) == (
        *(1000, 64, "sgd", 0.01, 0.9, 5e-4),
    )
    assert (idc.gamma, idc.mix, idc.mix_probability, idc.normalize) == (0.2, "cutmix", 0.5, "real")
    assert idc.milestones == pytest.approx((2 / 3, 5 / 6))
    assert idc.diffaug == "color_crop_flip_scale_rotate"
    assert "flip" not in str(preset("idc-digits").diffaug)
    assert (preset("idc-mnist").mix, preset("idc-mnist").diffaug) == ("none", preset("idc-digits").diffaug)
    assert preset("dc-bench-dsa-digits").dsa == "color_crop_cutout_scale_rotate"


def test_a_setting_that_came_later_makes_no_record_stale() -> None:
    assert "diffaug" not in preset("quick").identity()
    assert preset("idc").identity()["diffaug"] == "color_crop_flip_scale_rotate"


def test_two_augmentations_of_one_kind_are_refused() -> None:
    with pytest.raises(UserError, match="dsa and diffaug are two"):
        preset("idc").override(dsa="color_crop")
    with pytest.raises(UserError, match="diffaug: .*'magic'"):
        preset("idc").override(diffaug="color_magic")
