"""What a grid takes by default, and what it refuses before any work."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from raycond.core import files
from raycond.core.errors import ClassMismatch, UserError
from raycond.data.sources import open_source
from raycond.models import students
from raycond.pipelines.evaluate.config import load_grid_config
from raycond.pipelines.evaluate.prepare import prepare, resumed
from raycond.pipelines.evaluate.run import evaluate_grid
from tests.data.make import tree
from tests.pipelines.evaluate.make import OPTIONS, copied, grid_config, made_run, rewrite
from tests.pipelines.quantize.make import CLASSES, contents, data


def test_defaults(run: Path) -> None:
    config = load_grid_config({"sets": [str(run / "set")]})
    assert config.out == str(run / "grid")
    assert (config.students, config.seeds, config.protocol) == (("convnet3-w32", "mlp"), (0, 1, 2), "quick")
    assert (config.labeler, config.runner, config.trials_at_once) == ("hard", "ray", 0)
    found = prepare(config)
    assert found.ipcs == (1, 3)
    assert found.baselines == ("random", "medoid", "full")
    assert not (run / "grid").exists()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ("random", "medoid", "full")),
        ({"changes": {"epochs": 3}}, ("random", "medoid")),  # full would cost another number of steps
        ({"protocol": "dc-bench", "changes": {}}, ("random", "medoid")),
        ({"baselines": ("none",)}, ()),
        ({"baselines": ("herding",)}, ("random", "medoid", "herding")),
        ({"baselines": ("full", "random", "el2n", "k-center")}, ("random", "medoid", "full", "el2n", "k-center")),
        ({"baselines": ("medoid",), "scores": True}, ("random", "medoid", "full")),
        ({"changes": {"epochs": 3}, "scores": True}, ("random", "medoid", "full")),
    ],
)
def test_baselines(run: Path, tmp_path: Path, options: dict[str, Any], expected: tuple[str, ...]) -> None:
    assert prepare(grid_config(run, tmp_path / "out", **options)).baselines == expected


def test_values_given_twice_count_once(run: Path, tmp_path: Path) -> None:
    assert prepare(grid_config(run, tmp_path / "out", ipc=(3, 1, 3))).ipcs == (3, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"students": ("mlp-w4", "resnet19")}, "--students: student 'resnet19' is not known"),
        ({"protocol": "fast"}, "--protocol: protocol 'fast' is not known: use one of class-incremental, d4m"),
        ({"protocol": "none/fast.yaml"}, "--protocol: .*none/fast.yaml: cannot be read"),
        ({"changes": {"colour": 1}}, r"--set: protocol quick: colour: is not a setting\. Settings: name"),
        ({"changes": {"steps": 0}}, "--set: protocol quick: steps must be at least 1, not 0"),
        ({"changes": {"lr": "high"}}, "--set: protocol quick: lr: Input should be a valid number"),
        ({"ipc": (1, 2)}, "--ipc 2: .*set has only 1, 3"),
        ({"labeler": "soft"}, "--labeler: expected one of hard, once, .*, not 'soft'"),
        ({"labeler": "teacher"}, "--labeler: labeler teacher: expected teacher:TEACHER"),
        ({"labeler": "once:convnet3@/none/w.pt,mean=0,std=1"}, "--labeler: .*/none/w.pt: cannot be read"),
        ({"protocol": "rded"}, "--protocol rded: its loss kl learns soft labels: give --labeler"),
        ({"protocol": "class-incremental"}, "--protocol class-incremental: tasks: 4 classes cannot come in 5 parts"),
        ({"baselines": ("herding",), "proxy_student": "x"}, "--proxy-student: student 'x' is not known"),
        ({"data": "/none"}, "--data: /none: does not exist"),  # without --val the tests are those of --data
        ({"val": "/none"}, "--val: /none: does not exist"),
        ({"runner": "ray", "out": "memory://x"}, "--out memory://x: is of one process; use --runner local"),
    ],
)
def test_refused(run: Path, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    config = grid_config(run, tmp_path / "out")
    options = {**config.to_dict(), **options}
    with pytest.raises(UserError, match=message):
        prepare(load_grid_config(options))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sets": []}, "--sets: give at least one"),
        ({"sets": ["a/set", "a/set/"]}, "--sets: expected at least one, and none twice"),
        ({"seeds": (0, 0)}, "--seeds: expected at least one, and none twice, not 0 0"),
        ({"students": ()}, "--students: expected at least one"),
        ({"seeds": (-1,)}, "--seeds: expected numbers from 0 up"),
        ({"ipc": (0,)}, "--ipc: expected numbers from 1 up"),
        ({"baselines": ("none", "full")}, "--baselines: none goes with no other"),
        ({"baselines": ("best",)}, "--baselines: expected one of random, medoid, .*, not 'best'"),
        ({"weights": ("log",)}, "--weights: expected one of uniform, density, sqrt, not 'log'"),
        ({"gpus_per_trial": 2}, "--gpus-per-trial: expected a fraction from 0 to 1, not 2"),
        ({"trials_at_once": -1}, "--trials-at-once: expected at least 0, not -1"),
    ],
)
def test_options_that_say_nothing(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_grid_config({**OPTIONS, "sets": ["a/set"], "out": "out", **options})


@pytest.mark.parametrize("path", ["nothing", "file", "empty", "/"])
def test_what_is_no_set(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    config = load_grid_config({**OPTIONS, "sets": [str(tmp_path / path)], "out": str(tmp_path / "out")})
    with pytest.raises(UserError, match=r"not a condensed set|expected (a|the folder of a) condensed set"):
        prepare(config)


def test_a_soft_protocol_is_checked_at_every_ipc_and_for_every_student(run: Path, tmp_path: Path) -> None:
    rule = "when: [{if: {ipc_min: 3, students: ['convnet*']}, set: {loss: kl}}]"
    (tmp_path / "own.yaml").write_text(f"base: quick\nname: own\n{rule}\n")
    options: dict[str, Any] = {"protocol": str(tmp_path / "own.yaml"), "changes": {"steps": 5}}
    prepare(grid_config(run, tmp_path / "out", **options))
    prepare(grid_config(run, tmp_path / "out", **options, ipc=(1,), students=("mlp-w4", "convnet3-w4")))
    with pytest.raises(UserError, match=r"--protocol .*own.yaml: its loss kl learns soft labels"):
        prepare(grid_config(run, tmp_path / "out", **options, students=("mlp-w4", "convnet3-w4")))


def test_sets_must_be_alike(run: Path, tmp_path: Path) -> None:
    for name in ("size", "channels"):
        other = copied(run, tmp_path / name)
        rewrite(other / "set" / "manifest.json", **{name: 1})
        with pytest.raises(
            UserError, match=rf"--sets: {other}/set has {name} 1 and {run}/set has \d; sets of one grid"
        ):
            prepare(grid_config([run, other], tmp_path / "out"))
    other = copied(run, tmp_path / "classes")
    ids = [*CLASSES[:3], "emu"]
    rewrite(other / "set" / "manifest.json", classes={"ids": ids, "names": ids})
    with pytest.raises(ClassMismatch, match=rf"--sets {run}/set(.|\n)*emu"):
        prepare(grid_config([run, other], tmp_path / "out"))
    shutil.rmtree(other / "set" / "data" / "ipc3")
    shorter = copied(run, tmp_path / "shorter")
    rewrite(shorter / "set" / "manifest.json", ipc=[1])
    with pytest.raises(UserError, match=rf"--ipc 3: {shorter}/set has only 1"):
        prepare(grid_config([run, shorter], tmp_path / "out"))
    assert prepare(grid_config([shorter, run], tmp_path / "out")).ipcs == (1,)


# ---- where the images are


def test_source_and_tests_are_those_of_the_run_that_the_set_lies_in(run: Path, tmp_path: Path) -> None:
    found = prepare(grid_config(run, tmp_path / "out"))
    assert found.source is not None
    assert {found.source.uri, found.val.uri} == {f"{run.parent}/data"}
    other = copied(run, tmp_path / "other")
    tests = data(tmp_path / "tests", val=2)
    rewrite(other / "config.json", val=str(tests / "val"))
    found = prepare(grid_config(other, tmp_path / "out"))
    assert found.source is not None
    assert (found.source.uri, found.val.uri) == (f"{run.parent}/data", f"{tests}/val")


def test_options_win_over_the_run(run: Path, tmp_path: Path) -> None:
    own = data(tmp_path / "own")
    found = prepare(grid_config(run, tmp_path / "out", data=str(own)))
    assert found.source is not None
    assert {found.source.uri, found.val.uri} == {str(own)}
    found = prepare(grid_config(run, tmp_path / "out", val=str(own / "val")))
    assert found.source is not None
    assert (found.source.uri, found.val.uri) == (f"{run.parent}/data", f"{own}/val")
    assert prepare(grid_config(run, tmp_path / "out", baselines=("none",))).source is None


@pytest.mark.parametrize("beside", [None, "[1, 2]", "not json", "{}"])
def test_a_set_alone_asks_for_its_source(run: Path, tmp_path: Path, beside: str | None) -> None:
    alone = tmp_path / "alone"
    shutil.copytree(run / "set", alone / "set")
    if beside is not None:
        (alone / "config.json").write_text(beside)
    val = f"{run.parent}/data/val"
    with pytest.raises(UserError, match=r"--val: .*alone/set does not say where .*; give --val URI \(and --data URI\)"):
        prepare(grid_config(alone, tmp_path / "out"))
    with pytest.raises(UserError, match=r"--data: baselines need .*give --data URI, or --baselines none"):
        prepare(grid_config(alone, tmp_path / "out", val=val))
    assert prepare(grid_config(alone, tmp_path / "out", val=val, baselines=("none",))).val.uri == val


def test_public_source_of_the_manifest(run: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    shutil.copytree(run / "set", alone / "set")
    source = json.loads((alone / "set" / "manifest.json").read_text())["source"]
    rewrite(alone / "set" / "manifest.json", source={**source, "uri": "digits:"})
    with pytest.raises(ClassMismatch, match=r"--data digits:"):
        prepare(grid_config(alone, tmp_path / "out"))


def test_source_of_other_classes(run: Path, tmp_path: Path) -> None:
    tree(tmp_path / "data" / "train", dict.fromkeys("abcd", 2))
    tree(tmp_path / "data" / "val", dict.fromkeys(CLASSES, 2))
    with pytest.raises(ClassMismatch, match=rf"{run}/set(.|\n)*--data {tmp_path}/data"):
        prepare(grid_config(run, tmp_path / "out", data=str(tmp_path / "data")))
    with pytest.raises(ClassMismatch, match=rf"--data(.|\n)*--val {tmp_path}/data/train"):
        prepare(grid_config(run, tmp_path / "out", val=str(tmp_path / "data" / "train")))


def test_the_source_is_opened_as_the_set_was_made(tmp_path: Path) -> None:
    run = made_run(tmp_path, limit=5, classes=3)
    found = prepare(grid_config(run, tmp_path / "out"))
    assert found.source is not None
    assert found.classes.ids == CLASSES[:3]
    assert [len(found.source.refs(label)) for label in range(3)] == [5] * 3
    assert [len(found.val.refs(label)) for label in range(3)] == [4] * 3
    assert len(open_source(str(tmp_path / "data"), index_dir="").classes) == 4


def test_what_a_set_was_made_from_is_looked_at_without_baselines_too(run: Path, tmp_path: Path) -> None:
    """And where it is not there any more, nothing is looked at."""
    train = f"{run.parent}/data/train"
    config = grid_config(run, tmp_path / "out", val=train, baselines=("none",))
    with pytest.raises(UserError, match="validation images are training images too"):
        evaluate_grid(config)
    moved = copied(run, tmp_path / "moved")
    rewrite(moved / "config.json", data="/nowhere")
    found = prepare(grid_config(moved, tmp_path / "out", val=train, baselines=("none",)))
    assert (found.source, found.origin) == (None, None)


def test_a_set_is_not_tested_on_what_it_was_made_from(tmp_path: Path) -> None:
    """A share that is held out only now was in the set's source; so were other images, with another seed or share."""
    data(tmp_path / "data")
    only = str(tmp_path / "data" / "train")
    held = made_run(tmp_path, "held", data=only, val_share=0.25)
    found = prepare(grid_config(held, tmp_path / "out"))
    assert found.source is not None
    assert (len(found.source.refs(0)), len(found.val.refs(0))) == (9, 3)
    seen = made_run(tmp_path, "seen", data=only)
    with pytest.raises(UserError, match=r"must not be tested on\. Give --val URI .* or make the set with --val-share"):
        prepare(grid_config(seen, tmp_path / "out"))
    for runs, share in (([seen], 0.25), ([held], 0.5), ([held, seen], 0.25)):
        config = grid_config(runs, tmp_path / "out", val_share=share)
        with pytest.raises(UserError, match=rf"--val-share {share}: .*/set was made without holding these images out"):
            prepare(config)
    assert prepare(grid_config([held, seen], tmp_path / "out", allow_overlap=True)).val.refs(0) == found.val.refs(0)
    another = made_run(tmp_path, "another", data=only, val_share=0.25, seed=1)
    with pytest.raises(UserError, match=r"another/set was made without .* make it with --val-share 0.25 --seed 0"):
        prepare(grid_config([held, another], tmp_path / "out"))


def test_nothing_is_written(run: Path, tmp_path: Path) -> None:
    before = contents(run)
    prepare(grid_config(run, tmp_path / "out", baselines=("full", "herding"), scores=True))
    assert contents(run) == before
    assert not list(tmp_path.iterdir())


def test_teacher_of_other_classes(run: Path, tmp_path: Path) -> None:
    net = students.build("convnet3-w4", classes=3, size=8, channels=3)
    torch.save(net.state_dict(), tmp_path / "w.pt")
    where = f"teacher:convnet3-w4@{tmp_path}/w.pt,mean=0.5,std=0.5"
    with pytest.raises(UserError, match=r"--labeler: teacher convnet3-w4: 3 outputs and 4 classes"):
        prepare(grid_config(run, tmp_path / "out", labeler=where))


# ---- --resume


def test_resume_takes_the_options_of_before(run: Path, tmp_path: Path) -> None:
    config = grid_config(run, tmp_path / "out", labeler="hard", weights=("density",), changes={"steps": 7})
    files.write_json(f"{tmp_path}/out/config.json", config.to_dict())
    found = resumed(str(tmp_path / "out"), {"out": str(tmp_path / "out")})
    assert found == config
    moved = shutil.move(tmp_path / "out", tmp_path / "moved")
    options = {"out": str(moved), "trials_at_once": 3, "gpus_per_trial": 0.5, "cpus_per_trial": 2, "dashboard": False}
    found = resumed(str(moved), {**options, "runner": "ray"})
    assert found == load_grid_config({**config.to_dict(), **options, "runner": "ray"})
    assert found.out == str(tmp_path / "moved")


@pytest.mark.parametrize(
    ("option", "value", "name"),
    [
        ("sets", ["/another/set"], "sets"),
        ("students", ["mlp-w8"], "students"),
        ("changes", {}, "set"),
        ("seeds", [1], "seeds"),
        ("labeler", "once:x", "labeler"),
        ("data", "digits:", "data"),
        ("proxy_steps", 3, "proxy-steps"),
        ("max_pixels", 4, "max-pixels"),
    ],
)
def test_resume_with_another_option(run: Path, tmp_path: Path, option: str, value: Any, name: str) -> None:
    config = grid_config(run, tmp_path)
    files.write_json(f"{tmp_path}/config.json", config.to_dict())
    assert resumed(str(tmp_path), {"out": str(tmp_path), option: config.to_dict()[option]}) == config
    with pytest.raises(
        UserError, match=rf"^--{name}: the grid in {tmp_path} has .*; leave the option out to go on with"
    ):
        resumed(str(tmp_path), {"out": str(tmp_path), option: value})


@pytest.mark.parametrize("content", ["[]", "{", '{"out": "x", "size": 3}'])
def test_resume_of_something_else(run: Path, tmp_path: Path, content: str) -> None:
    with pytest.raises(UserError, match=f"--resume: {tmp_path} holds no grid; start it without --resume"):
        resumed(str(tmp_path), {})
    with pytest.raises(UserError, match=rf"--resume: {run}/config.json is not of a grid; give --out"):
        resumed(str(run), {})
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match="is not of a grid"):
        resumed(str(tmp_path), {})


def test_students_are_built_at_the_size_they_are_trained_at(run: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"students": ("convnet3-w4",), "changes": {"max_size": 1}}
    with pytest.raises(UserError, match="--students: student convnet3-w4: images must be at least 2 pixels a side"):
        prepare(grid_config(run, tmp_path / "out", **options))
