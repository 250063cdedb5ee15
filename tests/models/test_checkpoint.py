from __future__ import annotations

import argparse
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from raycond.core.errors import UserError
from raycond.models import checkpoint


def network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


STATE = network().state_dict()


def read(folder: Path, value: Any, **options: Any) -> dict[str, Tensor]:
    torch.save(value, folder / "w.pth", **options)
    return checkpoint.read(str(folder / "w.pth"))[0]


def require_same(found: dict[str, Tensor]) -> None:
    assert found.keys() == STATE.keys()
    assert all(torch.equal(found[name], STATE[name]) for name in STATE)


@pytest.mark.parametrize("key", ["state_dict", "model", "net", "model_state_dict", "model_ema", "state_dict_ema"])
def test_weights_under_the_usual_names(tmp_path: Path, key: str) -> None:
    require_same(read(tmp_path, {"epoch": 3, "optimizer": {"lr": 0.1}, key: STATE}))
    require_same(read(tmp_path, {key: {"model": {"state_dict": STATE}}, "best": 1.0}))


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model.", "net."]
)
def test_names_of_wrapped_networks(tmp_path: Path, prefix: str) -> None:
    require_same(read(tmp_path, {"state_dict": {f"{prefix}{name}": tensor for name, tensor in STATE.items()}}))


def test_running_average(tmp_path: Path) -> None:
    averaged = AveragedModel(network()).state_dict()
    assert "n_averaged" in averaged
    require_same(read(tmp_path, averaged))
    require_same(read(tmp_path, {"model_ema": averaged, "epoch": 3}))
    other = {name: torch.zeros_like(tensor) for name, tensor in STATE.items()}
    require_same(read(tmp_path, {"model_ema": other, "model": STATE}))  # trained weights, where both are there


def test_a_prefix_that_not_all_names_have_is_a_name(tmp_path: Path) -> None:
    weights = {"module.weight": torch.ones(1), "bias": torch.ones(1)}
    assert read(tmp_path, weights).keys() == weights.keys()
    assert read(tmp_path, {"n_averaged": torch.ones(1)}).keys() == {"n_averaged"}


@pytest.mark.parametrize("zipped", [True, False])
def test_arguments_and_scores_beside_the_weights(tmp_path: Path, zipped: bool) -> None:
    beside = {
        "args": argparse.Namespace(lr=0.1, out=Path("runs")),
        "best": np.float64(71.2),
        "step": np.int64(3),
        "history": np.arange(3.0),
    }
    require_same(read(tmp_path, {"model": STATE} | beside, _use_new_zipfile_serialization=zipped))


def test_keys_of_a_file_without_weights(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"w\.pth: expected .*its keys are epoch, optimizer, \\x1b\[31mred$"):
        read(tmp_path, {"epoch": 3, "optimizer": {"lr": 0.1}, "\x1b[31mred": 0})
    with pytest.raises(UserError, match=r"its keys are 0, 1, .*19, …$"):
        read(tmp_path, dict.fromkeys(range(30), 0))
    with pytest.raises(UserError, match="its keys are none"):
        read(tmp_path, {})
    with pytest.raises(UserError, match="no names with tensors, but a list"):
        read(tmp_path, [torch.ones(1)])
    endless: dict[str, Any] = {}
    endless["model"] = endless
    with pytest.raises(UserError, match="its keys are model"):
        read(tmp_path, endless)


def test_refused_pickles_say_what_to_do(tmp_path: Path) -> None:
    """A network saved as an object would need its class to be imported and run."""
    with pytest.raises(
        UserError, match=r"a pickled torch\.nn\.modules\.\S+, .*torch.save\(model.state_dict\(\), FILE\)"
    ) as e:
        read(tmp_path, network())
    assert "\x1b" not in str(e.value)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("data", [b"", b"not a checkpoint", pickle.dumps({"a": 1}), b"\x80\x02\x1b[31m"])
def test_damaged_files_are_one_line(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "w.pth").write_bytes(data)
    with pytest.raises(UserError, match=r"w\.pth: expected a state dict") as e:
        checkpoint.read(str(tmp_path / "w.pth"))
    assert "\x1b" not in str(e.value)
    assert "\n" not in str(e.value)


class Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


def test_nothing_is_run(tmp_path: Path) -> None:
    """Neither directly, nor within what is thrown away."""
    bomb = Bomb(tmp_path / "ran")
    for value in ({"w": bomb}, {"model": STATE, "args": argparse.Namespace(bomb=bomb)}):
        with pytest.raises(UserError, match="could run any code"):
            read(tmp_path, value)
    assert not bomb.target.exists()
