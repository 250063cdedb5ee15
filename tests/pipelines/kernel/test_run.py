"""The whole pipeline in one process: what it makes, and that a rerun does what is missing and nothing else."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import raycond
from raycond.core.errors import ClassMismatch, RaycondError, UserError
from raycond.data.labelled import LabelledImages, pixels
from raycond.methods.kernels import regression
from raycond.methods.kernels.kip import KipConfig, initial_state, kip_step
from raycond.methods.kernels.label_solve import solve_labels
from raycond.methods.kernels.registry import kernel
from raycond.methods.kernels.scoring import score
from raycond.methods.kernels.targets import Targets, support_rows
from raycond.methods.kernels.whitening import fit_preprocessing
from raycond.pipelines.kernel import run as run_module
from raycond.pipelines.kernel.run import condense, plan
from raycond.pipelines.kernel.summary import summary
from raycond.sets.verify import verify
from tests.data.make import png
from tests.pipelines.kernel.make import CLASSES, SOLVE, config, data, results
from tests.pipelines.quantize.make import rewritten, stamps
from tests.support.killed import killed_at_rename

METHODS: dict[str, dict[str, Any]] = {"kip": {"learn_labels": True, "preprocess": "zca"}, "ls": SOLVE}


@pytest.fixture(autouse=True, scope="module")
def known_rate() -> Iterator[None]:
    """To measure it takes longer than all else."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "measured_rate", lambda *_, **__: 1e6)
        yield


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module", params=METHODS)
def whole(request: pytest.FixtureRequest, source: Path) -> Path:
    """An undisturbed run; its folder has the method's name."""
    out = source / request.param
    run = condense(config(source, out, **METHODS[request.param]))
    assert run.computed == {"preprocess": 1, "supports": 2, "write": 1}
    assert not run.failures
    return out


def split(out: Path, name: str) -> LabelledImages:
    return pixels(str(out / "work" / "pixels" / f"{name}.safetensors"), len(CLASSES))


def test_the_set_is_whole_and_has_its_float_images(whole: Path) -> None:
    assert verify(str(whole)) == []
    found = raycond.open(str(whole), ipc=3)
    assert found.manifest.content["method"] == {"kip": "KIP", "ls": "LS"}[whole.name]
    assert found.labels.tolist() == [label for label in range(4) for _ in range(3)]
    tensors = found.tensors()
    assert tensors["images"].shape == (12, 1, 6, 6)
    learned = found.learned_labels()
    assert learned is not None
    assert not torch.allclose(learned, regression.centered_labels(found.labels, 4).float(), atol=1e-3)
    assert [image_id.partition("/")[0] for image_id in found.source_ids] == [CLASSES[k] for k in found.labels]


def test_8_bit_images_are_the_float_ones_brought_back_to_pixels(whole: Path) -> None:
    found = raycond.open(str(whole), ipc=3)
    normalization = found.normalization
    assert normalization is not None
    back = normalization.open((1, 6, 6)).invert(found.tensors()["images"])
    images = torch.stack([found[k][0] for k in range(len(found))])
    torch.testing.assert_close(images.double(), back.clamp(0, 1), rtol=0, atol=0.51 / 255)


def test_label_solve_is_that_of_the_library(source: Path) -> None:
    out = source / "solved"
    condense(config(source, out, **SOLVE))
    train = split(out, "train")
    preprocessing = fit_preprocessing(train.images)
    images = preprocessing.apply(train.images, torch.float64)
    rows = support_rows(train.labels, 4, 3, seed=0)
    support = images[rows].float().double()
    labels = solve_labels(kernel("fc1"), support, images, train.labels, 4)
    found = raycond.open(str(out), ipc=3)
    torch.testing.assert_close(found.learned_labels(), labels.float(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.tensors()["images"], support.float())


def test_kip_is_that_of_the_library_and_so_is_its_accuracy(source: Path) -> None:
    out = source / "learned"
    condense(config(source, out, ipc=(3,)))
    train, val = split(out, "train"), split(out, "val-6")
    preprocessing = fit_preprocessing(train.images)
    targets = Targets(train.images, preprocessing.apply(train.images, torch.float64), train.labels, 4, preprocessing)
    state = initial_state(targets, 3, seed=0)
    kip = KipConfig(kernel("fc1"), targets=24, dtype=torch.float64, block=5)
    first = score(kip.network, state.images, state.labels, preprocessing.apply(val.images, torch.float64), val.labels)
    for _ in range(6):
        state, _ = kip_step(state, targets, kip)
    found = raycond.open(str(out))
    torch.testing.assert_close(found.tensors()["images"], state.images.float())
    assert found.learned_labels() is None
    last = score(kip.network, state.images, state.labels, preprocessing.apply(val.images, torch.float64), val.labels)
    rows = {row["method"]: row for row in csv.DictReader((out / "results.csv").read_text().splitlines())}
    assert float(rows["random"]["krr_top1"]) == pytest.approx(100 * first.accuracy)
    assert float(rows["kip"]["krr_top1"]) == pytest.approx(100 * last.accuracy)
    assert rows["kip"]["student"] == "krr-fc1"


@pytest.mark.parametrize("renames", [*(pytest.param(n, marks=pytest.mark.slow) for n in (8, 18)), 14, 24])
def test_killed_run_resumes_to_the_same_bytes(source: Path, whole: Path, tmp_path: Path, renames: int) -> None:
    out, options = tmp_path / "out", METHODS[whole.name]
    assert killed_at_rename(renames, condense, config(source, out, **options))
    condense(config(source, out, **options))
    assert results(out) == results(whole)
    assert not list((out / "work").rglob("state.safetensors"))


def test_a_rerun_computes_nothing(source: Path, whole: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(whole, tmp_path / "copy"))
    before = stamps(out)
    run = condense(config(source, out, **METHODS[whole.name]))
    assert run.computed == {"preprocess": 0, "supports": 0, "write": 0}
    assert {name for name in rewritten(before, stamps(out)) if name.startswith("work/")} == set()
    assert results(out) == results(whole)


def test_blocks_change_no_more_than_last_bits(source: Path, whole: Path, tmp_path: Path) -> None:
    options = {**METHODS[whole.name], "block": 100}
    condense(config(source, tmp_path / "out", **options))
    one, other = (raycond.open(str(folder), ipc=3).tensors() for folder in (tmp_path / "out", whole))
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name], rtol=1e-4, atol=1e-5)


def test_targets_are_a_part_of_the_training_images(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    condense(config(source, out, **SOLVE, targets=17))
    few = raycond.open(str(out), ipc=3)
    assert verify(str(out)) == []
    assert few.manifest.content["config"]["targets"] == 17
    with pytest.raises(UserError, match="--ipc 3: a support is drawn from the targets, and a class has only 2 of them"):
        condense(config(source, tmp_path / "none", **SOLVE, targets=8))
    with pytest.raises(UserError, match="--targets 3: must be at least 4, one image of each class"):
        condense(config(source, tmp_path / "none", **SOLVE, targets=3, ipc=(1,), block=4))


def test_a_support_that_is_larger_than_the_data_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--ipc 13: more than the images of class ant, .*; give at most 12"):
        condense(config(source, tmp_path / "out", ipc=(13,)))
    with pytest.raises(UserError, match="--ipc 13: more than the images of class ant"):
        plan(config(source, tmp_path / "out", ipc=(13,)))
    assert not (tmp_path / "out" / "work").exists()


def test_equal_images_are_singular_unless_the_regularization_may_be_raised(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for class_id in CLASSES:
        (tmp_path / "train" / class_id).mkdir(parents=True)
        for k in range(4):
            (tmp_path / "train" / class_id / f"{class_id}{k}.png").write_bytes(png(k))  # the same in every class
    options: dict[str, Any] = {"ipc": (4,), "reg": 0, "batch": 16}
    for method in ({}, SOLVE):
        given = {**options, **method}
        with pytest.raises(RaycondError, match="singular .*--raise-reg to raise it as far as needed"):
            condense(config(tmp_path, tmp_path / "out", **given))
        capsys.readouterr()
        run = condense(config(tmp_path, tmp_path / f"raised-{len(method)}", **given, raise_reg=True))
        assert "regularization raised" in capsys.readouterr().err
        assert not run.rows  # no validation images
        assert "there were no validation images" in (Path(run.layout.report)).read_text()


def test_other_classes_in_the_same_folder_are_refused(source: Path, whole: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(whole, tmp_path / "copy"))
    with pytest.raises(ClassMismatch, match="use another --out"):
        condense(config(source, out, **METHODS[whole.name], classes=3))


def test_what_is_printed_and_shown(source: Path, whole: Path) -> None:
    run = condense(config(source, whole, **METHODS[whole.name]))
    text = summary(run)
    assert "krr-fc1, protocol krr: top-1 %" in text
    assert str(whole / "set") in text
    page = (whole / "report.html").read_text()
    assert "Kernel regression" in page
    assert "Labels of IPC 3" in page
    assert ("Kernel regression on test images" in page) is (whole.name == "kip")
    assert ("before and after" in page) is (whole.name == "kip")
    assert 'id="w2"' not in page


def test_students_learn_the_labels_of_the_set(source: Path, tmp_path: Path) -> None:
    (tmp_path / "fast.yaml").write_text("base: kip-transfer\nname: fast\nsteps: 3\n")
    given = {**METHODS["kip"], "evaluate": True, "protocol": str(tmp_path / "fast.yaml"), "ipc": (3,)}
    run = condense(config(source, tmp_path / "out", **given))
    assert not run.failures
    rows = list(csv.DictReader((tmp_path / "out" / "results.csv").read_text().splitlines()))
    trained = {row["method"]: row for row in rows if row["protocol"] == "fast"}
    assert set(trained) == {"random", "kip", "full"}
    krr = {row["method"]: row["krr_top1"] for row in rows if row["protocol"] == "krr"}
    assert trained["kip"]["krr_top1"] == krr["kip"]
    assert trained["random"]["krr_top1"] == ""
    assert condense(config(source, tmp_path / "out", **given)).computed["supports"] == 0
