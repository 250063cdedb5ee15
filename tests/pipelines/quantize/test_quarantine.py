"""Images that cannot be used are left out, listed and counted; too many of them, or a class without enough, is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from raycond.cli.main import main
from raycond.core.errors import UserError
from raycond.data import quarantine
from raycond.pipelines.quantize.run import quantize
from raycond.pipelines.quantize.summary import summary
from tests.data.make import encoded, picture, png
from tests.pipelines.quantize.make import CLASSES, config, contents, data, rewritten, stamps

REASONS = {
    "bomb.png": "too large",
    "cut.png": "truncated",
    "empty.png": "empty",
    "link.png": "dangling link",
    "text.png": "not an image",
}


def spoil(folder: Path) -> None:
    """Put one image of every bad kind into a class folder."""
    (folder / "bomb.png").write_bytes(encoded(picture(1, 40, 40)))
    (folder / "cut.png").write_bytes(png(2)[:-60])
    (folder / "empty.png").write_bytes(b"")
    (folder / "link.png").symlink_to(folder / "nowhere.png")
    (folder / "text.png").write_text("no image at all")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return data(tmp_path / "data")


@pytest.mark.parametrize("quantizer", ["lloyd", "clvq"])
def test_every_bad_image_is_listed_once_with_its_reason(root: Path, tmp_path: Path, quantizer: str) -> None:
    quantize(config(root, tmp_path / "good", quantizer=quantizer))
    spoil(root / "train" / "bee")
    options = {"max_bad": "20%", "max_pixels": 1000, "quantizer": quantizer}
    for out in ("bad", "bad"):  # the second time from the records
        run = quantize(config(root, tmp_path / out, **options))
        found = quarantine.read(run.layout.quarantine)
        assert [Path(record.uri).name for record in found] == sorted(REASONS)
        assert {record.class_id for record in found} == {"bee"}
        assert all(REASONS[Path(record.uri).name] in record.reason for record in found)
        assert f"5 images left out: {run.layout.quarantine}" in summary(run)
        assert "dangling link" in (tmp_path / out / "report.html").read_text()
        assert run.manifest["source"]["quarantined"] == 5
    if quantizer == "lloyd":  # what was left out has no influence on the rest; clvq's order depends on all names
        good, bad = (next((tmp_path / out / "set" / "data" / "ipc3").iterdir()) for out in ("good", "bad"))
        assert good.name == bad.name
        assert good.read_bytes() == bad.read_bytes()


def test_bad_validation_images_are_listed_too_and_held_to_the_limit(root: Path, tmp_path: Path) -> None:
    spoil(root / "val" / "cat")
    options = {"evaluate": True, "methods": ("random",), "ipc": (1,), "max_pixels": 1000}
    with pytest.raises(UserError, match="--val: 5 bad images, more than --max-bad 20%"):
        quantize(config(root, tmp_path / "out", max_bad="20%", **options))  # 5 of 21, though 5 of 69 in all
    assert len(quarantine.read(str(tmp_path / "out" / "quarantine.parquet"))) == 5
    run = quantize(config(root, tmp_path / "out", max_bad="24%", **options))
    assert len(run.bad) == 5
    assert len(run.rows) == 1


@pytest.mark.parametrize(("limit", "code"), [("4", 2), ("5", 0), ("9%", 2), ("10%", 0), ("none", 0)])
def test_limit_stops_the_run_after_the_quarantine_is_written(
    root: Path, tmp_path: Path, limit: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(root / "train" / "ant")  # 5 of 53 are 9.4 %
    out = tmp_path / "out"
    arguments = [
        "quantize",
        "--data",
        str(root),
        "--out",
        str(out),
        *["--codec", "pixels", "--size", "8", "--ipc", "1"],
    ]
    arguments += ["--runner", "local", "--no-evaluate", "--max-pixels", "1000", "--max-bad", limit]
    assert main(arguments) == code
    assert len(quarantine.read(str(out / "quarantine.parquet"))) == 5
    assert (out / "set" / "manifest.json").exists() == (code == 0)
    if code:
        error = capsys.readouterr().err
        assert f"5 bad images, more than --max-bad {limit} allows; they are listed in {out}/quarantine.parquet" in error
        assert "text.png: not an image" in error


def test_absolute_limit_stops_at_once(root: Path, tmp_path: Path) -> None:
    spoil(root / "train" / "ant")
    with pytest.raises(UserError, match="--max-bad 4"):
        quantize(config(root, tmp_path / "out", max_pixels=1000, max_bad="4"))
    assert not any("00001" in name for name in stamps(tmp_path / "out"))


@pytest.mark.parametrize("left", [0, 2])
@pytest.mark.parametrize("quantizer", ["lloyd", "clvq"])
def test_class_without_enough_images_is_named_and_the_others_are_finished(
    root: Path, tmp_path: Path, left: int, quantizer: str
) -> None:
    folder, out = root / "train" / "cat", tmp_path / "out"
    good = {path: path.read_bytes() for path in sorted(folder.iterdir())[left:]}
    for path in good:
        path.write_bytes(b"")
    options = {"quantizer": quantizer, "max_bad": "none"}
    run = quantize(config(root, out, **options))
    (failure,) = run.failures
    assert failure.startswith(f"class cat: IPC 3 asks for more centroids than its {left} usable images")
    assert "NOT MADE: 1 failed" in summary(run)
    assert not (out / "set").exists()
    assert len(quarantine.read(str(out / "quarantine.parquet"))) == len(good)

    for path, content in good.items():
        path.write_bytes(content)
    before = stamps(out)
    run = quantize(config(root, out, **options))
    assert run.computed == {"condense": 1, "write": 1}
    changed = {Path(n).name[:5] for n in rewritten(before, stamps(out)) if n.startswith("work/codebooks")}
    assert changed == {f"{CLASSES.index('cat'):05d}"}
    quantize(config(root, tmp_path / "undisturbed", **options))
    assert contents(out / "set") == contents(tmp_path / "undisturbed" / "set")


def test_failed_classes_give_exit_code_1(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (root / "train" / "dog").iterdir():
        path.write_bytes(b"")
    arguments = ["quantize", "--data", str(root), "--out", str(tmp_path / "out"), "--codec", "pixels", "--size", "8"]
    assert main([*arguments, "--ipc", "3", "--runner", "local", "--no-evaluate", "--max-bad", "none"]) == 1
    streams = capsys.readouterr()
    assert "class dog: " in streams.out
    assert "class dog: " in streams.err


def test_long_list_of_failures_is_cut(root: Path, tmp_path: Path) -> None:
    run = quantize(config(root, tmp_path / "out"))
    run.failures = [f"class {k}: broken" for k in range(1000)]
    text = summary(run)
    assert "1000 failed" in text
    assert text.count("broken") == 20
    assert "980 more" in text
