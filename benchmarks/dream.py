"""DREAM's claim: how many iterations and seconds to the last accuracy of random sampling, at the same budget.

python -m benchmarks.dream [--method idc] [--factor 2] [--ipc 10] [--network convnet3-w32] [--iterations 10]

Both samplings run with the same settings and seeds, DREAM with its own start and real batch. A student is trained on
every snapshot; the iterations and seconds to random's last accuracy are those of the first snapshot that reaches it.
Runs are kept in runs/bench/dream and go on there.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

from benchmarks.common import KEEP, folder, machine, print_table
from raycond.evaluate.protocol import parse_settings
from raycond.pipelines.match.config import load_matching_config
from raycond.pipelines.match.run import match

Curve = list[tuple[float, float, float]]  # iteration, seconds, top-1


def curve(sampling: str, seed: int, options: argparse.Namespace) -> Curve:
    """The accuracies of one run's snapshots."""
    given: dict[str, Any] = {
        "data": str(folder("RAYCOND_DATA", "data") / options.set),
        "out": str(KEEP / "dream" / f"{options.name}-{sampling}-seed{seed}"),
        "method": options.method,
        "sampling": sampling,
        "factor": options.factor,
        "ipc": (options.ipc,),
        "network": options.network,
        "iterations": options.iterations,
        "snapshots": options.snapshots,
        "seed": seed,
        "seeds": (0,),
        "baselines": ("none",),
        "curve": True,
        "limit": options.limit,
        "protocol": options.protocol,
        "changes": parse_settings(options.changes),
        "runner": "local",
    }
    if sampling == "dream":
        given |= {"clusters": options.clusters}
    config = load_matching_config({k: v for k, v in given.items() if v is not None}, preset=options.set)
    run = match(config)
    (phase,) = run.phases
    facts = phase.facts()
    assert facts is not None
    seconds = {0: 0.0, **{int(step): passed for step, _, passed in facts["curve"]}}
    steps = config.matching(options.ipc).steps
    return [(step / steps, seconds[step], top1) for (_, step), top1 in sorted(run.accuracies.items())]


def reached(found: Curve, level: float) -> tuple[str, str]:
    """Iterations and seconds of the first snapshot at this accuracy or above."""
    for iteration, seconds, top1 in found:
        if top1 >= level:
            return f"{iteration:g}", f"{seconds:.0f}"
    return "not reached", ""


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", default="idc", help="of the folder")
    parser.add_argument("--set", default="cifar10")
    parser.add_argument("--method", default="idc")
    parser.add_argument("--factor", type=int, default=2)
    parser.add_argument("--ipc", type=int, default=10)
    parser.add_argument("--network", default="convnet3-w32")
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--snapshots", type=int, default=5)
    parser.add_argument("--clusters", type=int, default=None)
    parser.add_argument("--limit", type=int, default=None, help="real images of each class")
    parser.add_argument("--protocol", default=None)
    parser.add_argument("--changes", nargs="*", default=[], help="as --set of raycond match")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = parser.parse_args(arguments if arguments is not None else [])
    print(machine(), end="\n\n")
    print(f"{vars(options)}\n", flush=True)
    lines = []
    for seed in options.seeds:
        curves = {sampling: curve(sampling, seed, options) for sampling in ("random", "dream")}
        head = ["sampling", *(f"after {iteration:g}" for iteration, _, _ in curves["random"])]
        print(f"seed {seed}: top-1 %, and seconds")
        print_table(head, [[name, *(f"{t:.1f} ({s:.0f} s)" for _, s, t in c)] for name, c in curves.items()])
        level = curves["random"][-1][2]
        lines.append([str(seed), f"{level:.1f}", *reached(curves["random"], level), *reached(curves["dream"], level)])
    print_table(["seed", "random's last", "its iterations", "s", "dream's iterations", "s"], lines)
    if len(lines) > 1:
        print(f"random's last: {statistics.mean(float(line[1]) for line in lines):.1f} on average")


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
