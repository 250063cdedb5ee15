"""The evaluation grid: methods × IPC × students × seeds under one protocol, resumable, with tables and a report."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace

from raycond.core import files, records
from raycond.core.errors import UserError, named
from raycond.data import quarantine
from raycond.data.labelled import pixels
from raycond.data.sources import Source
from raycond.evaluate import proxy, results
from raycond.evaluate.cell import Cell, as_hard, as_plain, tuned
from raycond.evaluate.method_names import FULL, kind_of
from raycond.labels.agreement import Agreement
from raycond.pipelines.evaluate.agreement import AgreementTask, labeler_agreement
from raycond.pipelines.evaluate.config import GridConfig
from raycond.pipelines.evaluate.contenders import Baseline, Baselines, Contender, from_sets
from raycond.pipelines.evaluate.live import LiveTable
from raycond.pipelines.evaluate.memory import with_requests
from raycond.pipelines.evaluate.normalization import normalization
from raycond.pipelines.evaluate.prepare import PROXIED, prepare
from raycond.pipelines.evaluate.selections import with_shared_images
from raycond.pipelines.evaluate.summary import GridRun, build_report, summary
from raycond.pipelines.evaluate.trial import Trial
from raycond.pipelines.run_folder import at_work
from raycond.pipelines.stages.listing import class_fingerprints, source_digest
from raycond.pipelines.stages.overlap import require_disjoint
from raycond.pipelines.stages.splits import decode_split, forget_splits
from raycond.report import write_grid_report
from raycond.runtime.open import open_runner
from raycond.runtime.resources import Resources
from raycond.runtime.runner import Runner
from raycond.training.augment import DRAWN


def evaluate_grid(config: GridConfig) -> GridRun:
    """Train what has no record yet, then write results, summary and report into `config.out`.

    A rerun with the same configuration does what is missing and writes the same results. Raises UserError for bad
    input; trainings that fail are listed in `failures` and do not stop the others.
    """
    run = prepare(config)
    with at_work(config.out, "raycond evaluate", verbose=config.verbose):
        _run(run)
    return run


def _run(run: GridRun) -> None:
    config = run.config
    files.write_json(run.layout.config, config.to_dict())
    with run.timed("start"):
        runner = open_runner(config.runner, config.dashboard)
    try:
        run.machine = runner.describe()
        train(run, runner)
    finally:
        runner.close()
    results.write(f"{run.layout.results}.csv", run.rows)
    results.write_parquet(f"{run.layout.results}.parquet", run.rows)
    if run.rows:
        with run.timed("report"):
            write_grid_report(run.layout.report, build_report(run))
    files.write_bytes(run.layout.summary, summary(run).encode())


def train(run: GridRun, runner: Runner, rows: Sequence[str] = (), more: Sequence[Contender] = ()) -> None:
    """Train what has no record yet; `run` gets the rows and the failures.

    rows: the kinds of methods that are wanted, such as `random` or `weighted` (`method_names.kind_of`); all if there
    are none. more: contenders beside the sets and the baselines. Raises UserError if no node of the cluster can hold a
    trial.
    """
    config = run.config
    resources = Resources(config.cpus_per_trial, config.gpus_per_trial, "trial")
    if resources.gpus > 0 and runner.device(resources) != "cuda":
        raise UserError(f"--gpus-per-trial {resources.gpus:g}: there is no GPU")
    runner.require(resources)
    with run.timed("decode"):
        trials = _trials(run, runner, runner.device(resources), rows, more)
    if trials and config.labeler != "hard":
        run.agreement = _agreement(run, trials[0], runner)
    missing = []
    for trial in trials:
        row = trial.row
        if row is None:
            missing.append(trial)
        else:
            run.rows.append(row)
    run.trained = len(missing)
    with run.timed("train"), LiveTable(len(trials), run.rows) as watcher:
        missing = with_requests(with_shared_images(missing, run, runner), config, runner)
        runner.trials(missing, watcher, folder=run.layout.tune, at_once=config.trials_at_once)
    run.failures += watcher.failures


def _agreement(run: GridRun, trial: Trial, runner: Runner) -> Agreement | None:
    """How the labeler agrees with the hard labels of real images, said before anything learns from it."""
    cell = trial.cell
    view = cell.protocol.view_size or cell.options.size
    task = AgreementTask(run.config.labeler, run.classes, cell.test, view, cell.device)
    with run.timed("labeler"):
        agreement = labeler_agreement(
            task,
            runner,
            labels_digest=run.labels_digest,
            test_digest=run.val_listing,
            record=run.layout.agreement,
        )
    if agreement is not None:
        print(f"labeler    {run.config.labeler} {agreement}", file=sys.stderr)
        if agreement.warning:
            print(f"WARNING    {agreement.warning}", file=sys.stderr)
    return agreement


def _trials(run: GridRun, runner: Runner, device: str, rows: Sequence[str], more: Sequence[Contender]) -> list[Trial]:
    """Decode what trainings share, choose nothing twice, and list every training."""
    run.val_listing = run.val_listing or source_digest(class_fingerprints(run.val, "list val"))
    if run.origin is not None:
        run.listing = run.listing or source_digest(class_fingerprints(run.origin))
        run.overlap = require_disjoint(
            run.val,
            run.origin,
            val_digest=run.val_listing,
            train_digest=run.listing,
            record=run.layout.overlap,
            allow=run.config.allow_overlap,
        )
    run.normalization = normalization(run)
    contenders = [*from_sets(run.sets, run.ipcs, run.config.weights), *more]
    if run.source is not None:
        option = "--methods" if rows else "--baselines"
        contenders = [*_from_source(run, runner, run.source, device, option), *contenders]
    if rows:
        contenders = [contender for contender in contenders if kind_of(contender.method) in rows]
    tests: dict[int, int] = {}
    trials = []
    for contender in contenders:
        for ipc in contender.ipcs:
            for student in run.config.students:
                for seed in run.config.seeds:
                    for cell in _cells(run, contender, ipc, student, seed, device):
                        side = cell.protocol.test_side(run.options.size)
                        if side not in tests:
                            tests[side] = _decode_val(run, side)
                        trials.append(_trial(run, contender, cell, side, tests[side]))
    return trials


def _from_source(run: GridRun, runner: Runner, source: Source, device: str, option: str) -> list[Contender]:
    """The baselines; decodes the training split and measures a proxy where one of them needs that.

    option: the one that names baselines, for errors.
    """
    digest = run.listing
    chosen = [kind for kind in run.baselines if kind in PROXIED]
    output, made_of, count = run.layout.pixels("train"), "", 0
    if chosen or FULL in run.baselines:
        large = [kind for kind in run.baselines if kind in chosen or kind == FULL]
        remedy = f"give {option} without {' '.join(large)}{' and leave out --scores' if run.config.scores else ''}"
        count = decode_split("train", source, digest, run.options, output, remedy).images
    if chosen:
        made_of = _proxy(run, runner, output, digest, device)
    budgeted = run.recipe.resolve(ipc=10, classes=10, student="").tasks > 1
    baselines = Baselines(source, digest, count, run.sets[0], run.ipcs, output, run.layout.proxy, made_of, budgeted)
    return [Baseline(kind, baselines) for kind in run.baselines]


def _proxy(run: GridRun, runner: Runner, split: str, digest: str, device: str) -> str:
    """The fingerprint of the proxy, which is measured where that is not done."""
    c = run.config
    expected = records.fingerprint(
        stage="proxy", data=digest, options=str(run.options), student=c.proxy_student, nets=c.proxy_nets,
        steps=c.proxy_steps, device=device, drawn=DRAWN,
    )  # fmt: skip
    if records.find(run.layout.proxy, expected) is None:
        task = (split, len(run.classes), c, run.layout.proxy, device)
        resources = Resources(gpus=1.0 if device == "cuda" else 0.0)
        for _, result in runner.tasks(_measure_proxy, [task], resources):
            if isinstance(result, Exception):
                raise result
        records.finish(run.layout.proxy, expected, None, **records.measured(run.layout.proxy))
    return expected


def _measure_proxy(task: tuple[str, int, GridConfig, str, str]) -> None:
    split, classes, c, output, device = task
    forget_splits()  # this process may have served an earlier grid
    found = proxy.measure(
        pixels(split, classes),
        student=c.proxy_student,
        steps=c.proxy_steps,
        nets=c.proxy_nets,
        seed=0,
        device=device,
        threads=None if device.startswith("cuda") else 1,  # as trainings: the same bits in every process
    )
    proxy.write(output, found)
    proxy.read.cache_clear()


def _cells(run: GridRun, contender: Contender, ipc: int | None, student: str, seed: int, device: str) -> Iterator[Cell]:
    """The training itself and, for scores, what it is compared with."""
    cell = Cell(
        contender.method,
        ipc,
        student,
        seed,
        run.recipe.resolve(ipc=ipc, classes=len(run.classes), student=student, size=run.options.size),
        run.classes,
        run.options,
        contender.images(ipc, seed),
        "",
        device,
        labeler=run.config.labeler,
        set=contender.label,
        weights=contender.weights,
        normalization=run.normalization,
    )
    yield cell
    if run.config.scores:
        yield from _for_scores(cell, run.config.score_lrs)


def _for_scores(cell: Cell, lrs: Sequence[float]) -> Iterator[Cell]:
    """What DD-Ranking compares a training with: hard labels, no augmentation, and tuned learning rates."""
    hard = as_hard(cell)
    tuning = lrs if cell.ipc is not None else ()
    if tuning:
        yield from tuned(hard, tuning)
    elif cell.labeler != "hard" or hard.protocol != cell.protocol:
        yield hard
    if tuning and cell.method == "random":
        yield from tuned(cell, tuning)
    if cell.ipc is not None:
        yield as_plain(cell)


def _decode_val(run: GridRun, side: int) -> int:
    # however the set's images were resized: the sources test on bilinear, centrally cropped images
    options = replace(run.options, size=side, resize="crop", interpolation="bilinear")
    split = decode_split("val", run.val, run.val_listing, options, run.layout.pixels(f"val-{side}"))
    bad = {*split.bad, *run.val.bad}
    run.bad = sorted({*run.bad, *bad})
    quarantine.update(run.layout.quarantine, run.bad)
    with named("--val"):
        quarantine.require_few(run.layout.quarantine, bad, split.images, run.config.max_bad)
    return split.images


def _trial(run: GridRun, contender: Contender, cell: Cell, side: int, tests: int) -> Trial:
    cell = replace(cell, test=run.layout.pixels(f"val-{side}"))
    name = files.digest([cell.former, cell.set, cell.weights])[:8]
    return Trial.of(
        cell,
        run.layout.cell(f"{cell.slug}-{name}"),
        contender.digest(cell.ipc),
        run.val_listing,
        run.labels_digest if cell.labeler != "hard" else "hard",
        max(1, contender.count(cell.ipc)),
        tests,
        contender.held,
    )
