"""Rows of DC, DSA, DM and IDC beside random real images, at lengths and widths that fit a laptop.

python -m benchmarks.matched [--sets mnist] [--methods dc dm] [--ipc 1] [--network convnet3-w32] [--iterations 300]

Every setting that is not given is the paper's. A narrow network and a short run give lower rows than the published,
which stand beside them for orientation only. Runs are kept in runs/bench/matched and go on there.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

from benchmarks.common import KEEP, folder, machine, print_table
from raycond.pipelines.match.config import load_matching_config
from raycond.pipelines.match.run import match

PUBLISHED = {  # ConvNet-3 of width 128, full length
    ("mnist", "random"): "64.9 ± 3.5",
    ("mnist", "dc"): "91.7 ± 0.5",
    ("mnist", "dsa"): "88.7 ± 0.6",
    ("fashion-mnist", "random"): "51.4 ± 3.8",
    ("fashion-mnist", "dc"): "70.5 ± 0.6",
    ("fashion-mnist", "dsa"): "70.6 ± 0.6",
    ("fashion-mnist", "dm"): "70.7 ± 0.6",
    ("cifar10", "random"): "14.4 ± 2.0",
    ("cifar10", "dc"): "28.3 ± 0.5",
    ("cifar10", "dsa"): "28.8 ± 0.7",
    ("cifar10", "dm"): "26.0 ± 0.8",
}  # at IPC 1


def rows(name: str, method: str, options: argparse.Namespace) -> list[list[str]]:
    """The lines of one run: what it trained on, its accuracy, and what it cost."""
    label = f"{name}-{method}-ipc{options.ipc}-{options.network}-{options.iterations or 'full'}"
    given: dict[str, Any] = {
        "data": str(folder("RAYCOND_DATA", "data") / name),
        "out": str(KEEP / "matched" / label),
        "method": method,
        "ipc": (options.ipc,),
        "network": options.network,
        "iterations": options.iterations,
        "seeds": tuple(range(options.seeds)),
        "baselines": tuple(options.baselines),
        "runner": "local",
    }
    config = load_matching_config({k: v for k, v in given.items() if v is not None}, preset=name)
    run = match(config)
    settings, lines = config.matching(options.ipc), []
    seconds = sum(facts["curve"][-1][2] for phase in run.phases if (facts := phase.facts()) is not None)
    for row in dict.fromkeys(row.method for row in run.rows):
        found = [one.top1 for one in run.rows if one.method == row]
        spread = f" ± {statistics.stdev(found):.1f}" if len(found) > 1 else ""
        learned = row.startswith(method)
        lines.append(
            [
                *(name, row, f"{statistics.mean(found):.1f}{spread}"),
                *((f"{settings.iterations}", f"{seconds:.0f}") if learned else ("", "")),
                PUBLISHED.get((name, row), "") if options.ipc == 1 else "",
                config.protocol_name,
            ]
        )
    return lines


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=["mnist", "fashion-mnist", "cifar10"])
    parser.add_argument("--methods", nargs="+", default=["dc", "dsa", "dm"])
    parser.add_argument("--ipc", type=int, default=1)
    parser.add_argument("--network", default="convnet3-w32")
    parser.add_argument("--iterations", type=int, default=None, help="default: the published number")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each row")
    parser.add_argument("--baselines", nargs="+", default=["random", "medoid"])
    options = parser.parse_args(arguments if arguments is not None else [])
    print(machine(), end="\n\n")
    print(
        f"IPC {options.ipc}, {options.network} matched and evaluated, {options.seeds} trainings of each row", flush=True
    )
    head = ["set", "row", "top-1 %", "iterations", "seconds", "published, width 128", "protocol"]
    for name in options.sets:
        for method in options.methods:
            print_table(head, rows(name, method, options))


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
