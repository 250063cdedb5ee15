"""A run whose images a diffusion model makes: the set, what it says of them, resuming, and sharing codebooks."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from raycond.core import files
from raycond.core.errors import ClassMismatch, UserError
from raycond.data.classes import Classes
from raycond.data.encoded import decode_image, unpack
from raycond.models.codecs.registry import open_codec
from raycond.models.generators import checked
from raycond.pipelines.quantize import worker
from raycond.pipelines.quantize.config import QuantizeConfig, load_config
from raycond.pipelines.quantize.run import prepare, quantize
from raycond.pipelines.quantize.summary import QuantizeRun, build_report, summary
from raycond.sets.inspect import describe
from raycond.sets.manifest import read_manifest
from raycond.sets.verify import verify
from tests.models.generators import tiny
from tests.pipelines.quantize.make import CLASSES, config, contents, data, rewritten, stamps

SIZE = 2 * tiny.SIDE


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def dit(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny.saved(tiny.dit_pipeline(4), tmp_path_factory.mktemp("dit"), Classes(CLASSES, CLASSES))


def options(root: Path, out: Path, dit: str, **changes: Any) -> QuantizeConfig:
    values = {"generator": f"dit:{dit}", "codec": None, "size": SIZE, "steps": 4, **changes}
    if values["generator"] == "vae":
        del values["steps"]
    return config(root, out, **values)


@pytest.fixture(scope="module")
def run(root: Path, dit: str, tmp_path_factory: pytest.TempPathFactory) -> QuantizeRun:
    return quantize(options(root, tmp_path_factory.mktemp("run") / "out", dit))


def out_of(run: QuantizeRun) -> Path:
    return Path(run.layout.out)


def test_the_set_is_whole_and_says_what_made_it(run: QuantizeRun, dit: str) -> None:
    assert verify(run.layout.condensed) == []
    manifest = read_manifest(run.layout.condensed).content
    name = f"dit:{Path(dit).name}"
    assert manifest["generator"] == manifest["diffusion"]["name"] == name
    assert manifest["diffusion"]["conditions"] == ["0", "1", "2", "3"]
    assert manifest["diffusion"]["options"]["noise"] == 0.5
    assert manifest["codec"]["name"].startswith("kl:")  # the pipeline's own, without being asked for
    for text in contents(Path(run.layout.condensed)).values():
        assert str(Path(dit).parent).encode() not in text
    text = describe(run.layout.condensed)
    assert re.search(rf"generator +{name} \(sha256 \w+\): .*noise 0.5", text)


def test_images_are_neither_decoded_centroids_nor_medoids(run: QuantizeRun) -> None:
    def images(kind: str) -> list[torch.Tensor]:
        found = unpack(run.layout.images(kind, 3, 1))
        return [torch.from_numpy(decode_image(one, 3).copy()).float() for one in found]

    made, decoded, medoids = images(run.generator), images("vae"), images("medoid")
    for other in (decoded, medoids):
        assert min(float((a - b).abs().mean()) for a, b in zip(made, other, strict=True)) > 1


def test_the_report_shows_all_three(run: QuantizeRun, dit: str) -> None:
    page = (out_of(run) / "report.html").read_text()
    assert page.count("decoded centroid") == page.count("nearest real image") == 4 * (1 + 3)
    assert "below, its centroid as the codec decodes it; below that, the real image nearest to its latent" in page
    assert f"images by dit:{Path(dit).name}" in page


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_on_ray_the_same_bytes(root: Path, dit: str, run: QuantizeRun) -> None:
    other = quantize(options(root, out_of(run).parent / "ray", dit, runner="ray"))
    assert other.machine["nodes"] == 2
    assert contents(Path(other.layout.condensed)) == contents(Path(run.layout.condensed))


def test_the_batch_moves_no_pixel_by_more_than_rounding(root: Path, dit: str, run: QuantizeRun) -> None:
    other = quantize(options(root, out_of(run).parent / "batch", dit, generator_batch=1))
    for ipc in (1, 3):
        for label in range(4):
            mine, theirs = (unpack(r.layout.images(r.generator, ipc, label)) for r in (run, other))
            for a, b in zip(mine, theirs, strict=True):
                assert abs(decode_image(a, 3).astype(int) - decode_image(b, 3).astype(int)).max() <= 1


def test_a_rerun_does_nothing_and_another_noise_makes_images_alone(root: Path, dit: str, run: QuantizeRun) -> None:
    out = out_of(run).parent / "again"
    shutil.copytree(out_of(run), out)
    before = stamps(out / "work")
    again = quantize(options(root, out, dit))
    assert again.computed == {"condense": 0, "write": 0}
    assert rewritten(before, stamps(out / "work")) == set()
    other = quantize(options(root, out, dit, noise=0.75))
    changed = rewritten(before, stamps(out / "work"))
    assert other.generator != run.generator
    assert {name.split("/")[0] + "/" + name.split("/")[1] for name in changed if "/" in name} == {
        f"images/{other.generator}"
    }
    # and back: nothing of the first was lost
    assert quantize(options(root, out, dit)).computed == {"condense": 0, "write": 1}
    assert contents(out / "set") == contents(out_of(run) / "set")


def test_a_run_that_lost_images_makes_the_same_again(root: Path, dit: str, run: QuantizeRun) -> None:
    out = out_of(run).parent / "lost"
    shutil.copytree(out_of(run), out)
    for path in (out / "work" / "images" / run.generator).rglob("00002*"):
        path.unlink()
    shutil.rmtree(out / "set")
    assert quantize(options(root, out, dit)).computed == {"condense": 1, "write": 1}
    assert contents(out / "set") == contents(out_of(run) / "set")


def test_runs_that_share_their_work_quantize_once(root: Path, dit: str, tmp_path: Path) -> None:
    first = quantize(options(root, tmp_path / "a", dit, work=str(tmp_path / "work")))
    assert first.computed["condense"] == 4
    books = stamps(tmp_path / "work" / "codebooks")
    options_of_vae = {"generator": "vae", "codec": f"kl:{dit}"}
    second = quantize(options(root, tmp_path / "b", dit, work=str(tmp_path / "work"), **options_of_vae))
    assert second.computed == {"condense": 0, "write": 1}  # the decoded centroids stood in the first report
    assert stamps(tmp_path / "work" / "codebooks") == books
    for one in (first, second):
        assert verify(one.layout.condensed) == []
    assert read_manifest(second.layout.condensed).content["generator"] == "vae"
    assert not (tmp_path / "a" / "work" / "codebooks").exists()


def test_output_size(root: Path, dit: str, tmp_path: Path) -> None:
    run = quantize(
        options(root, tmp_path / "out", dit, output_size=7, ipc=(1,), evaluate=True, methods=("medoid", "uniform"))
    )
    assert read_manifest(run.layout.condensed).content["size"] == 7
    for kind in (run.generator, run.decoded, run.medoids):
        assert decode_image(unpack(run.layout.images(kind, 1, 0))[0], 3).shape == (7, 7, 3)
    assert [row.method for row in run.rows] == ["medoid", f"ddoq (dit:{Path(dit).name}, uniform)"]
    assert run.failures == []


def test_failed_images_are_counted_and_still_told_after_a_rerun(
    root: Path, dit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, seen = checked.faults, []

    def fault(images: torch.Tensor) -> list[str | None]:
        found = real(images)
        if not seen:  # the first image of the run, once
            seen.append(1)
            found[0] = "black"
        return found

    monkeypatch.setattr(checked, "faults", fault)
    settings = options(root, tmp_path / "out", dit)
    run = quantize(settings)
    assert run.retried == {"black": 1}
    assert "retried   1 black: these images were made again from the next seed" in summary(run)
    assert build_report(settings, run).environment["images made again"] == "1 black"
    again = quantize(settings)
    assert (again.computed, again.retried) == ({"condense": 0, "write": 0}, {"black": 1})


def test_an_image_that_always_fails_fails_its_class_alone(
    root: Path, dit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raycond.models.generators.dit.Dit._latents", lambda _, wanted: wanted.latents * float("nan"))
    run = quantize(options(root, tmp_path / "out", dit))
    assert len(run.failures) == 4
    assert "class bee: dit:" in run.failures[1]
    assert "made image 0 NaN from 4 seeds in turn" in run.failures[1]


def test_runs_that_share_their_work_keep_their_images_apart(root: Path, tmp_path: Path) -> None:
    where = tiny.saved(tiny.sd_pipeline(tmp_path), tmp_path / "sd")
    sets = []
    for prompt in ("a {name}", "no {name}", "a {name}"):
        settings = {
            "generator": f"sd:{where}",
            "prompt": prompt,
            "noise": 0.5,
            "ipc": (1,),
            "work": str(tmp_path / "w"),
        }
        run = quantize(options(root, tmp_path / "out", where, **settings))
        sets.append((run.generator, run.computed["condense"]))
    assert sets[0][0] == sets[2][0] != sets[1][0]
    assert [computed for _, computed in sets] == [4, 4, 0]


def test_a_codebook_that_another_run_has_changed_is_not_used(
    root: Path, dit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = quantize(options(root, tmp_path / "out", dit))
    book = Path(run.layout.codebook(3, 1))
    real = worker.ClassWorker._generate

    def late(self: worker.ClassWorker, job: Any, result: Any) -> None:
        book.write_bytes(Path(run.layout.codebook(3, 0)).read_bytes())
        real(self, job, result)

    monkeypatch.setattr(worker.ClassWorker, "_generate", late)
    failed = quantize(options(root, tmp_path / "out", dit, noise=0.75))
    assert [f for f in failed.failures if "has changed since" in f] == [f for f in failed.failures if "class bee" in f]
    assert failed.failures


def test_a_node_with_other_weights_is_told(
    root: Path, dit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tiny.saved(tiny.dit_pipeline(4, seed=1), tmp_path / "other", Classes(CLASSES, CLASSES))
    real = worker.open_generator
    monkeypatch.setattr(worker, "open_generator", lambda _, **given: real(f"dit:{other}", **given))
    failed = quantize(options(root, tmp_path / "out", dit))
    assert len(failed.failures) == 4
    assert "this node has other weights than the driver" in failed.failures[0]


def test_wrong_generators_are_refused_before_any_work(root: Path, dit: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot load a pipeline from .*, which must hold model_index.json"):
        quantize(options(root, tmp_path / "a", str(tmp_path), codec="pixels"))
    with pytest.raises(UserError, match=r"encode with its own: --codec kl:"):
        quantize(options(root, tmp_path / "b", dit, codec="pixels"))
    others = tiny.saved(tiny.dit_pipeline(4), tmp_path / "others", Classes(("w", "x", "y", "z"), ("w", "x", "y", "z")))
    with pytest.raises(ClassMismatch):
        quantize(options(root, tmp_path / "c", others))
    with pytest.raises(UserError, match=r"give --size 16"):
        quantize(options(root, tmp_path / "d", dit, size=32))
    assert [p.name for p in tmp_path.iterdir() if (p / "work" / "codebooks").exists()] == []


def test_stable_diffusion_from_the_prompts_of_the_classes(root: Path, tmp_path: Path) -> None:
    where = tiny.saved(tiny.sd_pipeline(tmp_path), tmp_path / "sd")
    settings = {"generator": f"sd:{where}", "prompt": "a {name}", "strength": 0.5, "ipc": (1,)}
    run = quantize(options(root, tmp_path / "out", where, **settings))
    manifest = read_manifest(run.layout.condensed).content
    assert manifest["diffusion"]["conditions"] == [f"a {name}" for name in CLASSES]
    assert json.loads(files.read_bytes(run.layout.config))["diffusion"]["strength"] == 0.5
    assert open_codec(f"kl:{where}").digest == manifest["codec"]["sha256"]


@pytest.mark.parametrize("kind", ["sd", "dit"])
def test_the_size_is_the_models_own(kind: str, root: Path, dit: str, tmp_path: Path) -> None:
    where = dit if kind == "dit" else tiny.saved(tiny.sd_pipeline(tmp_path / "letters"), tmp_path / "sd", tiny.ANIMALS)
    given = {"data": str(root), "generator": f"{kind}:{where}"}
    assert load_config(given).size == SIZE
    assert load_config({**given, "size": 32}).size == 32
    assert load_config({"data": str(root)}).size == QuantizeConfig.size


def test_another_size_than_the_models_own_is_a_warning(root: Path, tmp_path: Path, capfd: Any) -> None:
    where = tiny.saved(tiny.sd_pipeline(tmp_path / "letters"), tmp_path / "sd", tiny.ANIMALS)
    prompt = {"generator": f"sd:{where}", "codec": None, "prompt": "{id}"}
    prepare(config(root, tmp_path / "out", **prompt, size=SIZE))
    assert "WARNING" not in capfd.readouterr().err
    prepare(config(root, tmp_path / "out", **prompt, size=2 * SIZE))
    assert f"--size {2 * SIZE}: sd:{where} was made for images of {SIZE} pixels" in capfd.readouterr().err


def test_what_the_manifest_calls_a_set(root: Path, dit: str, tmp_path: Path) -> None:
    def method(**changes: Any) -> str:
        made = quantize(options(root, tmp_path / str(len(list(tmp_path.iterdir()))), dit, ipc=(1,), **changes))
        return str(made.manifest["method"])

    assert method() == "DDOQ"
    assert method(weights="uniform") == "diffused centroids"
    published = {"recipe": "published", "noise": 1.0, "mode_guidance": 0.1, "weights": "uniform"}
    assert method(**published) == "MGD3"
    assert method(**{**published, "recipe": "pipeline", "scheduler": "ddpm"}) == "diffused centroids"
    assert method(generator="vae", codec="pixels", size=8) == "decoded centroids"
