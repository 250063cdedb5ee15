"""Peak memory of driver and class actors at 1×, 4× and 16× the images: fixed class size, more classes.

python -m benchmarks.memory
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from benchmarks.common import ROOT, imagenette, machine, print_table, taef2

CLASS_SIZE = 40
SIZE = 64


def make_tree(folder: Path, classes: int) -> None:
    """Class folders of links to real images; every class has the same number."""
    images = sorted(Path(imagenette()).glob("*/*.JPEG"))
    for k in range(classes):
        inside = folder / f"class{k:04d}"
        inside.mkdir(parents=True)
        for i in range(CLASS_SIZE):
            image = images[(k * CLASS_SIZE + i) % len(images)]
            (inside / f"{i:03d}{image.suffix}").symlink_to(image)


def peak(pid: int) -> int:
    """High-water mark of resident memory in KiB; 0 if the process is gone."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
        return int(found.group(1)) if found else 0
    except OSError:
        return 0


def actors() -> list[int]:
    pids = []
    for entry in os.listdir("/proc"):
        try:
            if entry.isdigit() and b"ClassActor" in Path(f"/proc/{entry}/cmdline").read_bytes():
                pids.append(int(entry))
        except OSError:
            continue
    return pids


def measure(classes: int) -> tuple[float, float, float]:
    """Peak MiB of the driver and of the largest actor, and seconds, of one run."""
    with tempfile.TemporaryDirectory() as folder:
        make_tree(Path(folder) / "data", classes)
        command = [sys.executable, str(ROOT / "pipelines" / "imagenet_quantize.py"), "--no-dashboard"]
        command += ["--data", f"{folder}/data", "--out", f"{folder}/out", "--codec", taef2(), "--size", str(SIZE)]
        command += ["--ipc", "1", "10", "--no-evaluate", "--w2-classes", "0"]
        started = time.perf_counter()
        run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        peaks: dict[int, int] = {}
        stop = threading.Event()

        def watch() -> None:
            while not stop.wait(0.2):
                for pid in (run.pid, *actors()):
                    peaks[pid] = max(peaks.get(pid, 0), peak(pid))

        watcher = threading.Thread(target=watch)
        watcher.start()
        code = run.wait()
        stop.set()
        watcher.join()
        if code:
            raise SystemExit(f"the run with {classes} classes ended with {code}")
        driver = peaks.pop(run.pid)
        return driver / 1024, max(peaks.values()) / 1024, time.perf_counter() - started


def main() -> None:
    print(machine())
    print(f"classes of {CLASS_SIZE} images, {SIZE} px, TAEF2, IPC 1 and 10, Ray with one actor per core")
    rows, first = [], None
    for times in (1, 4, 16):
        driver, actor, seconds = measure(10 * times)
        first = first or (driver, actor)
        rows.append(
            [
                f"{times}×: {10 * times} classes, {10 * times * CLASS_SIZE} images",
                f"{driver:.0f} MiB ({driver / first[0]:.3f})",
                f"{actor:.0f} MiB ({actor / first[1]:.3f})",
                f"{seconds:.0f}",
            ]
        )
    print_table(["", "driver peak (ratio)", "largest actor peak (ratio)", "s"], rows)


if __name__ == "__main__":
    main()
