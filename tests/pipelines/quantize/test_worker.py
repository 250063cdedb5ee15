"""The class worker: what it leaves behind for a class, and that one class's failure stays its own."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from raycond.core import files, records
from raycond.core.device import require_device
from raycond.core.errors import UserError
from raycond.data.decode import decode
from raycond.data.encoded import unpack
from raycond.data.sources import open_source
from raycond.methods.quantize import codebook_file
from raycond.pipelines.layout import Layout
from raycond.pipelines.quantize.units import ClassJob, WorkerSpec
from raycond.pipelines.quantize.worker import ClassWorker
from tests.pipelines.quantize.make import config, data


def spec(root: Path, out: Path, **options: object) -> WorkerSpec:
    made = config(root, out, **options)
    source = open_source(made.data, index_dir=str(out / "index"))
    return WorkerSpec(made, source, "pixels", "digest", 3, Layout(made.out))


def test_job_leaves_a_codebook_and_images_with_records(tmp_path: Path) -> None:
    job = spec(data(tmp_path / "data"), tmp_path / "out")
    (result,) = ClassWorker(job, "cpu").process([ClassJob(2, {1: "one", 3: "three"}, {"vae": [3]})])
    assert result.error == ""
    assert result.seconds > 0
    for ipc, expected in ((1, "one"), (3, "three")):
        assert records.find(job.layout.codebook(ipc, 2), expected) == result.facts[ipc]
        book = codebook_file.read(job.layout.codebook(ipc, 2))
        assert (book.class_id, book.label, len(book.codebook)) == ("cat", 2, ipc)
        assert int(book.codebook.counts.sum()) == result.facts[ipc]["images"] == 12
    assert files.exists(records.record_of(job.layout.images("vae", 3, 2)))
    assert not files.exists(job.layout.images("vae", 1, 2))


def test_medoids_are_decoded_as_what_was_encoded(tmp_path: Path) -> None:
    """12 bits in 16: without the largest value they would be nearly black."""
    values = np.linspace(0, 4095, 64).astype(np.uint16).reshape(8, 8)
    for k in range(3):
        (tmp_path / "data" / "a").mkdir(parents=True, exist_ok=True)
        Image.fromarray(values[:, ::-1] if k else values).save(tmp_path / "data" / "a" / f"{k}.png")
    job = spec(tmp_path / "data", tmp_path / "out", max_value=4095)
    (result,) = ClassWorker(job, "cpu").process([ClassJob(0, {1: "one"}, {"medoid": [1]})])
    assert result.error == ""
    (image,) = unpack(job.layout.images("medoid", 1, 0))
    with Image.open(io.BytesIO(image)) as picture:
        assert np.asarray(picture).max() == 255


def test_images_are_resized_as_the_options_say(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    file = tmp_path / "data" / "a" / "0.png"
    file.parent.mkdir(parents=True)
    Image.fromarray(rng.integers(0, 256, (20, 20, 3), np.uint8)).save(file)
    found = {}
    for how in ("bicubic", "bilinear"):
        job = spec(tmp_path / "data", tmp_path / how, interpolation=how)
        ClassWorker(job, "cpu").process([ClassJob(0, {1: "one"}, {"medoid": [1]})])
        (image,) = unpack(job.layout.images("medoid", 1, 0))
        with Image.open(io.BytesIO(image)) as picture:
            found[how] = np.asarray(picture)
        assert np.array_equal(found[how], decode(file.read_bytes(), size=job.config.size, interpolation=how))  # type: ignore[arg-type]
    assert not np.array_equal(found["bicubic"], found["bilinear"])


@pytest.mark.parametrize("together", [1, 4])
def test_failure_stays_with_its_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, together: int) -> None:
    job = spec(data(tmp_path / "data"), tmp_path / "out", classes_at_once=together)
    worker, save = ClassWorker(job, "cpu"), ClassWorker._save

    def broken(self: ClassWorker, one: ClassJob, *rest: object) -> None:
        if one.label == 1:
            raise ZeroDivisionError("broken")
        save(self, one, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(ClassWorker, "_save", broken)
    jobs = [ClassJob(label, {1: "x"}, {"vae": [1]}) for label in range(4)]
    results = [result for k in range(0, 4, together) for result in worker.process(jobs[k : k + together])]
    assert [bool(result.error) for result in results] == [False, True, False, False]
    assert results[1].error.endswith("ZeroDivisionError: broken")
    assert "Traceback" in results[1].error


def test_seed_of_a_class_is_of_its_id_and_not_its_position(tmp_path: Path) -> None:
    root = data(tmp_path / "data")
    before = ClassWorker(spec(root, tmp_path / "out", quantizer="clvq"), "cpu")
    (root / "train" / "aaa").mkdir()
    after = ClassWorker(spec(root, tmp_path / "out", quantizer="clvq"), "cpu")
    assert before._seed(1) == after._seed(2)  # bee
    assert before._seed(1) != before._seed(2)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_absent_device_is_the_machines_fault_and_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"device cuda: torch .* finds no usable GPU on .* --gpus-per-actor 0"):
        ClassWorker(spec(data(tmp_path / "data"), tmp_path / "out"), "cuda")
    require_device("cpu")


@pytest.mark.gpu
@pytest.mark.parametrize("quantizer", ["lloyd", "clvq"])
def test_cuda_makes_the_cpus_codebooks(tmp_path: Path, quantizer: str) -> None:
    root = data(tmp_path / "data")
    books = {}
    for device in ("cpu", "cuda"):
        job = spec(root, tmp_path / device, quantizer=quantizer, classes_at_once=4)
        results = ClassWorker(job, device).process([ClassJob(label, {3: "three"}, {"vae": [3]}) for label in range(4)])
        assert [result.error for result in results] == [""] * 4
        books[device] = [codebook_file.read(job.layout.codebook(3, label)) for label in range(4)]
    for here, there in zip(books["cpu"], books["cuda"], strict=True):
        torch.testing.assert_close(there.codebook.centroids, here.codebook.centroids, rtol=1e-4, atol=1e-5)
        assert torch.equal(there.codebook.counts, here.codebook.counts)
        assert there.medoid_ids == here.medoid_ids
