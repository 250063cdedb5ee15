"""Try the launcher for real: `ray up`, `ray submit SCRIPT -- ARGUMENTS`, `raycond verify`, `ray down`, on this machine.

    python -m tests.cluster.run
    python -m tests.cluster.run --script other.py -- --its-option {out}

`{out}` in an argument becomes a temporary folder that is removed in the end. Exit status 0 means that every step
ended well and that no process is left; everything is taken down on failure and on an interrupt too.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType

from .loopback import ROOT, Loopback, MissingProgramError

PIPELINE = "pipelines/imagenet_quantize.py"
PIPELINE_ARGUMENTS = ["--preset", "digits", "--out", "{out}"]


class StepError(Exception):
    """One step did not end as it should."""


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--script", default=PIPELINE, help=f"script to submit (default {PIPELINE})")
    parser.add_argument("--cpus", type=int, default=os.cpu_count() or 1, help="logical CPUs of the node")
    parser.add_argument("--timeout", type=float, default=900.0, help="seconds for the submitted script")
    parser.add_argument("arguments", nargs="*", help="arguments of the script, after --")
    options = parser.parse_args(argv)
    options.verify = options.script == PIPELINE
    if options.verify and not options.arguments:
        options.arguments = PIPELINE_ARGUMENTS
    return options


def step(what: str, command: list[str], *, env: dict[str, str], timeout: float) -> None:
    """Run a command in the repository's root, its output shown. Raises StepError unless it ends with 0 in time."""
    print(f"--- {what}", flush=True)
    began = time.monotonic()
    try:
        status = subprocess.run(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, timeout=timeout).returncode
    except subprocess.TimeoutExpired:
        raise StepError(f"{what}: not done after {timeout:.0f} s") from None
    print(f"--- {what}: status {status}, {time.monotonic() - began:.1f} s", flush=True)
    if status != 0:
        raise StepError(f"{what}: status {status}")


def ray_addresses(node: Loopback) -> None:
    """Print what listens where. Raises StepError if the dashboard does not, or is open to the network."""
    found = node.listening()
    for address, who in sorted(found.items()):
        print(f"listening on {address}: {' '.join(sorted(who))}")
    port = next(word for word in node.file.read_text().split() if word.startswith("--dashboard-port="))
    port = port.partition("=")[2]
    at = [address for address, who in found.items() if any(name.endswith(":" + port) for name in who)]
    if at != ["127.0.0.1"]:
        raise StepError(f"the dashboard should listen on 127.0.0.1 only, but listens on {at or 'nothing'}")


def session(node: Loopback, options: argparse.Namespace, out: Path) -> None:
    env = node.client_env()
    plain = ["--log-style=pretty", "--log-color=false"]  # without a terminal each ssh command line would be printed
    arguments = [argument.replace("{out}", str(out)) for argument in options.arguments]
    try:
        step("ray up", [node.ray, "up", "-y", *plain, str(node.file)], env=env, timeout=180)
        ray_addresses(node)
        submit = [node.ray, "submit", *plain, str(node.file), options.script, "--", *arguments]
        step("ray submit", submit, env=env, timeout=options.timeout)
        if options.verify:
            raycond = str(Path(sys.executable).with_name("raycond"))
            step("raycond verify", [raycond, "verify", str(out / "set")], env=env, timeout=120)
    finally:
        step("ray down", [node.ray, "down", "-y", *plain, str(node.file)], env=env, timeout=120)
    node.close_ssh()
    if left := node.leftovers():
        raise StepError("still running after ray down:\n  " + "\n  ".join(left))


def _interrupt(number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)


def main(argv: list[str]) -> int:
    options = parse(argv)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    folder, node = Path(tempfile.mkdtemp(prefix="rc-", dir="/tmp")), None
    try:
        node = Loopback.create(folder, cpus=options.cpus)
        session(node, options, folder / "run")
        print(f"ok: {options.script} ran on a cluster made by ray up; nothing is left running")
        return 0
    except (StepError, MissingProgramError) as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as error:
        print(f"interrupted {error}", file=sys.stderr)
        return 130
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # the tidying is short and must not be cut
        if node is not None:
            node.clear()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
