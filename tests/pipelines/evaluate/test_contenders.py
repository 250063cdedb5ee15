"""What stands in the tables: names that tell sets and weights apart, and digests of all that accuracies depend on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from raycond.core.errors import UserError
from raycond.data.sources import open_source
from raycond.evaluate.training_sets import Medoids, RandomImages, SetImages, SplitImages
from raycond.pipelines.evaluate.contenders import Baseline, Baselines, OpenedSet, from_sets, open_sets
from raycond.sets.reader import open_set
from tests.pipelines.evaluate.make import copied, rewrite
from tests.sets import make
from tests.support.methods import DENSITY, MEDOIDS_UNIFORM, SQRT, UNIFORM


@pytest.mark.parametrize(
    ("paths", "labels"),
    [
        (["/runs/digits/set"], ["digits"]),
        (["/runs/digits"], ["digits"]),
        (["/set"], ["set"]),
        (["/a/set", "/b/set"], ["a", "b"]),
        (["/x/a/set", "/y/a/set", "/y/b/set"], ["x/a", "y/a", "y/b"]),
        (["/x/a", "/x/b/a"], ["x/a", "b/a"]),
        (["s3://one/a/set", "s3://two/a/set"], ["one/a", "two/a"]),
    ],
)
def test_labels_are_short_and_tell_sets_apart(
    paths: list[str], labels: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "raycond.pipelines.evaluate.contenders.read_manifest", lambda _: type("M", (), {"content": SAME})
    )
    assert [found.label for found in open_sets(paths)] == labels


SAME = {"size": 8, "channels": 3}


def sets_of(folder: Path, **named: dict[str, object]) -> list[OpenedSet]:
    for name, changes in named.items():
        make.write(folder / name / "set", **changes)  # type: ignore[arg-type]
    return open_sets([str(folder / name / "set") for name in named])


def names(sets: list[OpenedSet], *weights: str) -> list[tuple[str, str]]:
    return [(c.method, c.weights) for c in from_sets(sets, (1, 4), weights)]


def test_names_of_quantized_sets(tmp_path: Path) -> None:
    one, plain = sets_of(tmp_path, one={}, plain={"weights": "uniform", "method": "D4M"})
    assert names([one]) == [(UNIFORM, "uniform"), (SQRT, "sqrt")]
    assert names([plain]) == [(UNIFORM, "uniform")]
    assert names([plain], "density", "uniform") == [(DENSITY, "density"), (UNIFORM, "uniform")]
    assert names([one], "sqrt", "sqrt") == [(SQRT, "sqrt")]
    # a label where names collide, and then on all of the set's names: a weighted one must find its uniform twin
    assert names([one, plain]) == [
        ("decoded centroids (vae, uniform) [one]", "uniform"),
        ("decoded centroids (vae, sqrt) [one]", "sqrt"),
        ("decoded centroids (vae, uniform) [plain]", "uniform"),
    ]
    assert names([one, plain], "sqrt") == [
        ("decoded centroids (vae, sqrt) [one]", "sqrt"),
        ("decoded centroids (vae, sqrt) [plain]", "sqrt"),
    ]


def test_names_of_generators_and_of_other_methods(tmp_path: Path) -> None:
    sets = sets_of(tmp_path, a={}, b={"generator": "medoid", "weights": "density"}, dm={"method": "DM"})
    assert names(sets) == [
        (UNIFORM, "uniform"),
        (SQRT, "sqrt"),
        (MEDOIDS_UNIFORM, "uniform"),
        ("medoids (medoid, density)", "density"),
        ("dm", "uniform"),
        ("dm (sqrt)", "sqrt"),
    ]
    sets += sets_of(tmp_path, more={"method": "DM", "weights": "uniform"})
    assert names(sets[2:]) == [("dm [dm]", "uniform"), ("dm (sqrt) [dm]", "sqrt"), ("dm [more]", "uniform")]


def test_ipc_that_one_set_lacks(tmp_path: Path) -> None:
    sets = sets_of(tmp_path, a={}, b={"ipcs": (1, 2)})
    assert from_sets(sets, (1,), ())[0].ipcs == (1,)
    with pytest.raises(UserError, match=r"--ipc 4: .*/b/set has only 1, 2"):
        from_sets(sets, (1, 4), ())


def test_a_set_says_its_images(run: Path) -> None:
    sets = open_sets([str(run / "set")])
    uniform, weighted = from_sets(sets, (1, 3), ())
    assert uniform.images(3, 0) == SetImages(str(run / "set"), 3, "uniform")
    assert weighted.images(1, 5) == SetImages(str(run / "set"), 1, "sqrt")
    assert [uniform.count(ipc) for ipc in (1, 3)] == [4, 12]
    assert uniform.held == 0
    # the digest is of images and counts; the weights mode is an entry of its own in a cell's fingerprint
    assert uniform.digest(3) == weighted.digest(3) != uniform.digest(1)


@pytest.fixture
def baselines(run: Path, tmp_path: Path) -> Baselines:
    source = open_source(str(run.parent / "data"), index_dir=str(tmp_path))
    first = open_sets([str(run / "set")])[0]
    return Baselines(source, "source", 48, first, (1, 3), "train.npz", "proxy.npz", "proxy", budgeted=False)


def test_images_of_baselines(baselines: Baselines) -> None:
    source, path = baselines.source, baselines.first.path
    assert Baseline("random", baselines).images(3, 7) == RandomImages(source, 3, 7, (), "png")
    assert Baseline("medoid", baselines).images(3, 7) == Medoids(source, path, 3)
    assert Baseline("full", baselines).images(None, 7) == SplitImages("train.npz")
    assert Baseline("el2n", baselines).images(3, 7) == SplitImages("train.npz", "el2n", "proxy.npz", 3, 7)
    assert Baseline("full", baselines).ipcs == (None,)
    assert Baseline("herding", baselines).ipcs == (1, 3)
    # a coreset is chosen by a process that holds the whole split
    sizes = {kind: (Baseline(kind, baselines).count(3), Baseline(kind, baselines).held) for kind in KINDS}
    assert sizes == {"random": (12, 0), "medoid": (12, 0), "herding": (12, 48), "el2n": (12, 48)}
    assert (Baseline("full", baselines).count(None), Baseline("full", baselines).held) == (48, 48)


KINDS = ("random", "medoid", "herding", "el2n")


def test_digests_of_baselines_are_of_what_they_take(baselines: Baselines, run: Path, tmp_path: Path) -> None:
    def digests(of: Baselines) -> dict[str, str]:
        return {**{kind: Baseline(kind, of).digest(3) for kind in KINDS}, "full": Baseline("full", of).digest(None)}

    def changed(**changes: object) -> set[str]:
        new = digests(replace(baselines, **changes))  # type: ignore[arg-type]
        return {kind for kind, digest in digests(baselines).items() if new[kind] != digest}

    assert len(set(digests(baselines).values())) == 5
    assert changed(source_digest="other") == {*KINDS, "full"}
    assert changed(proxy_digest="other") == {"herding", "el2n"}
    assert changed(budgeted=True) == {"random"}
    assert changed(pixels="elsewhere", proxy="elsewhere", ipcs=(3,)) == set()
    other = copied(run, tmp_path / "other")
    manifest = open_sets([str(other / "set")])[0].manifest
    moved = {name: {**about, "sha256": "0"} for name, about in manifest.files.items()}
    rewrite(other / "set" / "manifest.json", files=moved)
    assert changed(first=open_sets([str(other / "set")])[0]) == {"medoid"}


def test_budget_is_the_bytes_of_each_class_in_the_first_set(baselines: Baselines) -> None:
    assert baselines.budget(3) == ()
    budgeted = replace(baselines, budgeted=True)
    found = open_set(baselines.first.path, 3)
    for label, total in enumerate(budgeted.budget(3)):
        mine = [data for data, of in zip(found.images, found.labels, strict=True) if of == label]
        assert total == sum(map(len, mine)) + 3 * 4  # a float32 weight each
    images = Baseline("random", budgeted).images(3, 0)
    assert isinstance(images, RandomImages)
    assert images.budget == budgeted.budget(3)


def test_a_set_of_float_tensors_gives_two_rows(tmp_path: Path) -> None:
    make.write_optimized(tmp_path / "a" / "set", formation={"ipc4": {"factor": 2, "decoder": "single", "bound": 128}})
    (opened,) = open_sets([str(tmp_path / "a" / "set")])
    exact, rounded = from_sets([opened], (1, 4), ())
    assert [exact.method, rounded.method] == ["dc", "dc (8-bit)"]
    assert exact.images(4, 0) == SetImages(opened.path, 4, "uniform", exact=True)
    assert rounded.images(4, 0) == SetImages(opened.path, 4, "uniform")
    assert exact.digest(4) != rounded.digest(4)
    assert exact.count(4) == 3 * 16
    assert opened.normalization is not None


def test_learned_labels_are_a_part_of_what_is_trained_on(tmp_path: Path) -> None:
    digests = []
    for name, labels in (("hard", "hard"), ("learned", "learned")):
        make.write_optimized(tmp_path / name / "set", labels=labels)
        (opened,) = open_sets([str(tmp_path / name / "set")])
        digests.append((opened.digest(4), opened.digest(4, exact=True)))
    (hard, hard_exact), (learned, learned_exact) = digests
    assert hard != learned  # of the 8-bit images, whose labels lie in the tensors
    assert hard_exact == learned_exact
