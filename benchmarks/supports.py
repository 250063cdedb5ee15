"""Accuracy of kernel regression on supports of several draws: `raycond kernel` without students, decoded once.

python -m benchmarks.supports --data FOLDER --preset mnist --kernel fc1 --method ls --ipc 1 10 50 --draws 5
    [--tests 1000] [--out DIR]

--tests: test images, drawn of all classes alike (files are often sorted by class); all without it. All other options
are those of the command. Every draw has a seed of its own, 0, 1, …, which chooses the support's real images (and the
targets of a step, or the part of the training images that --targets leaves). Beside each result stands the same support
before: real images with one-hot labels under the same kernel. A run that is stopped goes on from --out.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from dataclasses import replace

import torch

from benchmarks.common import machine, print_table
from raycond.cli.kernel import COMMAND
from raycond.cli.main import COMMANDS
from raycond.cli.parsing import parse
from raycond.core import files
from raycond.data.labelled import LabelledImages, pixels
from raycond.methods.kernels.targets import balanced_rows
from raycond.pipelines.kernel.config import KernelConfig, load_kernel_config
from raycond.pipelines.kernel.run import prepare
from raycond.pipelines.kernel.scores import Tests, score_supports
from raycond.pipelines.kernel.supports import Work, make_support
from raycond.pipelines.kernel.training_images import open_pool
from raycond.pipelines.layout import KernelLayout
from raycond.pipelines.prepare import decoding
from raycond.pipelines.stages.listing import class_fingerprints, source_digest
from raycond.pipelines.stages.splits import decode_split
from raycond.runtime.blocks import BlockPool
from raycond.runtime.open import open_runner


def accuracies(config: KernelConfig, draws: int, most: int | None) -> dict[int, list[tuple[float, float]]]:
    """Images per class → (before, after) in percent, of each draw; printed as they come.

    most: test images, drawn of all classes alike; all if None.
    """
    run, runner = prepare(config), open_runner("local")
    blocks = BlockPool(runner, config.resources)
    digests = {}
    for name, source in (("train", run.source), ("val", run.val)):
        assert source is not None, "give --val"
        digests[name] = source_digest(class_fingerprints(source))
        decode_split(name, source, digests[name], decoding(config, config.channels), run.layout.pixels(name))
    train, val = (pixels(run.layout.pixels(name), len(run.source.classes)) for name in ("train", "val"))
    digest = digests["val"]
    if most is not None:
        rows = balanced_rows(val.labels, val.classes, most // val.classes, 0, "tests")
        val, digest = LabelledImages(val.images[rows], val.labels[rows], val.classes), files.digest([digest, most])
    found: dict[int, list[tuple[float, float]]] = {ipc: [] for ipc in config.ipc}
    for seed in range(draws):
        drawn, layout = replace(config, seed=seed), KernelLayout(files.join(config.out, f"seed{seed}"))
        pool, _ = open_pool(drawn, train, digests["train"], run.layout.preprocessing)
        for ipc in config.ipc:
            support = make_support(Work(drawn, pool, ipc, layout, blocks, blocks.device))
            tests = Tests(val, digest)
            scored = score_supports(
                drawn,
                [support],
                pool.preprocessing,
                tests,
                places=[layout.score(ipc)],
                run=blocks,
                device=blocks.device,
            )[ipc]
            found[ipc].append((scored[0].top1, scored[-1].top1))
            curve = " ".join(f"{one.step}:{one.top1:.2f}" for one in scored)
            print(f"{config.name} {config.network.name} {config.method} ipc{ipc} seed{seed}  {curve}", flush=True)
    return found


def _spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.2f}" + (f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else "")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--draws", type=int, default=1)
    parser.add_argument("--tests", type=int)
    options, rest = parser.parse_known_args()
    given = parse("kernel", COMMANDS["kernel"], COMMAND, ["--runner", "local", "--no-evaluate", *rest])
    config = load_kernel_config(given, preset=given.pop("preset", None))
    torch.set_num_threads(config.cpus_per_worker)
    print(f"{machine()}; {' '.join(sys.argv[1:])}", flush=True)
    found = accuracies(config, options.draws, options.tests)
    rows = [
        [config.name, config.network.name, config.method, str(ipc), str(options.draws),
         _spread([before for before, _ in pairs]), _spread([after for _, after in pairs])]
        for ipc, pairs in found.items()
    ]  # fmt: skip
    print_table(["set", "kernel", "method", "IPC", "draws", "real images, one-hot", "result"], rows)


if __name__ == "__main__":
    main()
