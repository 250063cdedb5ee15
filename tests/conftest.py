"""One thread per process, one Ray cluster for all tests that need one, real data where it is present."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

# Networks of tests are so small that several threads only wait for each other; sums must not depend on the number.
# Set before torch is imported, and for every process that tests start.
os.environ["OMP_NUM_THREADS"] = "1"
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
def new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """Writes a module of one's own and gives its name, as somebody who adds a codec, a student, … would."""
    names: list[str] = []

    def write(text: str) -> str:
        names.append(f"new_file_{len(names)}")
        (tmp_path / f"{names[-1]}.py").write_text(textwrap.dedent(text))
        return names[-1]

    monkeypatch.syspath_prepend(str(tmp_path))
    yield write
    for name in names:
        sys.modules.pop(name, None)


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


@pytest.fixture
def children() -> Iterator[list[psutil.Process]]:
    """Processes that a test has seen its command start; none may outlive it."""
    seen: list[psutil.Process] = []
    yield seen
    for process in seen:
        with contextlib.suppress(psutil.Error):
            process.kill()
