"""What a grid trains beyond its defaults: weights, labelers, scores, coresets, class-incremental memories."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raycond.data.encoded import encode_image
from raycond.evaluate import proxy
from raycond.evaluate.training_sets import RandomImages
from raycond.models import students
from raycond.pipelines.evaluate.run import evaluate_grid
from raycond.pipelines.evaluate.summary import GridRun
from raycond.sets.reader import open_set
from tests.pipelines.evaluate.make import WITH_FULL, grid_config, made_run, methods, stored, table
from tests.support.methods import DENSITY, SQRT, UNIFORM


def test_weights(run: Path, tmp_path: Path) -> None:
    evaluate_grid(grid_config(run, tmp_path, weights=("density", "sqrt", "density"), ipc=(3,), baselines=("none",)))
    assert methods(tmp_path) == [(SQRT, "3"), (DENSITY, "3")]
    assert [(row.weights, row.set) for row in stored(tmp_path)] == [("sqrt", "run"), ("density", "run")]


@pytest.mark.usefixtures("report")
def test_two_sets_of_one_name_get_labels(run: Path, tmp_path: Path) -> None:
    other = made_run(run.parent, "other", seed=1, batch=4)
    evaluate_grid(grid_config([run, other], tmp_path, ipc=(1,), baselines=("none",)))
    assert {row.method: row.set for row in stored(tmp_path)} == {
        f"{kind} [{name}]": name for kind in (UNIFORM, SQRT) for name in ("run", "other")
    }
    assert "run, other: evaluation" in (tmp_path / "report.html").read_text()


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("teacher")
    torch.save(students.build("convnet3-w4", classes=4, size=8, channels=3).state_dict(), folder / "w.pt")
    return f"convnet3-w4@{folder}/w.pt,mean=0.5,std=0.5"


@pytest.mark.parametrize("kind", ["once", "teacher"])
def test_labelers(whole: Path, run: Path, tmp_path: Path, teacher: str, kind: str) -> None:
    options: dict[str, Any] = {"labeler": f"{kind}:{teacher}", "changes": {"steps": 5, "checks": 2, "loss": "kl"}}
    found = evaluate_grid(grid_config(run, tmp_path, **options))
    assert not found.failures
    assert {(row.labeler, row.variant) for row in found.rows} == {(f"{kind}:convnet3-w4", "own")}
    assert methods(tmp_path) == WITH_FULL
    hard = {(r.method, r.ipc): r.curve[-1].loss for r in stored(whole) if r.seed == 0}
    assert all(row.curve[-1].loss != hard[row.method, row.ipc] for row in found.rows)
    assert f"labels {kind}:convnet3-w4" in (tmp_path / "summary.txt").read_text()
    assert "w.pt" not in (tmp_path / "results.csv").read_text()
    # another file under the same name is another teacher, and its grid a new one
    file = Path(teacher.partition("@")[2].partition(",")[0])
    torch.manual_seed(1)
    torch.save(students.build("convnet3-w4", classes=4, size=8, channels=3).state_dict(), tmp_path / "w.pt")
    other = options["labeler"].replace(str(file), str(tmp_path / "w.pt"))
    assert evaluate_grid(grid_config(run, tmp_path, **options)).trained == 0
    assert evaluate_grid(grid_config(run, tmp_path, **{**options, "labeler": other})).trained == 9


def variants(run: GridRun) -> set[tuple[str, str, int | None]]:
    return {(row.variant, row.labeler, row.ipc) for row in run.rows}


@pytest.mark.usefixtures("report")
def test_scores_with_hard_labels(run: Path, tmp_path: Path) -> None:
    found = evaluate_grid(grid_config(run, tmp_path, scores=True, ipc=(3,), changes={"epochs": 2}))
    assert found.baselines == ("random", "medoid", "full")
    assert variants(found) == {("own", "hard", 3), ("plain", "hard", 3), ("own", "hard", None)}
    assert len(found.rows) == 2 * 4 + 1
    assert [score.method for score in found.scores] == ["medoid", UNIFORM, SQRT]
    for score in found.scores:
        assert None not in (score.hlr, score.ior, score.lrs, score.ars)
    text, page = (tmp_path / "summary.txt").read_text(), (tmp_path / "report.html").read_text()
    assert "DD-Ranking's scores in percent" in text
    assert "HLR" in page
    # without them nothing is left of the variants
    found = evaluate_grid(grid_config(run, tmp_path, ipc=(3,), changes={"epochs": 2}))
    assert (found.trained, variants(found), found.scores) == (0, {("own", "hard", 3)}, [])


@pytest.mark.usefixtures("report")
def test_scores_with_a_teacher(run: Path, tmp_path: Path, teacher: str) -> None:
    options: dict[str, Any] = {"changes": {"steps": 5, "loss": "kl", "flip": True}, "weights": ("sqrt",)}
    found = evaluate_grid(grid_config(run, tmp_path, scores=True, ipc=(1,), labeler=f"teacher:{teacher}", **options))
    soft = "teacher:convnet3-w4"
    assert variants(found) == {
        *(("own", soft, ipc) for ipc in (1, None)),
        *(("hard", "hard", ipc) for ipc in (1, None)),
        ("plain", soft, 1),
    }
    assert len(found.rows) == 3 * 3 + 2
    assert not found.failures
    for score in found.scores:
        assert None not in (score.hlr, score.ior, score.lrs, score.ars)
    page = (tmp_path / "report.html").read_text()
    assert f"protocol quick, labels {soft}, 1 seeds" in page


def test_coresets_share_one_proxy_that_is_measured_once(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, measured = proxy.measure, list[int]()

    def measure(*args: Any, **options: Any) -> proxy.Proxy:
        measured.append(options["steps"])
        return real(*args, **options)

    monkeypatch.setattr(proxy, "measure", measure)
    options: dict[str, Any] = {
        "baselines": ("herding", "k-center", "el2n"),
        "proxy_student": "convnet3-w4",
        "proxy_nets": 2,
        "proxy_steps": 3,
    }
    found = evaluate_grid(grid_config(run, tmp_path, **options))
    assert not found.failures
    assert measured == [3]
    names = ("random", "medoid", "herding", "k-center", "el2n")
    assert found.trained == 14
    assert methods(tmp_path)[:10] == [(name, ipc) for name in names for ipc in ("1", "3")]
    assert evaluate_grid(grid_config(run, tmp_path, **options, seeds=(0, 1))).trained == 14
    assert measured == [3]
    found = evaluate_grid(grid_config(run, tmp_path, **{**options, "proxy_steps": 4}))
    assert measured == [3, 4]
    assert found.trained == 3 * 2  # the coresets alone
    fresh = tmp_path / "fresh"
    evaluate_grid(grid_config(run, fresh, **{**options, "proxy_steps": 4}))
    assert table(fresh) == table(tmp_path)
    (tmp_path / "work" / "proxy.npz").unlink()
    assert evaluate_grid(grid_config(run, tmp_path, **{**options, "proxy_steps": 4})).trained == 0
    assert measured == [3, 4, 4, 4]


def test_the_proxy_does_not_depend_on_the_threads_of_the_process(run: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"baselines": ("herding",), "proxy_nets": 1, "proxy_steps": 2}
    threads = torch.get_num_threads()
    try:
        for count in (1, 4):
            torch.set_num_threads(count)
            evaluate_grid(grid_config(run, tmp_path / str(count), **options))
    finally:
        torch.set_num_threads(threads)
    one, four = ((tmp_path / str(count) / "work" / "proxy.npz").read_bytes() for count in (1, 4))
    assert one == four


@pytest.mark.usefixtures("report")
def test_class_incremental_gives_random_images_the_bytes_of_the_set(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memories: list[RandomImages] = []
    decoded, load = RandomImages.decoded, RandomImages.load

    def noted(self: RandomImages, *args: Any, **options: Any) -> Any:
        memories.append(self)
        return decoded(self, *args, **options)

    monkeypatch.setattr(RandomImages, "decoded", noted)
    options: dict[str, Any] = {"protocol": "class-incremental", "changes": {"steps": 4, "tasks": 3}}
    found = evaluate_grid(grid_config(run, tmp_path, **options))
    assert not found.failures
    assert methods(tmp_path) == WITH_FULL
    for row in found.rows:
        assert [check.epoch for check in row.curve] == [1, 2, 3]
        assert row.steps == 12
        assert row.best == pytest.approx(np.mean([check.top1 for check in row.curve]))
    assert len(memories) == 2
    for memory in tuple(memories):
        stored_set = open_set(str(run / "set"), memory.ipc)
        images = load(memory, 4, found.options)
        for label in range(4):
            sizes = [len(i) + 4 for i, of in zip(stored_set.images, stored_set.labels, strict=True) if of == label]
            assert memory.budget[label] == sum(sizes)
            kept = [encode_image(i.permute(1, 2, 0).numpy(), "png") for i in images.images[images.labels == label]]
            assert len(kept) >= 1
            assert sum(map(len, kept)) <= memory.budget[label] or len(kept) == 1
    assert "Tasks" in (tmp_path / "report.html").read_text()


def test_run_folder_in_memory(run: Path, tmp_path: Path) -> None:
    out = f"memory://{tmp_path.name}/grid"
    found = evaluate_grid(grid_config(run, out, baselines=("el2n",), proxy_steps=2, proxy_nets=1))
    assert not found.failures
    assert len(table(out)) == 10
    assert evaluate_grid(grid_config(run, out, baselines=("el2n",), proxy_steps=2, proxy_nets=1)).trained == 0
