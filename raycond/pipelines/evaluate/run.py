"""The evaluation grid: methods × IPC × students × seeds under one protocol, resumable, with tables and a report."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from raycond.core import files, records
from raycond.core.errors import UserError, named
from raycond.core.options import command_line
from raycond.data import quarantine
from raycond.data.classes import Classes, require_same
from raycond.data.images import Channels, Decoding
from raycond.data.labelled import pixels
from raycond.data.quarantine import Limit
from raycond.data.rows import RowSource
from raycond.data.sources import Source, open_source
from raycond.evaluate import coresets, protocol, proxy, results
from raycond.evaluate.cell import Cell, as_hard, as_plain, tuned
from raycond.evaluate.continual import seen_classes
from raycond.evaluate.method_names import FULL, kind_of
from raycond.labels import registry
from raycond.labels.agreement import Agreement
from raycond.models import students
from raycond.pipelines.evaluate.agreement import AgreementTask, labeler_agreement
from raycond.pipelines.evaluate.config import GridConfig, load_grid_config
from raycond.pipelines.evaluate.contenders import Baseline, Baselines, Contender, OpenedSet, from_sets, open_sets
from raycond.pipelines.evaluate.live import LiveTable
from raycond.pipelines.evaluate.memory import with_requests
from raycond.pipelines.evaluate.normalization import normalization
from raycond.pipelines.evaluate.selections import with_shared_images
from raycond.pipelines.evaluate.summary import GridRun, build_report, summary
from raycond.pipelines.evaluate.trial import Trial
from raycond.pipelines.layout import GridLayout, Layout
from raycond.pipelines.loading import shown
from raycond.pipelines.prepare import require_reachable, validation_source, with_validation
from raycond.pipelines.run_folder import at_work
from raycond.pipelines.stages.listing import class_fingerprints, source_digest
from raycond.pipelines.stages.overlap import require_disjoint
from raycond.pipelines.stages.splits import decode_split, forget_splits
from raycond.report import write_grid_report
from raycond.runtime.open import open_runner
from raycond.runtime.resources import Resources
from raycond.runtime.runner import Runner
from raycond.training.augment import DRAWN

PROXIED = tuple(kind for kind in coresets.CORESETS.names() if kind != "medoid")  # coresets that a proxy chooses
MAY_CHANGE = ("out", "max_bad", "trials_at_once", "gpus_per_trial", "cpus_per_trial", "runner", "dashboard", "verbose")
"""Options that change no result, which a grid that goes on may be given anew."""


def resumed(out: str, options: dict[str, Any]) -> GridConfig:
    """The configuration that an earlier grid left in `out`, for `--resume`.

    options: what else was given: the same values as then, or others for what does not change results. Raises UserError
    for a value that differs.
    """
    uri = GridLayout(files.absolute(out)).config
    if not files.exists(uri):
        raise UserError(f"--resume: {out} holds no grid; start it without --resume")
    saved = _json(uri)
    if "sets" not in saved:
        raise UserError(f"--resume: {uri} is not of a grid; give --out the folder of one")
    before, now = load_grid_config(saved), load_grid_config({**saved, **options})
    for option in command_line(GridConfig):
        field = option.path[0]
        was, is_now = getattr(before, field), getattr(now, field)
        if field not in MAY_CHANGE and was != is_now:
            raise UserError(
                f"{option.flag}: the grid in {out} has {_shown(was)}, not {_shown(is_now)}; leave the option out to go "
                "on with it, or start another grid without --resume"
            )
    return now


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        value = [f"{key}={setting}" for key, setting in value.items()]
    return shown(value) if isinstance(value, list | tuple) else str(value)


def _json(uri: str) -> dict[str, Any]:
    """What a config.json holds; nothing if it is not one of raycond's."""
    try:
        found = files.read_json(uri)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def prepare(
    config: GridConfig, source: RowSource | None = None, val: RowSource | None = None, digest: str = ""
) -> GridRun:
    """Open and check everything that can be checked before heavy work. Raises UserError, ClassMismatch.

    source, val: what the baselines and the test images come from, where they are open already; digest: of the source's
    listing, where it is known.
    """
    require_reachable(config.out, config.runner)
    with named("--max-bad"):
        Limit.parse(config.max_bad)
    sets = open_sets(config.sets)
    classes = sets[0].manifest.classes
    for other in sets[1:]:
        require_same(classes, other.manifest.classes, f"--sets {sets[0].path}", other.path)
    ipcs = tuple(dict.fromkeys(config.ipc or sets[0].manifest.ipcs))
    from_sets(sets, ipcs, config.weights)
    with named("--protocol"):
        recipe = protocol.recipe(config.protocol)
    with named("--set"):
        recipe = recipe.override(**config.changes)
    content = sets[0].manifest.content
    channels: Channels = 3 if int(content["channels"]) == 3 else 1
    options = Decoding(
        int(content["size"]),
        content["config"]["resize"],
        channels,
        config.max_pixels,
        content["config"].get("max_value"),
    )
    baselines = _baselines(config, recipe)
    _require_fit(config, recipe, len(classes), ipcs, options)
    _warn_of_enlarged_views(config, recipe, len(classes), ipcs, options.size)
    if set(baselines) & set(PROXIED):
        with named("--proxy-student"):
            students.build(config.proxy_student, classes=len(classes), size=options.size, channels=options.channels)
    with named("--labeler"):
        _, labels_digest = registry.identity(config.labeler, classes)
    origin = source
    if val is None:
        source, val, origin = _sources(config, sets, baselines)
    layout = GridLayout(config.out)
    return GridRun(config, layout, sets, ipcs, recipe, options, baselines, source, val, labels_digest, digest, origin)


def _require_fit(
    config: GridConfig, recipe: protocol.Recipe, classes: int, ipcs: tuple[int, ...], options: Decoding
) -> None:
    """That every student can be built, and trained at every IPC with the labels that there are."""
    for student in config.students:
        protocols = [recipe.resolve(ipc=ipc, classes=classes, student=student, size=options.size) for ipc in ipcs]
        for size in {p.view_side(options.size) for p in protocols}:
            with named("--students"):
                students.build(student, classes=classes, size=size, channels=options.channels)
        for p in protocols:
            with named(f"--protocol {config.protocol}"):
                seen_classes(classes, p.tasks, seed=0)
                if config.labeler == "hard" and p.needs_labeler:
                    raise UserError(
                        f"its loss {p.loss} learns soft labels: give --labeler (such as teacher:resnet18), or --set "
                        "loss=cross-entropy for hard ones"
                    )


def _warn_of_enlarged_views(
    config: GridConfig, recipe: protocol.Recipe, classes: int, ipcs: tuple[int, ...], size: int
) -> None:
    """Say so where the images are stored smaller than the protocol's students see them."""
    pairs = [(student, ipc) for student in config.students for ipc in ipcs]
    found = [recipe.resolve(ipc=ipc, classes=classes, student=student, size=size) for student, ipc in pairs]
    if (view := max(p.view_side(size) for p in found)) > size:
        print(
            f"WARNING    images are stored at {size} pixels, and students of protocol {recipe.name} see {view}: views "
            f"are enlarged, and the accuracy is not that of a set that is stored at {view} pixels or more",
            file=sys.stderr,
        )


def _baselines(config: GridConfig, recipe: protocol.Recipe) -> tuple[str, ...]:
    if config.baselines == ("none",):
        return ()
    chosen: list[str] = ["random", "medoid", *(config.baselines or ())]
    same_cost = config.baselines is None and recipe.resolve(ipc=10, classes=10, student="").steps
    if same_cost or (config.scores and config.full_accuracy is None):
        chosen.append(FULL)
    return tuple(dict.fromkeys(chosen))


WAYS_OUT = (
    "Give --val URI for other images, or make the set with --val-share 0.1, which holds a tenth of each class out"
)


def _sources(
    config: GridConfig, sets: Sequence[OpenedSet], baselines: tuple[str, ...]
) -> tuple[RowSource | None, RowSource, RowSource | None]:
    """The source of the baselines (None without them), the validation images, and what the first set was made from."""
    first = sets[0]
    layout = Layout(first.path.rpartition("/")[0])
    run = _json(layout.config) if files.exists(layout.config) else {}
    about, classes = first.manifest.content["config"], first.manifest.classes
    data = config.data or run.get("data") or _built_in(first)
    val = config.val or (run.get("val") if not config.data else None)
    share = config.val_share or (None if config.val else about.get("val_share"))
    if val is None and data is None:
        raise UserError(f"--val: {first.path} does not say where its source is; give --val URI (and --data URI)")
    options: dict[str, Any] = {
        "index_dir": layout.index if files.exists(layout.index) else GridLayout(config.out).index,
        "max_classes": about.get("classes"),
        "image_column": about.get("image_column"),
        "label_column": about.get("label_column"),
        "class_list": config.class_list or run.get("class_list"),
        "image_root": config.image_root or run.get("image_root"),
    }
    if not baselines and share is None:
        tests = validation_source(classes, data or "", val, options, first.path, WAYS_OUT)
        return None, tests, _made_from(data, about.get("limit"), classes, options)
    if share is not None and not config.allow_overlap:
        _require_held_out(sets, share)
    if data is None:
        raise UserError(f"--data: baselines need the source of {first.path}: give --data URI, or --baselines none")
    with named("--data"):
        source = open_source(data, split="train", limit=about.get("limit"), **options)
    require_same(classes, source.classes, first.path, f"--data {data}")
    source, tests = with_validation(source, data, val, share, int(first.manifest.content["seed"]), options, WAYS_OUT)
    return source, tests, source


def _made_from(data: str | None, limit: int | None, classes: Classes, options: dict[str, Any]) -> RowSource | None:
    """The images that a set was made from, to look for validation images among them; None where they are not there."""
    if data is None:
        return None
    try:
        return open_source(data, split="train", limit=limit, classes=classes, **options)
    except UserError:
        return None


def _require_held_out(sets: Sequence[OpenedSet], share: float) -> None:
    """Raise UserError for a set that was made from the images that are to be tested on.

    Which images a share holds out is decided by the seed of the first set.
    """
    seed = sets[0].manifest.content["seed"]
    for one in sets:
        content = one.manifest.content
        if (content["config"].get("val_share"), content["seed"]) != (share, seed):
            raise UserError(
                f"--val-share {share:g}: {one.path} was made without holding these images out, and would be tested on "
                f"what it was made from; make it with --val-share {share:g} --seed {seed}, or give --val URI "
                "(--allow-overlap goes on all the same)"
            )


def _built_in(first: OpenedSet) -> str | None:
    """The address in the manifest, if it is a data set that comes with a library: a set that somebody made must not
    have other addresses fetched."""
    uri = str(first.manifest.content["source"]["uri"])
    return uri if uri.endswith(":") else None


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
            test_digest=source_digest(class_fingerprints(run.val, "list val")),
            record=run.layout.agreement,
        )
    if agreement is not None:
        print(f"labeler    {run.config.labeler} {agreement}", file=sys.stderr)
        if agreement.warning:
            print(f"WARNING    {agreement.warning}", file=sys.stderr)
    return agreement


def _trials(run: GridRun, runner: Runner, device: str, rows: Sequence[str], more: Sequence[Contender]) -> list[Trial]:
    """Decode what trainings share, choose nothing twice, and list every training."""
    val_digest = source_digest(class_fingerprints(run.val, "list val"))
    if run.origin is not None:
        run.listing = run.listing or source_digest(class_fingerprints(run.origin))
        run.overlap = require_disjoint(
            run.val,
            run.origin,
            val_digest=val_digest,
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
                            tests[side] = _decode_val(run, val_digest, side)
                        trials.append(_trial(run, contender, cell, side, val_digest, tests[side]))
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


def _decode_val(run: GridRun, digest: str, side: int) -> int:
    # however the set's images were resized: the sources test on bilinear, centrally cropped images
    options = replace(run.options, size=side, resize="crop", interpolation="bilinear")
    split = decode_split("val", run.val, digest, options, run.layout.pixels(f"val-{side}"))
    bad = {*split.bad, *run.val.bad}
    run.bad = sorted({*run.bad, *bad})
    quarantine.update(run.layout.quarantine, run.bad)
    with named("--val"):
        quarantine.require_few(run.layout.quarantine, bad, split.images, run.config.max_bad)
    return split.images


def _trial(run: GridRun, contender: Contender, cell: Cell, side: int, val_digest: str, tests: int) -> Trial:
    cell = replace(cell, test=run.layout.pixels(f"val-{side}"))
    name = files.digest([cell.former, cell.set, cell.weights])[:8]
    return Trial.of(
        cell,
        run.layout.cell(f"{cell.slug}-{name}"),
        contender.digest(cell.ipc),
        val_digest,
        run.labels_digest if cell.labeler != "hard" else "hard",
        max(1, contender.count(cell.ipc)),
        tests,
        contender.held,
    )
