"""Condensation with infinite-width kernels: source → supports (KIP or Label Solve) → condensed set → accuracies."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from typing import Any

from raycond.core import files
from raycond.core.errors import NoSplit, UserError, named
from raycond.data import quarantine
from raycond.data.classes import require_same
from raycond.data.holdout import hold_out
from raycond.data.labelled import pixels
from raycond.data.quarantine import BadRecord
from raycond.data.rows import RowSource
from raycond.evaluate import protocol, table
from raycond.methods.kernels.plan import Work as KernelWork
from raycond.methods.kernels.plan import measured_rate
from raycond.models.students import build
from raycond.pipelines.kernel.condensed import write_kernel_set
from raycond.pipelines.kernel.config import KernelConfig
from raycond.pipelines.kernel.evaluation import evaluate
from raycond.pipelines.kernel.plan import machine_of, needs_of, require_supports
from raycond.pipelines.kernel.scores import Tests, krr_rows, score_supports
from raycond.pipelines.kernel.summary import KernelRun, build_report
from raycond.pipelines.kernel.supports import Work, make_support
from raycond.pipelines.kernel.training_images import augmentation_of, open_pool
from raycond.pipelines.layout import KernelLayout
from raycond.pipelines.prepare import decoding, source_options, training_source, validation_source, with_validation
from raycond.pipelines.run_folder import at_work
from raycond.pipelines.stages.listing import listings, require_enough_images, source_digest
from raycond.pipelines.stages.overlap import require_unseen
from raycond.pipelines.stages.splits import decode_split
from raycond.report import write_report
from raycond.runtime.blocks import BlockPool
from raycond.runtime.open import open_runner
from raycond.runtime.runner import Runner
from raycond.sets.manifest import read_manifest


def prepare(config: KernelConfig, index_dir: str | None = None) -> KernelRun:
    """Open and check everything that can be checked before heavy work, the cheap things first.

    index_dir: where sources that need an index find or make it; by default inside the run folder. Raises UserError,
    ClassMismatch.
    """
    layout = KernelLayout(config.out)
    augmentation_of(config)
    if config.evaluate:
        _check_students(config)
    options = source_options(config, index_dir or layout.index)
    source = training_source(config, options["index_dir"])
    source, val = _validation(config, source, options)
    if files.exists(files.join(layout.condensed, "manifest.json")):
        _require_same_set(layout, source)
    return KernelRun(layout, source, val)


def _check_students(config: KernelConfig) -> None:
    with named("--protocol"):
        if protocol.preset(config.protocol).needs_labeler:
            raise UserError(
                f"{config.protocol} learns the labels of a labeler; make the set, then use raycond evaluate"
            )
    for student in config.students:
        with named("--students"):
            build(student, classes=2, size=config.size, channels=config.channels)


def _validation(config: KernelConfig, source: RowSource, options: dict[str, Any]) -> tuple[RowSource, RowSource | None]:
    """(training images, validation images): without students none are needed, and used where they are there."""
    if config.evaluate or config.val is not None:
        return with_validation(source, config.data, config.val, config.val_share, config.seed, options)
    if config.val_share is not None:
        return hold_out(source, config.val_share, config.seed)
    try:
        return source, validation_source(source.classes, config.data, None, options)
    except UserError as error:
        if isinstance(error.__cause__, NoSplit):
            return source, None
        raise


def _require_same_set(layout: KernelLayout, source: RowSource) -> None:
    try:
        classes = read_manifest(layout.condensed).classes
    except UserError:
        return  # of another format: it will be written anew
    require_same(source.classes, classes, "--data", f"the manifest of {layout.condensed} (use another --out)")


def condense(config: KernelConfig) -> KernelRun:
    """Source → supports → condensed set → accuracies → report, each part only where missing or stale.

    A rerun with the same configuration resumes; the result has the same bytes. Raises UserError for bad input and for
    what does not fit into memory, RaycondError for kernels that are singular; trainings that fail are in `failures`.
    """
    run = prepare(config)
    with at_work(config.out, "raycond kernel", verbose=config.verbose):
        _run(config, run)
    return run


def _run(config: KernelConfig, run: KernelRun) -> None:
    files.write_json(run.layout.config, config.to_dict())
    listed = listings(run.source)
    counts = [one.images for one in listed]
    require_enough_images(run.source, listed, config.ipc)
    require_supports(config, counts)
    run.source_bytes = sum(one.bytes for one in listed)
    listing = source_digest([one.fingerprint for one in listed])
    with run.timed("start"):
        runner = open_runner(config.runner, config.dashboard)
    try:
        runner.require(config.resources, config.workers, may_grow=True)
        run.machine = runner.describe() | {"workers": config.workers or "as many as fit"}
        run.machine |= {"block": config.block_size, "cpus_per_worker": config.cpus_per_worker}
        _stages(config, run, runner, listing, counts)
    finally:
        runner.close()
    with run.timed("report"):
        write_report(run.layout.report, build_report(config, run))


def _stages(config: KernelConfig, run: KernelRun, runner: Runner, listing: str, counts: Sequence[int]) -> None:
    blocks = BlockPool(runner, config.resources, config.workers)
    tests = _decode(config, run, listing)
    with run.timed("plan"):
        needs = needs_of(
            config,
            machine_of(config, runner),
            images=sum(counts),
            classes=len(counts),
            tests=0 if tests is None else len(tests.split),
            measure=lambda work: next(blocks(partial(_rate, blocks.device), (), [work])),
        )
        run.plan = needs.lines()
        print("\n".join(run.plan), file=sys.stderr)
    split = pixels(run.layout.pixels("train"), len(counts))
    with run.timed("preprocess"):
        run.pool, fitted = open_pool(config, split, listing, run.layout.preprocessing)
        run.computed["preprocess"] = int(fitted)
    with run.timed(config.method):
        run.supports = [
            make_support(Work(config, run.pool, ipc, run.layout, blocks, blocks.device)) for ipc in sorted(config.ipc)
        ]
        run.computed["supports"] = sum(support.computed for support in run.supports)
    if tests is not None:
        with run.timed("krr"):
            run.scores = score_supports(
                config,
                run.supports,
                run.pool.preprocessing,
                tests,
                places=[run.layout.score(support.ipc) for support in run.supports],
                run=blocks,
                device=blocks.device,
            )
        run.rows = krr_rows(config, run.scores, len(counts))
    with run.timed("write"):
        run.manifest, written = write_kernel_set(
            config,
            run.source,
            run.pool,
            run.supports,
            bad=run.train_bad,
            folder=run.layout.condensed,
            record=run.layout.set_record,
        )
        run.computed["write"] = int(written)
    if config.evaluate:
        with run.timed("evaluate"):
            evaluate(config, run, runner, listing)
        quarantine.write(run.layout.quarantine, run.bad)
    if run.rows:
        table.write(run.layout.results, run.rows)


def _rate(device: str, work: KernelWork) -> float:
    """Kernel entries per second, measured where blocks are computed."""
    return measured_rate(work, device=device)


def _decode(config: KernelConfig, run: KernelRun, listing: str) -> Tests | None:
    """Decode both splits, where that is not done, after a look for validation images among the training images."""
    options = decoding(config, config.channels)
    if run.val is not None:
        run.val_digest, run.overlap = require_unseen(
            run.val, run.source, train_digest=listing, out=config.out, allow=config.allow_overlap
        )
    with run.timed("decode"):
        remedy = "give --limit or a smaller --size"
        train = decode_split("train", run.source, listing, options, run.layout.pixels("train"), remedy)
        run.train_bad = [*train.bad, *run.source.bad]
        _quarantine(config, run, run.train_bad, train.images)
        if run.val is None:
            return None
        output = run.layout.pixels(f"val-{config.size}")  # the name that the evaluation looks for
        val = decode_split("val", run.val, run.val_digest, options, output)
        _quarantine(config, run, val.bad, val.images)
    return Tests(pixels(output, len(run.source.classes)), run.val_digest)


def _quarantine(config: KernelConfig, run: KernelRun, bad: Sequence[BadRecord], good: int) -> None:
    """Write the quarantine with `bad` added. Raises UserError if they are too many beside `good` images."""
    run.bad = sorted({*run.bad, *bad})
    quarantine.write(run.layout.quarantine, run.bad)
    quarantine.require_few(run.layout.quarantine, bad, good, config.max_bad)


def plan(config: KernelConfig) -> str:
    """What a run would do and take, having opened and checked everything (`--dry-run`); writes nothing.

    Raises UserError, also for what does not fit into memory, with the block size that would.
    """
    with tempfile.TemporaryDirectory(prefix="raycond-") as folder:
        # an index that is there is worth using; a new one would stay in the run folder
        run = prepare(config, None if files.exists(KernelLayout(config.out).index) else folder)
        listed = listings(run.source)
        tests = 0 if run.val is None else sum(one.images for one in listings(run.val, "list val"))
    counts = [one.images for one in listed]
    lines = [
        f"source    {run.source.description}",
        f"images    {len(counts)} classes, {sum(counts)} images, {min(counts)} to {max(counts)} a class",
        f"kernel    {config.network.name}, {'×'.join(map(str, config.shape))}, {config.preprocess}, {config.precision}",
        f"method    {_method(config)}, IPC {', '.join(map(str, config.ipc))}",
    ]
    try:
        require_enough_images(run.source, listed, config.ipc)
        require_supports(config, counts)
        needs = needs_of(config, machine_of(config), images=sum(counts), classes=len(counts), tests=tests)
    except UserError as error:
        raise UserError("\n".join([*lines, str(error)])) from error
    return "\n".join([*lines, *needs.lines(), f"out       {config.out}"])


def _method(config: KernelConfig) -> str:
    targets = "all" if config.targets is None else f"{config.targets:,}"
    if config.method == "ls":
        return f"Label Solve on {targets} targets"
    labels = "images and labels" if config.learn_labels else "images"
    return f"KIP of {labels}, {config.steps:,} steps of {config.batch:,} of {targets} targets"
