"""What the run was made on: the device, its driver, the processor, and the versions of the packages."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path

import torch

from benchmarks.processor import cores, processor

# that raycond imports on the paths that are run here, beside torch
PACKAGES = (
    *("torchvision", "transformers", "timm", "diffusers", "open_clip_torch", "ftfy", "wcwidth", "safetensors"),
    *("pydantic", "pydantic_core", "numpy", "pillow", "PyYAML", "fsspec", "pyarrow", "scikit-learn", "scipy", "pytest"),
)
# bf16 operations per second of dense matrices, from NVIDIA's data sheets, of a device whose name begins so; the first
# name that fits counts
NOMINAL = {
    "NVIDIA B200": 2250e12,
    "NVIDIA H200 NVL": 835e12,
    "NVIDIA H200": 989e12,
    "NVIDIA H100 NVL": 835e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H100": 989e12,
    "NVIDIA A100": 312e12,
    "NVIDIA L40S": 362e12,
    "NVIDIA L40": 181e12,
    "NVIDIA L4": 121e12,
    "NVIDIA A10G": 70e12,
    "NVIDIA A10": 125e12,
    "NVIDIA GeForce RTX 4090": 165e12,
}


def nominal_peak(device: torch.device) -> float | None:
    """The data sheet's bf16 operations per second, or None for a device that is not in the table."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for start, peak in NOMINAL.items() if name.startswith(start)), None)


def about(device: torch.device) -> dict[str, str]:
    """Name → value, for people."""
    facts = {"device": processor(), "torch": torch.__version__}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        facts = {
            "device": properties.name,
            "memory": f"{properties.total_memory / 2**30:.0f} GiB",
            "multiprocessors": str(properties.multi_processor_count),
            "compute capability": f"{properties.major}.{properties.minor}",
            "driver": _driver(),
            "torch": torch.__version__,
            "CUDA of torch": str(torch.version.cuda),
            "cuDNN": str(torch.backends.cudnn.version()),
        }
    facts |= {"processor": processor(), "cores": str(cores()), "system": platform.platform()}
    facts |= {"Python": platform.python_version(), "raycond": _revision()}
    return facts | {name: version for name, version in _versions().items() if version}


def absent() -> list[str]:
    """Packages that raycond uses on some path and that are not here."""
    return [name for name, version in _versions().items() if not version]


def _versions() -> dict[str, str]:
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = ""
    return versions


def _driver() -> str:
    return _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader") or "unknown"


def _revision() -> str:
    from raycond import __version__

    commit = _output("git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD")
    return f"{__version__}, commit {commit}" if commit else __version__


def _output(*command: str) -> str:
    """The first line that a command prints, or nothing if it cannot be run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.partition("\n")[0].strip()
