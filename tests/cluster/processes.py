"""Processes of one loopback cluster: found by a mark in their environment, stopped by process id.

`ray stop`, which `ray down` and the start commands call, ends every Ray on the machine. On a machine that is
shared (a laptop with a notebook open, a CI box with other jobs) that is somebody else's work, so the node of
a loopback cluster finds this file's `stop` in place of it.
"""

from __future__ import annotations

import contextlib
import os
import sys

import psutil

MARK = "RAYCOND_LOOPBACK"
GRACE_S = 10.0


def marked(mark: str, folder: str) -> list[psutil.Process]:
    """Living processes whose environment says MARK=`mark`, or that keep a file under `folder` open.

    The second rule is for programs that write a process title over the environment the kernel shows, as some Ray
    workers may. ssh and sshd do too: those are found by `tree`. The caller and its ancestors are left out,
    because `stop` runs inside the session that asked for it.
    """
    mine = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    return [p for p in psutil.process_iter() if p.pid not in mine and _belongs(p, mark, folder)]


def _belongs(process: psutil.Process, mark: str, folder: str) -> bool:
    try:
        found = process.environ().get(MARK)
        if found is not None:
            return found == mark
        return any(file.path.startswith(folder + "/ray/") for file in process.open_files())
    except (psutil.Error, OSError):
        return False


def stop(mark: str, folder: str) -> int:
    """End all of `marked`, raylets first, since the others complain when they outlive it. Returns how many."""
    count = 0
    for _ in range(2):  # a worker may be born while its raylet dies
        found = marked(mark, folder)
        raylets = [p for p in found if _name(p) == "raylet"]
        for group in (raylets, [p for p in found if p not in raylets]):
            end(group)
        count += len(found)
    return count


def end(group: list[psutil.Process]) -> None:
    """Terminate, wait, and kill those that stay."""
    for process in group:
        _signal(process, "terminate")
    _, alive = psutil.wait_procs(group, timeout=GRACE_S)
    for process in alive:
        _signal(process, "kill")
    psutil.wait_procs(alive, timeout=GRACE_S)


def tree(text: str) -> list[psutil.Process]:
    """Processes with `text` in their command line, and all their descendants."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        try:
            if any(text in word for word in process.cmdline()):
                found += [process, *process.children(recursive=True)]
        except psutil.Error:
            continue
    return found


def listening(mark: str, folder: str) -> dict[str, set[str]]:
    """Addresses on which the cluster's processes accept TCP connections: {address: {"name:port", ...}}."""
    found: dict[str, set[str]] = {}
    for process in marked(mark, folder):
        try:
            for link in process.net_connections(kind="tcp"):
                if link.status == psutil.CONN_LISTEN:
                    found.setdefault(link.laddr.ip, set()).add(f"{process.name()}:{link.laddr.port}")
        except psutil.Error:
            continue
    return found


def _name(process: psutil.Process) -> str:
    try:
        return str(process.name())
    except psutil.Error:
        return ""


def _signal(process: psutil.Process, how: str) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        getattr(process, how)()


if __name__ == "__main__":
    print(f"stopped {stop(sys.argv[1], sys.argv[2])} processes of {sys.argv[2]}")
