from __future__ import annotations

import math
from pathlib import Path

import pytest

from raycond.core.errors import OptionError, UserError
from raycond.pipelines.kernel.config import KernelConfig, load_kernel_config
from raycond.pipelines.loading import presets


def load(**options: object) -> KernelConfig:
    return load_kernel_config({"data": "digits:", **options})


def test_defaults_are_those_of_the_published_code() -> None:
    config = load()
    assert (config.lr, config.batch, config.reg, config.learn_labels) == (4e-2, 5000, 1e-6, False)
    assert (config.w_std, config.b_std, config.kernel, config.zca_reg) == (math.sqrt(2), 0.1, "convnet", 0.1)
    assert config.out.endswith("runs/digits-kernel")


@pytest.mark.parametrize("name", presets("kernel"))
def test_presets_are_of_the_papers_sets(name: str) -> None:
    config = load_kernel_config({"data": "s3://bucket/images"}, preset=name)
    gray = name in ("mnist", "fashion-mnist")
    assert (config.shape, config.preprocess) == (((1, 28, 28), "standard") if gray else ((3, 32, 32), "zca"))
    assert config.ipc == ((1, 10) if name == "cifar100" else (1, 10, 50))
    assert config.network.name == "convnet"
    assert load_kernel_config({"data": "x", "method": "ls", "kernel": "fc1"}, preset=name).method == "ls"


def test_blocks_are_large_where_they_are_cheap() -> None:
    assert load(kernel="fc3").block_size == 512
    assert load(kernel="conv-vec3").block_size == 512
    assert load(kernel="convnet3").block_size == 64
    assert load(block=7).block_size == 7


def test_label_solve_is_in_float64_and_kip_in_float32_unless_told() -> None:
    assert (load(method="ls").precision, load().precision) == ("float64", "float32")
    assert load(method="ls", dtype="float32").precision == "float32"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "ls", "steps": 3}, "--steps: does nothing with --method ls"),
        ({"method": "ls", "learn_labels": True}, "--learn-labels: does nothing with --method ls"),
        ({"ipc": (1, 1)}, "--ipc: expected at least one, and none twice"),
        ({"ipc": (0,)}, "--ipc: expected numbers from 1 up"),
        ({"gpus_per_worker": 0.5}, "--gpus-per-worker 0.5: expected 0 or 1"),
        ({"targets": 0}, "--targets: expected at least 1"),
        ({"augment_share": 2}, "--augment-share: expected at most 1"),
        ({"methods": ("dc",)}, "--methods: expected one of random, kip, ls, full"),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        load(**options)


def test_kernels_that_do_not_exist_or_do_not_take_the_images_are_named() -> None:
    with pytest.raises(UserError, match="--kernel: no kernel 'convnets'. Did you mean convnet"):
        load(kernel="convnets")
    with pytest.raises(UserError, match="--kernel: kernel convnet halves its images 3 times"):
        load(size=7)


def test_a_source_is_needed() -> None:
    with pytest.raises(OptionError, match="--data: give a URI"):
        load_kernel_config({})


def test_a_file_of_options_is_read(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("kernel: fc2\nipc: [7]\n")
    config = load_kernel_config({"data": "digits:"}, config=str(tmp_path / "own.yaml"))
    assert (config.network.name, config.ipc) == ("fc2", (7,))
