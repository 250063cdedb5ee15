"""cluster.yaml against Ray's own launcher, and against what it must never become: open, unpinned, or with secrets."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT

TEXT = (ROOT / "cluster.yaml").read_text()
COMMAND_LISTS = [
    "initialization_commands",
    "setup_commands",
    "head_setup_commands",
    "worker_setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
]


@pytest.fixture
def config() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(TEXT)
    return loaded


@pytest.fixture
def accept(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Ray's own completion and validation, which raise on what `ray up` would refuse; nothing is asked of AWS."""
    pytest.importorskip("boto3", reason="Ray's AWS provider needs boto3: pip install -e .[test]")
    util = pytest.importorskip("ray.autoscaler._private.util")
    if not (hasattr(util, "prepare_config") and hasattr(util, "validate_config")):
        pytest.skip("this Ray keeps its launcher's validator elsewhere")
    monkeypatch.chdir(ROOT)

    def run(candidate: dict[str, Any]) -> dict[str, Any]:
        prepared: dict[str, Any] = util.prepare_config(copy.deepcopy(candidate))
        util.validate_config(prepared)
        return prepared

    return run


def test_ray_accepts_it_and_keeps_every_command(config: dict[str, Any], accept: Callable) -> None:
    prepared = accept(config)
    assert prepared["head_start_ray_commands"] == config["head_start_ray_commands"]
    assert prepared["worker_start_ray_commands"] == config["worker_start_ray_commands"]
    assert "nightly" not in str(prepared)
    assert "s3-us-west-2.amazonaws.com/ray-wheels" not in str(prepared)


@pytest.mark.parametrize("path", [("idle_timeout",), ("docker", "images"), ("auth", "user")])
def test_ray_rejects_a_misspelt_key(config: dict[str, Any], accept: Callable, path: tuple[str, ...]) -> None:
    folder = config
    for key in path[:-1]:
        folder = folder[key]
    folder[path[-1]] = "x"
    with pytest.raises(Exception, match=path[-1]):
        accept(config)


def test_every_command_list_is_written_out(config: dict[str, Any]) -> None:
    assert [key for key in COMMAND_LISTS if not isinstance(config.get(key), list)] == []


def test_dashboard_and_ports_stay_inside(config: dict[str, Any]) -> None:
    starts = [c for c in config["head_start_ray_commands"] if "ray start" in c]
    assert len(starts) == 1
    assert re.findall(r"--dashboard-host=(\S+)", starts[0]) == ["127.0.0.1"]
    assert "0.0.0.0" not in str(config)
    assert "IpPermissions" not in config["provider"]["security_group"]


def test_one_ray_version_and_one_python_everywhere(config: dict[str, Any]) -> None:
    pins = re.findall(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    images = [config["docker"][key] for key in ("head_image", "worker_image")]
    found = [re.fullmatch(r"rayproject/ray:([\d.]+)-py(\d+)-(cpu|gpu)", image) for image in images]
    assert [m[1] for m in found if m] == pins * 2
    assert len({m[2] for m in found if m}) == 1


def test_all_nodes_ask_for_the_token_of_the_client(config: dict[str, Any]) -> None:
    assert [o for o in config["docker"]["run_options"] if "RAY_AUTH_" in o] == [
        "--env RAY_AUTH_MODE=token",
        "--env RAY_AUTH_TOKEN_PATH=/home/ray/.ray/auth_token",
    ]
    assert config["file_mounts"]["/home/ray/.ray/auth_token"] == "~/.ray/auth_token"


def test_mounted_files_exist_and_carry_the_package(config: dict[str, Any]) -> None:
    mounts = config["file_mounts"]
    inside = [local for local in mounts.values() if not local.startswith("~")]
    assert [local for local in inside if not (ROOT / local).exists()] == []
    assert {"pyproject.toml", "constraints.txt", "raycond"} <= set(mounts.values())
    assert {".venv", "runs", ".git"} <= set(config["rsync_exclude"])
    installed = " ".join(config["setup_commands"])
    for path in re.findall(r"/home/ray/raycond/\S+", installed):
        assert path in mounts


def test_spot_workers_start_from_none(config: dict[str, Any]) -> None:
    types = config["available_node_types"]
    head = types.pop(config["head_node_type"])
    assert "InstanceMarketOptions" not in head["node_config"]
    for worker in types.values():
        assert worker["min_workers"] == 0
        assert worker["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
        assert worker["node_config"]["IamInstanceProfile"] != head["node_config"]["IamInstanceProfile"]
    assert config["idle_timeout_minutes"] > 0


@pytest.mark.parametrize(
    "secret",
    [
        r"(?:AKIA|ASIA)[0-9A-Z]{16}",  # AWS access key ids
        r"-----BEGIN",
        r"hf_[A-Za-z0-9]{20,}",
        r"(?i)(?:secret|password|api_?key|auth_token|access_key)\w*\s*[:=]\s*(?![~/])\S",  # a path is no secret
        r"\b[0-9a-f]{32,}\b",
        r"\b\d{12}\b",  # account numbers
    ],
)
def test_no_secrets(secret: str) -> None:
    assert re.findall(secret, TEXT) == []
