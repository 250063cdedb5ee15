"""From layers of options to a configuration: which value wins, what is refused, and how that is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic.dataclasses import dataclass

from raycond.core.errors import OptionError
from raycond.core.options import STRICT, Configuration, option, section
from raycond.pipelines import loading
from raycond.pipelines.loading import Layer, layers, load, merge, settle, validated
from raycond.pipelines.places import place


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Training(Configuration):
    GROUP = "training"

    batch: int = option(8, ge=1)
    """Images in a step."""

    lr: float = option(0.1, gt=0, le=1)
    """Learning rate."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Config(Configuration):
    GROUP = "run"

    name: str = option()
    """Name of the run. And more."""

    data: str = option("", place=place)
    """Address."""

    out: str = option("", place=place)
    """Folder."""

    files: tuple[str, ...] = option((), place=place)
    """Several addresses."""

    counts: tuple[int, ...] = option((1,))
    """Several numbers."""

    mode: Literal["fast", "slow"] = option("fast")
    """How."""

    kind: str = option("pixels", choices=lambda: ("pixels", "latents"))
    """What, with an address after a colon."""

    changes: dict[str, Any] = option({}, name="set")
    """What to change."""

    fit: Training = section(Training(), names={"batch": "fit_batch"})

    extra: Training | None = section(None, options=())

    def __post_init__(self) -> None:
        if len(self.counts) > 2:
            raise ValueError("--counts: too many")


def merged(*found: dict[str, Any]) -> dict[str, Any]:
    return merge(Config, [Layer(one) for one in found]).values


def test_the_later_layer_wins_and_sections_are_merged() -> None:
    weak = {"name": "a", "fit": {"batch": 2, "lr": 0.5}, "extra": {"batch": 3}}
    strong = {"name": "b", "fit": {"batch": 4}, "extra": {"lr": 0.7}}
    assert merged(weak, strong) == {"name": "b", "fit": {"batch": 4, "lr": 0.5}, "extra": {"batch": 3, "lr": 0.7}}
    assert merged(strong, weak)["fit"] == {"batch": 2, "lr": 0.5}


def test_an_option_of_a_section_wins_over_the_section_in_the_same_place() -> None:
    assert merged({"fit_batch": 5, "fit": {"batch": 2, "lr": 0.5}})["fit"] == {"batch": 5, "lr": 0.5}
    assert merged({"fit": {"batch": 2}}, {"fit_batch": 5}, {"fit": {"batch": 7}})["fit"] == {"batch": 7}


def test_a_section_that_is_null_is_as_if_it_had_never_been_given() -> None:
    assert "extra" not in merged({"extra": {"batch": 3}}, {"extra": None})
    assert load(Config, {"name": "x", "fit": None}).fit == Training()


def test_an_option_goes_by_its_name_and_by_its_field() -> None:
    assert merged({"set": {"a": 1}}) == merged({"changes": {"a": 1}}) == {"changes": {"a": 1}}


def test_what_is_saved_loads_again() -> None:
    config = load(Config, {"name": "x", "fit_batch": "3", "extra": {"lr": "0.5"}, "counts": ["1", "2"]})
    assert (config.fit.batch, config.counts, config.extra) == (3, (1, 2), Training(lr=0.5))
    assert load(Config, config.to_dict()) == config


def test_addresses_hold_in_every_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = load(Config, {"name": "x", "data": "a", "files": ["b", "s3://c", "digits:"]})
    assert config.data == f"{tmp_path}/a"
    assert config.files == (f"{tmp_path}/b", "s3://c", "digits:")
    found = merge(Config, [Layer({"data": "birds/train"})])
    settle(Config, found, "-more")
    assert (found.values["name"], found.values["out"]) == ("birds", f"{tmp_path}/runs/birds-more")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"counts": ["many"]}, "--counts: expected a whole number, not 'many'"),
        ({"counts": [1.5]}, "--counts: expected a whole number, not 1.5"),
        ({"counts": [1, 2, 3]}, "--counts: too many"),
        ({"fit_batch": 0}, "--fit-batch: expected at least 1, not 0"),
        ({"lr": 0}, "--lr: expected a number above 0, not 0"),
        ({"lr": 2}, "--lr: expected at most 1, not 2"),
        ({"lr": "high"}, "--lr: expected a number, not 'high'"),
        ({"extra": {"batch": "x"}}, "extra.batch: expected a whole number, not 'x'"),
        ({"mode": "fats"}, "--mode: expected one of fast, slow, not 'fats'; did you mean fast?"),
        ({"kind": "latnets:x"}, "--kind: expected one of pixels, latents, not 'latnets:x'; did you mean latents?"),
        ({"nam": "x"}, "unknown field 'nam'; did you mean name?"),
        ({"zzzz": 1}, "unknown field 'zzzz'; known: changes, counts, data, extra, files, fit, fit_batch, kind, lr, "),
        ({"fit": {"bach": 1}}, "fit: unknown field 'bach'; did you mean batch?"),
        ({"fit": {"fit_batch": 1}}, "fit: unknown field 'fit_batch'"),
        ({"extra": 3}, "extra: expected `field: value` lines, not 3"),
        ({"name": None}, "--name: expected text, not None"),
        ({"lr": 0, "fit_batch": 0}, "--lr: .* not 0; --fit-batch: .* not 0|--fit-batch: .* not 0; --lr: .* not 0"),
    ],
)
def test_wrong_value_is_named_in_one_line(options: dict[str, Any], text: str) -> None:
    with pytest.raises(OptionError, match=text) as caught:
        load(Config, {"name": "x", **options})
    assert "\n" not in str(caught.value)


def test_missing_value_is_named_with_its_text() -> None:
    with pytest.raises(OptionError, match=r"^--name is missing: Name of the run$"):
        load(Config, {})


@pytest.mark.parametrize("options", [{"fit_batch": 0}, {"mode": "x"}, {"kind": "x"}, {"nme": "x"}, {"fit": 3}])
def test_the_place_of_a_wrong_value_is_named(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=r"\(in preset small\)"):
        validated(Config, merge(Config, [Layer(options, "preset small"), Layer({"name": "x"})]))


def test_presets_and_files_come_before_options(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text("name: file\nlr: 0.25\n")
    known = {"small": "name: preset\nlr: 0.5\nfit_batch: 2\n"}
    config = validated(Config, merge(Config, layers({"name": "given"}, known, "small", str(file))))
    assert (config.name, config.fit) == ("given", Training(batch=2, lr=0.25))
    with pytest.raises(OptionError, match=r"--preset smal: not one of small; did you mean small\?"):
        layers({}, known, "smal", None)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"name: [", b"- a\n- b"])
def test_file_that_is_no_configuration_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "own.yaml").write_bytes(content)
    for name in ("own.yaml", "none.yaml", "."):
        with pytest.raises(OptionError, match=f"--config .*{name}") as caught:
            layers({}, {}, None, str(tmp_path / name))
        assert "\n" not in str(caught.value)


SCRIPTS = {"": "imagenet_quantize", "generators": "train_generator", "projectors": "fit_projector", "kernel": "kernel"}


@pytest.mark.parametrize("folder", SCRIPTS)
def test_presets_name_their_commands(folder: str) -> None:
    script = SCRIPTS[folder]
    for name, text in loading.presets(folder).items():
        assert f"pipelines/{script}.py --preset {name}" in text.replace("-- --preset", "--preset")
