"""The local file derived from cluster.yaml, and (slow) a whole `ray up`, `ray submit`, `ray down` with it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from tests.cluster import loopback, processes, run


@pytest.fixture
def config() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((loopback.ROOT / "cluster.yaml").read_text())
    return loaded


def _derive(config: dict[str, Any]) -> dict[str, Any]:
    auth = {"ssh_user": "me", "ssh_private_key": "/tmp/key", "ssh_proxy_command": "sshd -i"}
    return loopback.derive(config, name="test", auth=auth, ports=[1001, 1002, 1003, 1004, 1005], cpus=2)


def test_derived_file_is_accepted_and_keeps_the_start_commands(config: dict[str, Any]) -> None:
    util = pytest.importorskip("ray.autoscaler._private.util")
    derived = _derive(config)
    util.validate_config(util.prepare_config(derived))
    before, after = config["head_start_ray_commands"], derived["head_start_ray_commands"]
    assert after[0] == before[0]
    same = set(before[1].split()) - {"--port=6379", "--object-manager-port=8076"}
    assert same <= set(after[1].split())
    assert "--port=1001" in after[1]
    assert derived["worker_start_ray_commands"] == config["worker_start_ray_commands"]


def test_derive_refuses_a_start_command_it_does_not_know(config: dict[str, Any]) -> None:
    config["head_start_ray_commands"] = ["ray stop"]
    with pytest.raises(ValueError, match="head_start_ray_commands"):
        _derive(config)


def test_absent_programs_are_named_with_their_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loopback.shutil, "which", lambda name, **_: None if name == "sshd" else f"/bin/{name}")
    with pytest.raises(loopback.MissingProgramError, match="apt-get install openssh-server"):
        loopback.require_programs()


def test_stop_ends_only_processes_with_the_mark(tmp_path: Path) -> None:
    marks = ["node:mine", "node:other", "client:mine"]
    sleep = ["sleep", "60"]
    children = [psutil.Popen(sleep, env=os.environ | {processes.MARK: mark}) for mark in marks]
    try:
        assert processes.stop("node:mine", str(tmp_path)) == 1
        assert [child.poll() is None for child in children] == [False, True, True]
    finally:
        processes.end(children)


def test_default_is_the_pipeline_and_its_set_is_verified() -> None:
    options = run.parse([])
    assert (options.script, options.arguments, options.verify) == (run.PIPELINE, run.PIPELINE_ARGUMENTS, True)
    assert not run.parse(["--script", "other.py"]).verify


@pytest.mark.slow
@pytest.mark.ray
def test_pipeline_under_ray_up_and_ray_submit() -> None:
    try:
        loopback.require_programs()
    except loopback.MissingProgramError as error:
        pytest.skip(str(error))
    done = subprocess.run(
        [sys.executable, "-m", "tests.cluster.run"], cwd=loopback.ROOT, stdin=subprocess.DEVNULL, check=False
    )
    assert done.returncode == 0
