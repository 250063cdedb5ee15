"""Names of classes and images: carried, shown and compared safely, or refused before anything is written."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

import raycond
from raycond.core.errors import UserError
from raycond.data.classes import Classes
from raycond.sets.class_names import name_problems, require_storable
from raycond.sets.inspect import describe
from raycond.sets.verify import verify
from raycond.sets.writer import ClassPart
from tests.sets.make import change_manifest, part, write

LATIN1 = os.fsdecode(b"caf\xe9")


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (
            Classes(("n02012849", "n03126707", "x"), ("crane", "crane", "x")),
            "'crane': shared by classes n02012849, n03",
        ),
        (Classes.of((LATIN1, "b", "c")), r"class 'caf\\xe9': its name is not UTF-8"),
        (Classes(("a", "b", "c"), ("a", "\ud800", "c")), r"class '\\ud800': its name is not UTF-8"),
    ],
)
def test_what_no_reader_could_hold_is_refused_and_nothing_is_written(
    tmp_path: Path, classes: Classes, message: str
) -> None:
    assert len(list(name_problems(classes))) == 1
    for action in (lambda: require_storable(classes), lambda: write(tmp_path / "s", classes=classes)):
        with pytest.raises(UserError, match=message):
            action()
    assert not (tmp_path / "s").exists()


def test_a_set_with_shared_names_is_no_whole_set(tmp_path: Path) -> None:
    """As earlier versions wrote it: its digests are right, and `datasets` refuses it."""
    import datasets

    same = Classes(("n02012849", "n03126707", "x"), ("crane", "crane", "x"))
    object.__setattr__(distinct := replace(same, names=("crane", "other", "x")), "names", same.names)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("raycond.sets.writer.require_storable", lambda _: None)
        write(tmp_path / "s", classes=distinct)
    with pytest.raises(Exception, match="duplicated"):
        datasets.load_dataset(str(tmp_path / "s"), "ipc4", cache_dir=str(tmp_path / "cache"))
    expected = "class name 'crane': shared by classes n02012849, n03126707, and datasets needs distinct ones"
    assert verify(str(tmp_path / "s")) == [expected]


@pytest.mark.parametrize(
    "names",
    [
        ("a\x1b[31mred", "b\nc", "d\te"),
        ("é", "e\u0301", "E\u0301"),
        ("", "=1", "../x"),
        ("<b>", "`x`", "a | b"),
        ("yes", "null", "1e5"),
        ("\u202eabc", "a\x00b", "x" * 1000),
        ("---", "- a: b", "#"),
    ],
)
def test_odd_names_are_carried_as_they_are_and_shown_escaped(tmp_path: Path, names: tuple[str, str, str]) -> None:
    import datasets

    classes = Classes.of(names)
    write(tmp_path / "s", classes=classes, name=names[0] or "x")
    assert verify(str(tmp_path / "s")) == []
    assert raycond.open(str(tmp_path / "s")).classes == classes
    rows = datasets.load_dataset(str(tmp_path / "s"), "ipc4", cache_dir=str(tmp_path / "cache"))["train"]
    assert rows.features["label"].names == list(names)
    assert rows["class_id"][:] == [name for name in names for _ in range(4)]
    assert pd.read_parquet(tmp_path / "s" / "data" / "ipc4").class_id.tolist() == rows["class_id"][:]
    assert all(line.isprintable() for line in describe(str(tmp_path / "s")).splitlines())
    card = (tmp_path / "s" / "README.md").read_text()
    assert all(char.isprintable() or char == "\n" for char in card)
    assert "<b>" not in card.split("---\n", 2)[2]


def test_names_of_images_that_are_no_utf8_are_escaped(tmp_path: Path) -> None:
    def load(ipc: int, label: int) -> ClassPart:
        return replace(part(ipc, label), medoid_ids=tuple(f"{LATIN1}/{k}.jpg" for k in range(ipc)))

    write(tmp_path / "s", load=load, name=LATIN1, source={"uri": LATIN1, "sha256": "0", "quarantined": 0})
    assert verify(str(tmp_path / "s")) == []
    assert raycond.open(str(tmp_path / "s")).source_ids[1] == "caf\\xe9/1.jpg"
    assert "caf\\xe9" in describe(str(tmp_path / "s"))
    content = json.loads((tmp_path / "s" / "manifest.json").read_text())
    assert content["source"]["uri"] == content["name"] == "caf\\xe9"


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ("no front matter", "its front matter, which datasets reads, is damaged"),
        ("---\nconfigs: 5\n---\n", "is damaged"),
        ("---\nconfigs: [{config_name: ipc4}]\n---\n", "is damaged"),
        ("---\nconfigs: []\n---\n", "its configuration ipc1, which datasets reads, does not name the files"),
        ("---\n" + "[" * 5000 + "\n---\n", "is damaged"),
    ],
)
def test_a_card_that_datasets_would_read_wrongly(tmp_path: Path, card: str, message: str) -> None:
    from tests.sets.make import relist

    write(tmp_path / "s")
    (tmp_path / "s" / "README.md").write_text(card)
    relist(tmp_path / "s", "README.md")
    assert message in verify(str(tmp_path / "s"))[0]


def test_a_card_that_names_files_by_patterns_is_right(tmp_path: Path) -> None:
    """As earlier versions wrote it."""
    import yaml

    from tests.sets.make import relist

    folder = tmp_path / "s"
    write(folder)
    head, front, page = (folder / "README.md").read_text().split("---\n", 2)
    facts = yaml.safe_load(front)
    for config in facts["configs"]:
        config["data_files"][0]["path"] = f"data/{config['config_name']}/train-*.parquet"
    (folder / "README.md").write_text(f"{head}---\n{yaml.safe_dump(facts)}---\n{page}")
    relist(folder, "README.md")
    assert verify(str(folder)) == []
    facts["configs"][0]["data_files"][0]["path"] = "data/*/train-*.parquet"
    (folder / "README.md").write_text(f"{head}---\n{yaml.safe_dump(facts)}---\n{page}")
    relist(folder, "README.md")
    assert "its configuration ipc1" in verify(folder.as_posix())[0]


def test_a_hostile_manifest_is_shown_on_lines_of_their_own(tmp_path: Path) -> None:
    write(tmp_path / "s")
    text = "x\n\x1b]0;title\x07\u202e"
    change_manifest(
        tmp_path / "s", lambda m: m.update(name=text, method=text, generator=text, labels=text, raycond=text)
    )
    change_manifest(tmp_path / "s", lambda m: m["source"].update(uri=text, sha256=text))
    change_manifest(tmp_path / "s", lambda m: m["storage_bytes"].update({text: 1}))
    change_manifest(
        tmp_path / "s", lambda m: m.update(diffusion={"name": text, "sha256": text, "options": {text: text}})
    )
    assert all(line.isprintable() for line in describe(str(tmp_path / "s")).splitlines())
    assert len(describe(str(tmp_path / "s")).splitlines()) == 16
    change_manifest(tmp_path / "s", lambda m: m["classes"].update(names=[text, "b", "c"]))
    assert all(problem.isprintable() for problem in verify(str(tmp_path / "s")))
