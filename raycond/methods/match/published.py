"""The papers' values per method, data set, and images per class, as data.

Sources, at the commits that the values were read from: DC, DSA and DM: VICO-UoE/DatasetCondensation 53f63a6. IDC:
snu-mllab/Efficient-Dataset-Condensation ceac95a (`--reproduce`). DREAM: lyq312318224/DREAM 595e3c1 (`--reproduce`).
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from raycond.core.errors import UserError
from raycond.methods.match.config import MatchConfig, NetworkTraining, SamplingConfig
from raycond.methods.match.idc import scaled_lr
from raycond.methods.match.registry import method

Floats = tuple[float, ...]


@dataclass(frozen=True)
class Dataset:
    """Pixels per side, channels, classes, and the constants that normalize images, per channel in [0, 1]."""

    size: int
    channels: Literal[1, 3]
    classes: int
    mean: Floats
    std: Floats


_CIFAR10 = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

DATASETS: Mapping[str, Dataset] = {
    "mnist": Dataset(28, 1, 10, (0.1307,), (0.3081,)),
    "fashion-mnist": Dataset(28, 1, 10, (0.2861,), (0.3530,)),
    "svhn": Dataset(32, 3, 10, (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
    "cifar10": Dataset(32, 3, 10, *_CIFAR10),
    "cifar100": Dataset(32, 3, 100, (0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762)),
    "tiny-imagenet": Dataset(64, 3, 200, *_IMAGENET),
    "imagenet-10": Dataset(224, 3, 10, *_IMAGENET),
    "imagenet-100": Dataset(224, 3, 100, *_IMAGENET),
}

# The released IDC and DREAM normalize CIFAR-100 with the constants of CIFAR-10.
IDC_NORMALIZATION: Mapping[str, tuple[Floats, Floats]] = {"cifar100": _CIFAR10}

# IPC: (matching steps with a network, passes over the synthetic images after each): `get_loops` of VICO's code.
LOOPS: Mapping[int, tuple[int, int]] = {1: (1, 1), 10: (10, 50), 20: (20, 25), 30: (30, 20), 40: (40, 15), 50: (50, 10)}

_DSA_ALL = "color_crop_cutout_flip_scale_rotate"
_DSA_DIGITS = "color_crop_cutout_scale_rotate"  # mirrored digits are other shapes

DSA_STRATEGIES: Mapping[str, str] = {"mnist": _DSA_DIGITS, "svhn": _DSA_DIGITS}

DM_LARGE_IPC = 100  # from here on DM's learning rate is 10 on CIFAR-10

IDC: Mapping[str, Mapping[str, Any]] = {
    "mnist": {"distance": "l1", "lr": 1e-4, "training": {"images": 500}},
    "fashion-mnist": {"distance": "l1", "lr": 1e-4, "training": {"images": 500}},
    "svhn": {"training": {"images": 500}},
    "cifar10": {},
    "cifar100": {},
    "tiny-imagenet": {"training": {"images": 1000}},  # of DREAM's code; IDC has none
    "imagenet-10": {
        "distance": "l1",
        "lr": 3e-3,
        "iterations": 500,
        "training": {"images": 500, "cutmix": 1.0, "pretrain": 10},
    },
    # IDC takes networks of 5 epochs from a pool that it trains beforehand
    "imagenet-100": {
        "distance": "l1",
        "lr": 1e-3,
        "iterations": 500,
        "batch": 128,
        "training": {"images": 500, "cutmix": 1.0, "pretrain": 5, "batch": 128, "lr": 0.1, "weight_decay": 1e-4},
    },
}

IDC_REFERENCE_SIZE: Mapping[str, int] = {"mnist": 28, "imagenet-10": 224, "imagenet-100": 224}  # else 32
TINY_LR_AT_50 = 1e-6  # DREAM's on TinyImageNet at IPC 50

NETWORKS: Mapping[str, str] = {
    "tiny-imagenet": "convnet4",
    "imagenet-10": "resnetap10",
    "imagenet-100": "resnetap10",
}  # else convnet3

DREAM_CLUSTERS: Mapping[str, int] = {"tiny-imagenet": 64}  # else 128


def published(
    name: str,
    dataset: str,
    ipc: int,
    *,
    factor: int = 1,
    sampling: Literal["random", "dream"] = "random",
    size: int | None = None,
) -> MatchConfig:
    """The configuration of a paper. name: of the method; dataset: one of DATASETS. size: pixels a side where they are
    not the data set's, which IDC's learning rate is scaled by.

    Values that no source states: the loops of DC and DSA for an IPC outside LOOPS, which continue the table (IPC steps,
    500 / IPC passes); DC, DSA and DM with DREAM, whose code was not published, take DREAM's clusters and start.
    Raises UserError for an unknown method or data set.
    """
    if dataset not in DATASETS:
        near = difflib.get_close_matches(dataset.lower(), DATASETS, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UserError(f"--preset {dataset}: not one of {', '.join(DATASETS)}{hint}")
    settings: dict[str, Any] = {
        **method(name).settings,
        "method": name,
        "ipc": ipc,
        "factor": factor,
        "network": NETWORKS.get(dataset, "convnet3"),
    }
    if name == "idc":
        settings = _idc(settings, dataset, sampling, size or DATASETS[dataset].size)
    elif name == "dm":
        settings |= _dm(dataset, ipc)
    else:
        settings = _dc(settings, dataset)
    if sampling == "dream":
        settings["init"] = "kmeans"
        clusters = DREAM_CLUSTERS.get(dataset, 128)
        settings["sampling"] = {**settings.get("sampling", {}), "kind": "dream", "clusters": clusters}
    settings["sampling"] = SamplingConfig(**settings.get("sampling", {}))
    settings["training"] = NetworkTraining(**settings.get("training", {}))
    return MatchConfig(**settings)


def normalization(name: str, dataset: str) -> tuple[Floats, Floats]:
    """Mean and deviation per channel that the code of a method uses for a data set."""
    known = DATASETS[dataset]
    return IDC_NORMALIZATION.get(dataset, (known.mean, known.std)) if name == "idc" else (known.mean, known.std)


def protocol(name: str, dataset: str, *, factor: int = 1) -> str:
    """The evaluation protocol of a method's paper on a data set, by its name in `raycond.evaluate.protocol`."""
    if name == "idc":
        if DATASETS[dataset].size == 224:
            return "minimax-hard"  # IDC's recipe there
        if dataset == "mnist" and factor > 1:
            return "idc-mnist"
        return "idc-digits" if dataset in DSA_STRATEGIES else "idc"
    if name == "dc":
        return "dc-bench-mnist" if dataset == "mnist" else "dc-bench"
    return "dc-bench-dsa-digits" if dataset in DSA_STRATEGIES else "dc-bench-dsa"


def _dc(settings: dict[str, Any], dataset: str) -> dict[str, Any]:
    ipc = settings["ipc"]
    steps, epochs = LOOPS.get(ipc, (ipc, max(1, round(500 / ipc))))
    training = {**settings["training"], "epochs": epochs}
    if settings["method"] == "dsa":
        strategy = DSA_STRATEGIES.get(dataset, _DSA_ALL)
        settings["strategy"] = training["strategy"] = strategy
    return {**settings, "steps": steps, "training": training}


def _dm(dataset: str, ipc: int) -> dict[str, Any]:
    large = dataset == "cifar10" and ipc >= DM_LARGE_IPC
    return {"strategy": DSA_STRATEGIES.get(dataset, _DSA_ALL), "lr": 10.0 if large else 1.0}


def _idc(settings: dict[str, Any], dataset: str, sampling: str, size: int) -> dict[str, Any]:
    values, ipc, factor = IDC[dataset], settings["ipc"], settings["factor"]
    training = {**settings["training"], **values.get("training", {})}
    settings = {**settings, **values}
    if dataset == "mnist" and factor > 1:
        settings["strategy"] = training["strategy"] = "color_crop"
        training["cutmix"] = 0.0
    if DATASETS[dataset].size == 224 and factor >= 3 and ipc >= 20:
        settings["decoder"] = "bound"
    if dataset == "tiny-imagenet" and ipc == 50:
        settings["lr"] = TINY_LR_AT_50
    if sampling == "dream" and dataset != "imagenet-100":
        # DREAM's loader gives batches of its real batch to the training of the network too
        training["batch"] = DREAM_CLUSTERS.get(dataset, 128)
    reference = IDC_REFERENCE_SIZE.get(dataset, 32)
    lr = scaled_lr(settings["lr"], ipc=ipc, size=size, reference=reference)
    return {**settings, "lr": lr, "training": training}
