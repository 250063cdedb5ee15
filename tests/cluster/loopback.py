"""One machine dressed as the node of a `provider: local` cluster, without a trace left on it.

What was found on the way, with Ray 2.60 and OpenSSH 9.2:

* The launcher has no option for an SSH port, but `auth.ssh_proxy_command` is any program that speaks SSH on its
  standard streams, and `sshd -i` is one. So nothing listens, port 22 may be taken, and no daemon has to be ended.
* sshd's `SetEnv HOME=...` gives the session a home of its own. The launcher's remote shell
  (`bash --login -c -i 'source ~/.bashrc; ...'`), its files (~/ray_bootstrap_*) and the submitted script then stay
  out of the user's home, and no line has to be written to their .bashrc. Only the first SetEnv line counts.
* /etc/profile resets PATH in a login shell, so the environment's `python` and `ray` come from that home's .bashrc.
* Only the dashboard listens on 127.0.0.1. The GCS, the raylet and an agent listen on every address, the Ray Client
  server on the machine's own; `--node-ip-address=127.0.0.1` changes nothing, since Ray resolves loopback to the
  machine's address. So the node uses token authentication, whatever cluster.yaml says for a closed security group.
* `ray submit` ends with status 1 for any failure of the script, so the step is judged by 0 or not 0.
"""

from __future__ import annotations

import contextlib
import copy
import getpass
import hashlib
import os
import re
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from . import processes

ROOT = Path(__file__).resolve().parents[2]
PRIVSEP = Path("/run/sshd")  # sshd started as root wants it; systemd would have made it


class MissingProgramError(Exception):
    """A program this needs is not installed; the message says which package has it."""


def require_programs() -> str:
    """Path of sshd. Raises MissingProgramError, naming the Debian package, for whatever is absent."""
    search = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    wanted = {"sshd": "openssh-server", "ssh": "openssh-client", "ssh-keygen": "openssh-client", "rsync": "rsync"}
    absent = [
        f"{name} (apt-get install {package})"
        for name, package in wanted.items()
        if shutil.which(name, path=search) is None
    ]
    if absent:
        raise MissingProgramError("ray up and ray submit over SSH need " + ", ".join(absent))
    return str(shutil.which("sshd", path=search))


def free_ports(count: int) -> list[int]:
    """Ports free at this moment, so that another Ray on the machine (6379, 8265, 10001, ...) is not disturbed."""
    held = [socket.socket() for _ in range(count)]
    for s in held:
        s.bind(("", 0))
    ports = [int(s.getsockname()[1]) for s in held]
    for s in held:
        s.close()
    return ports


def derive(config: dict[str, Any], *, name: str, auth: dict[str, str], ports: list[int], cpus: int) -> dict[str, Any]:
    """The `provider: local` file for a cloud one: same keys and start commands, what needs a cloud taken out.

    Ports are replaced by free ones, and those that Ray would choose itself are added. Docker, mounts and set-up go:
    this machine has the package installed already. Raises ValueError if the head's start command is not as expected.
    """
    derived = copy.deepcopy(config)
    for cloud_only in ("docker", "available_node_types", "head_node_type"):
        derived.pop(cloud_only, None)
    derived |= {
        "cluster_name": name,
        "max_workers": 0,
        "provider": {"type": "local", "head_ip": "127.0.0.1", "worker_ips": []},
        "auth": auth,
        "file_mounts": {},
        "setup_commands": [],
        "head_setup_commands": [],
        "worker_setup_commands": [],
    }
    start = [command for command in derived["head_start_ray_commands"] if "ray start --head" in command]
    if len(start) != 1 or "--port=6379" not in start[0]:
        raise ValueError("cluster.yaml: head_start_ray_commands needs one 'ray start --head --port=6379 ...'")
    gcs, manager, client, dashboard, agent = ports
    command = start[0].replace("--port=6379", f"--port={gcs}")
    command = re.sub(r"--object-manager-port=\d+", f"--object-manager-port={manager}", command)
    command += f" --ray-client-server-port={client} --dashboard-port={dashboard}"
    command += f" --dashboard-agent-listen-port={agent} --num-cpus={cpus}"
    derived["head_start_ray_commands"] = [command if c == start[0] else c for c in derived["head_start_ray_commands"]]
    return derived


@dataclass(frozen=True)
class Loopback:
    """Files of one cluster under `folder`, which must be short: Ray's Unix socket paths stop at 107 characters."""

    folder: Path
    name: str
    made_privsep: bool

    @classmethod
    def create(cls, folder: Path, *, cpus: int) -> Loopback:
        """Write keys, the sshd configuration, the node's home and the launcher's file. Raises MissingProgramError."""
        sshd = require_programs()
        made = os.geteuid() == 0 and not PRIVSEP.exists()
        node = cls(folder, f"raycond-{folder.name}", made)
        for name in ("home/bin", "client", "tmp"):
            (folder / name).mkdir(parents=True)
        node._write_keys()
        node._write_home()
        (folder / "sshd_config").write_text(node._sshd_config())
        auth = {
            "ssh_user": getpass.getuser(),
            "ssh_private_key": str(folder / "key"),
            "ssh_proxy_command": f"{sshd} -i -f {folder}/sshd_config -E {folder}/sshd.log",
        }
        config = yaml.safe_load((ROOT / "cluster.yaml").read_text())
        derived = derive(config, name=node.name, auth=auth, ports=free_ports(5), cpus=cpus)
        node.file.write_text(yaml.safe_dump(derived, sort_keys=False))
        if made:  # last, so that nothing can fail between this and the caller's clear()
            PRIVSEP.mkdir(mode=0o755)
        return node

    @property
    def file(self) -> Path:
        return self.folder / "cluster.yaml"

    @property
    def ray(self) -> str:
        return str(Path(sys.executable).with_name("ray"))

    def mark(self, side: str) -> str:
        return f"{side}:{self.folder}"

    def client_env(self) -> dict[str, str]:
        """Environment of the launcher: own home and temporary folder, and no other cluster's address or token."""
        env = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        return env | {
            "HOME": str(self.folder / "client"),
            "TMPDIR": str(self.folder / "tmp"),
            "RAY_TMPDIR": str(self.folder),
            "RAY_USAGE_STATS_ENABLED": "0",
            "PYTHONUNBUFFERED": "1",
            processes.MARK: self.mark("client"),
        }

    def node_env(self) -> dict[str, str]:
        """Environment of every session on the node: both ends of Ray's authentication are in here."""
        return {
            "HOME": str(self.folder / "home"),
            "RAY_TMPDIR": str(self.folder),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.folder / "token"),
            "RAY_USAGE_STATS_ENABLED": "0",
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": str(ROOT),  # this checkout, whichever one is installed
            processes.MARK: self.mark("node"),
        }

    def listening(self) -> dict[str, set[str]]:
        return processes.listening(self.mark("node"), str(self.folder))

    def leftovers(self) -> list[str]:
        """Command lines of processes of either side that are still there."""
        both = [p for side in ("node", "client") for p in processes.marked(self.mark(side), str(self.folder))]
        return [f"{p.pid} {shlex.join(p.cmdline())[:160]}" for p in both if p.is_running()]

    def close_ssh(self) -> None:
        """End the launcher's shared SSH connection, which it would keep for 10 s after its last use, and its sshd."""
        sockets = self._ssh_sockets()
        connection = processes.tree(str(sockets))
        for path in sockets.glob("*"):
            command = ["ssh", "-O", "exit", "-o", f"ControlPath={path}", "127.0.0.1"]
            subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        processes.end(connection)
        shutil.rmtree(sockets, ignore_errors=True)
        with contextlib.suppress(OSError):  # not empty: another cluster of this user is up
            sockets.parent.rmdir()

    def clear(self) -> None:
        """End what is left of both sides by process id, and remove what was made outside `folder`."""
        for side in ("node", "client"):
            processes.stop(self.mark(side), str(self.folder))
        self.close_ssh()
        if self.made_privsep:
            PRIVSEP.rmdir()

    def _ssh_sockets(self) -> Path:
        """Folder of the launcher's shared SSH connections: fixed in Ray's command_runner.py, one per cluster name."""
        user, cluster = (hashlib.sha256(s.encode()).hexdigest()[:10] for s in (getpass.getuser(), self.name))
        return Path("/tmp") / f"ray_ssh_{user}" / cluster

    def _write_keys(self) -> None:
        for name in ("key", "host_key"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", self.name, "-f", str(self.folder / name)]
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        token = self.folder / "token"
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(32))

    def _write_home(self) -> None:
        home, python = self.folder / "home", Path(sys.executable)
        (home / ".bashrc").write_text(f"export PATH={shlex.quote(f'{home}/bin:{python.parent}')}:$PATH\n")
        stop = shlex.join([str(python), str(Path(processes.__file__)), self.mark("node"), str(self.folder)])
        shim = home / "bin" / "ray"
        shim.write_text(f'#!/bin/sh\n[ "$1" = stop ] && exec {stop}\nexec {shlex.quote(self.ray)} "$@"\n')
        shim.chmod(0o755)

    def _sshd_config(self) -> str:
        env = " ".join(f"{key}={value}" for key, value in self.node_env().items())
        return "\n".join(
            [
                f"HostKey {self.folder}/host_key",
                f"AuthorizedKeysFile {self.folder}/key.pub",
                "AuthenticationMethods publickey",
                "PermitRootLogin prohibit-password",
                "StrictModes no",  # the folder lies in /tmp
                "UsePAM no",  # PAM's session modules fail in a container without systemd
                "PidFile none",
                "PrintMotd no",
                "PrintLastLog no",
                f"SetEnv {env}",
                "",
            ]
        )
