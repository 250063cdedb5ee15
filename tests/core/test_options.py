"""What `options_of` reads from a configuration: groups, texts, defaults, names and sections."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest
from pydantic.dataclasses import dataclass

from raycond.core.options import STRICT, Configuration, Option, command_line, option, options_of, section, sections_of


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Source(Configuration):
    """Which images are read.

    More than people need to know.
    """

    GROUP = "source"

    size: int = option(256, ge=1)
    """Pixels on
    each side."""

    limit: int | None = option(None, ge=1, unset="all images")
    """Images of each class."""

    mirrored: bool = option(False)
    """Read mirrored images too."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Training(Configuration):
    """How weights change."""

    GROUP = "training"

    rate: float = option(1e-4, gt=0)
    """Learning rate."""

    optimizer: Literal["adamw", "sgd"] = option("sgd")
    """Which optimizer."""

    area: tuple[float, float] | None = option((0.5, 1.0))
    """Least and most."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Everything(Source):
    GROUP = "rest"

    path: str = option(metavar="PATH", positional=True)
    """What is read."""

    size: int = option(64, ge=1)

    counts: tuple[int, ...] = option((1, 10))
    """How many."""

    changes: dict[str, Any] = option({}, name="set", metavar="A=B")
    """What to change."""

    kind: str = option("a:b", choices=lambda: ("a", "c"))
    """Which kind."""

    fit: Training = section(Training(rate=0.5), names={"rate": "fit_rate"}, options=("rate", "area"))

    more: Training | None = section(None, options=())


def options() -> dict[str, Option]:
    return {one.name: one for one in options_of(Everything)}


def test_every_field_is_an_option_of_one_group() -> None:
    groups = {one.name: one.group for one in options_of(Everything)}
    assert groups == {
        **dict.fromkeys(("size", "limit", "mirrored"), "source"),
        **dict.fromkeys(("path", "counts", "set", "kind"), "rest"),
        **dict.fromkeys(("fit_rate", "fit.optimizer", "area"), "training"),
        **dict.fromkeys(("more.rate", "more.optimizer", "more.area"), "training"),
    }
    assert options()["limit"].group_text == "Which images are read."


def test_a_section_gives_the_options_that_it_is_asked_for() -> None:
    assert [one.name for one in command_line(Everything) if one.group == "training"] == ["fit_rate", "area"]
    found = options()
    assert found["fit_rate"].path == ("fit", "rate")
    assert found["fit_rate"].flag == "--fit-rate"
    assert found["more.rate"].flag == "more.rate"
    assert sections_of(Everything) == {"fit": Training, "more": Training}


def test_text_and_default_come_from_the_nearest_class_that_has_them() -> None:
    size = options()["size"]
    assert (size.text, size.default) == ("Pixels on each side.", 64)
    assert {one.name: one.default for one in options_of(Source)}["size"] == 256
    assert options()["fit_rate"].default == 0.5  # the section's default, not the class's
    assert options()["more.rate"].default == 1e-4


@pytest.mark.parametrize(
    ("name", "metavars", "default"),
    [
        ("size", "N", "64"),
        ("limit", "N", "all images"),
        ("fit_rate", "X", "0.5"),
        ("fit.optimizer", "{adamw,sgd}", "sgd"),
        ("area", "X X", "0.5 1.0"),
        ("counts", "N [N ...]", "1 10"),
        ("set", "A=B [A=B ...]", "none"),
        ("kind", "{a,c}", "a:b"),
        ("mirrored", "", "no"),
        ("path", "PATH", ""),
    ],
)
def test_how_values_and_defaults_are_written(name: str, metavars: str, default: str) -> None:
    one = options()[name]
    assert one.is_switch or one.metavars == metavars
    assert one.default_text == default
    assert one.is_switch == (name == "mirrored")
    assert one.required == one.positional == (name == "path")


def test_plain_values() -> None:
    plain = Everything(path="p", more=Training()).to_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["counts"] == [1, 10]
    assert plain["fit"] == {"rate": 0.5, "optimizer": "sgd", "area": [0.5, 1.0]}


def test_two_options_of_one_name_are_a_fault() -> None:
    @dataclass(frozen=True, kw_only=True, config=STRICT)
    class Twice(Source):
        fit: Training = section(Training(), names={"rate": "size"})

    with pytest.raises(AssertionError, match=r"Twice: \['size', 'size'\] twice"):
        options_of(Twice)
