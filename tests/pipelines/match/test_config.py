"""Options and presets: the paper's values where nothing is given, and what is given above them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from raycond.core.errors import OptionError
from raycond.evaluate.protocol import presets as protocols
from raycond.methods.match.published import DATASETS, published
from raycond.pipelines.loading import presets
from raycond.pipelines.match.config import MatchingConfig, load_matching_config


def load(preset: str | None = None, **options: Any) -> MatchingConfig:
    return load_matching_config({"data": "/data", **options}, preset=preset)


def test_every_data_set_has_a_preset() -> None:
    assert set(presets("match")) == set(DATASETS)


@pytest.mark.parametrize("name", DATASETS)
@pytest.mark.parametrize("method", ["dc", "dsa", "dm", "idc"])
def test_presets_are_the_papers_values(name: str, method: str) -> None:
    parts = 1 if method == "dc" or method == "dsa" else None
    options = {"method": method, **({"parts": 1} if parts else {})}
    config = load(name, **options)
    expected = published(method, name, 10, factor=config.factor)
    found = config.matching(10)
    assert found.to_dict() == {**expected.to_dict(), "log_every": found.log_every}
    assert config.shape == (DATASETS[name].channels, DATASETS[name].size, DATASETS[name].size)
    assert config.constants is not None
    assert len(config.constants[0]) == DATASETS[name].channels
    assert config.protocol_name in protocols()
    assert (config.name, config.out.endswith(f"runs/{name}-{method}")) == (name, True)


def test_protocols_of_the_papers() -> None:
    def name(preset: str, **options: Any) -> str:
        return load(preset, **options).protocol_name

    assert name("mnist", method="dc") == "dc-bench-mnist"
    assert name("cifar10", method="dc") == "dc-bench"
    assert name("svhn", method="dm") == "dc-bench-dsa-digits"
    assert name("cifar10", method="dsa") == "dc-bench-dsa"
    assert name("cifar10", method="idc", factor=2) == "idc"
    assert [name("mnist", method="idc", factor=f) for f in (1, 2)] == ["idc-digits", "idc-mnist"]
    assert name("imagenet-10") == "minimax-hard"
    assert name("cifar10", protocol="quick") == "quick"


def test_what_is_given_wins() -> None:
    config = load(
        "cifar10",
        method="idc",
        sampling="dream",
        network="convnet3-w32",
        iterations=7,
        init="random",
        clusters=16,
        recluster=3,
        changes={"lr": 0.5, "training.cutmix": 0.0, "sampling.pixels": "raw"},
    )
    found = config.matching(10)
    assert (found.network, found.iterations, found.init, found.lr) == ("convnet3-w32", 7, "random", 0.5)
    assert (found.sampling.kind, found.sampling.clusters, found.sampling.recluster) == ("dream", 16, 3)
    assert (found.sampling.pixels, found.training.cutmix, found.training.images) == ("raw", 0.0, 2000)
    assert config.row == "idc+dream"
    assert config.student_names == ("convnet3-w32",)


def test_idcs_learning_rate_follows_the_size() -> None:
    small, large = (load("cifar10", method="idc", size=size).matching(10).lr for size in (32, 64))
    assert large == pytest.approx(4 * small)


def test_a_curve_has_at_most_five_thousand_entries() -> None:
    assert load("cifar10", method="idc").matching(10).log_every == 200_000 // 5000
    assert load("cifar10", method="dc", iterations=10).matching(1).log_every == 1
    assert load("cifar10", method="dm", changes={"log_every": 7}).matching(1).log_every == 7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": ""}, "--data"),
        ({"ipc": (1, 1)}, "--ipc: expected at least one, and none twice"),
        ({"ipc": (0,)}, "--ipc"),
        ({"method": "mtt"}, "--method"),
        ({"published": "cifar-10"}, "--published: expected one of .*did you mean cifar10"),
        ({"clusters": 8}, "--clusters: goes with --sampling dream"),
        ({"recluster": 8}, "--recluster: goes with --sampling dream"),
        ({"parts": 2}, "--parts 2: the networks of dc learn the images of all classes"),
        ({"baselines": ("none", "full")}, "none goes with no other"),
        ({"gpus_per_worker": 1.5}, "--gpus-per-worker"),
        ({"changes": {"learning_rate": 1}}, "--set learning_rate: is not a setting.*Settings: steps, lr, momentum"),
        ({"changes": {"network": "mlp"}}, "--set network: is not a setting: give --network"),
        ({"changes": {"sampling.clusters": 3}}, "--set sampling.clusters: is not a setting: give --clusters"),
        ({"changes": {"lr": -1}}, "--set lr: Input should be greater than 0"),
        ({"changes": {"training.batch": 0}}, "--set training.batch|--set batch"),
        ({"changes": {"strategy": "color_magic", "augment": "dsa"}}, "magic"),
    ],
)
def test_what_is_wrong_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        load(**options)


def test_a_preset_and_a_file(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("method: dm\nipc: [3]\nchanges: {batch: 32}\n")
    config = load_matching_config({"data": "/d", "ipc": (4,)}, preset="mnist", config=str(tmp_path / "mine.yaml"))
    assert (config.method, config.ipc, config.matching(4).batch) == ("dm", (4,), 32)
