"""What every pipeline checks first: a wrong option is an error before anything is fetched, decoded or started."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raycond.core.errors import UserError
from raycond.pipelines.fit_projector import run as fit_projector
from raycond.pipelines.fit_projector.config import load_projector_config
from raycond.pipelines.quantize import run as quantize
from raycond.pipelines.quantize.config import load_config
from raycond.pipelines.train_generator import run as train_generator
from raycond.pipelines.train_generator.config import load_generator_config
from tests.data.make import tree

Prepare = Callable[[dict[str, Any]], object]
PUBLIC_VAE = "kl:stabilityai/sd-vae-ft-mse"


def _quantize(options: dict[str, Any]) -> object:
    return quantize.prepare(load_config({"codec": PUBLIC_VAE, **options}))


def _train_generator(options: dict[str, Any]) -> object:
    return train_generator.prepare(load_generator_config({"codec": PUBLIC_VAE, **options}))


def _fit_projector(options: dict[str, Any]) -> object:
    return fit_projector.prepare(load_projector_config({"clip": "RN50:openai", **options}))


@pytest.fixture(params=[_quantize, _train_generator, _fit_projector], ids=lambda function: function.__name__)
def prepare(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Prepare:
    """Checks the options of one pipeline; fails if a model is opened, which would be fetched first."""

    def fetch(*names: object, **_: object) -> None:
        pytest.fail(f"opened {names}")

    for module, name in (
        (quantize, "open_codec"),
        (train_generator, "open_codec"),
        (fit_projector, "check_clip"),
        (fit_projector, "identities"),
    ):
        monkeypatch.setattr(module, name, fetch)
    function: Prepare = request.param
    return function


def test_a_run_folder_that_is_a_file_is_refused(prepare: Prepare, tmp_path: Path) -> None:
    tree(tmp_path / "data", {"a": 2, "b": 2})
    (tmp_path / "out").write_text("x")
    with pytest.raises(UserError, match=f"--out {tmp_path}/out: is a file; give a folder"):
        prepare({"data": f"{tmp_path}/data", "out": f"{tmp_path}/out"})


def test_sizes_that_no_memory_holds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--size: expected at most 8192, not 100000"):
        load_config({"data": str(tmp_path), "size": 100_000})


def test_an_address_without_images_is_noticed_first(prepare: Prepare, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"--data: {tmp_path}/nowhere: does not exist"):
        prepare({"data": f"{tmp_path}/nowhere", "out": f"{tmp_path}/out"})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"max_bad": "many"}, "--max-bad: .*'many' is neither a number of images"),
        ({"classes": 3}, "--classes 3: .*data has only 2"),
        ({"out": "memory://run", "runner": "ray"}, "--out memory://run: is of one process; use --runner local"),
    ],
    ids=str,
)
def test_options_of_the_source_are_checked_before_models(
    prepare: Prepare, tmp_path: Path, options: dict[str, Any], text: str
) -> None:
    tree(tmp_path / "data" / "train", {"ant": 1, "bee": 1})
    with pytest.raises(UserError, match=text):
        prepare({"data": f"{tmp_path}/data", "out": f"{tmp_path}/out", **options})
