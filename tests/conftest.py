"""Shared fixtures: one Ray cluster for the whole run, real data where it is present."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # a test run must not write a token into the home folder
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")

# a shell may have its background jobs ignore SIGINT, and what tests start would inherit that
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test marked `gpu` is skipped where torch finds no device."""
    if item.get_closest_marker("gpu") is not None:
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")


ROOT = Path(__file__).resolve().parent.parent


def _folder(variable: str, name: str) -> Path:
    folder = Path(os.environ.get(variable) or ROOT.parent / "shared" / name)
    if not folder.is_dir():
        pytest.skip(f"no real {name}: set {variable} to a folder that has them")
    return folder


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder with mnist/, fashion-mnist/ and imagenette/; skips where absent."""
    return _folder("RAYCOND_DATA", "data")


@pytest.fixture(scope="session")
def real_weights() -> Path:
    """Folder with small real weights (TAEF2, MobileNetV2); skips where absent."""
    return _folder("RAYCOND_WEIGHTS", "weights")


@pytest.fixture
def full_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """float32 convolutions on a GPU in full precision, to be compared with the CPU's."""
    import torch

    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[str]:
    """Two Ray nodes in this process's machine, shared by every test marked `ray`."""
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    cluster.add_node(num_cpus=2)
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False)
    yield cluster.address
    ray.shutdown()
    cluster.shutdown()
