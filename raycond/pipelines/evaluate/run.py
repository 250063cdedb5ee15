"""The evaluation grid: methods × IPC × students × seeds under one protocol, resumable, with tables and a report."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from raycond.core import files, records
from raycond.core.errors import UserError, named
from raycond.data import quarantine
from raycond.data.classes import require_same
from raycond.data.images import Decoding
from raycond.data.labelled import pixels
from raycond.data.quarantine import Limit
from raycond.data.sources import Source, open_source
from raycond.evaluate import coresets, protocol, proxy, results
from raycond.evaluate.cell import Cell, as_hard, as_plain, decoded_side
from raycond.evaluate.continual import seen_classes
from raycond.evaluate.table import FULL
from raycond.labels import registry
from raycond.models import students
from raycond.pipelines.evaluate.config import GridConfig, load_grid_config
from raycond.pipelines.evaluate.contenders import Baseline, Baselines, Contender, OpenedSet, from_sets, open_sets
from raycond.pipelines.evaluate.live import LiveTable
from raycond.pipelines.evaluate.summary import GridRun, build_report, summary
from raycond.pipelines.evaluate.units import Trial
from raycond.pipelines.layout import GridLayout, Layout
from raycond.pipelines.stages.listing import class_fingerprints, source_digest
from raycond.pipelines.stages.splits import decode_split, forget_splits
from raycond.report import write_grid_report
from raycond.runtime.local_trials import LocalGrid
from raycond.runtime.runner import GridRunner

MAX_BAD = "1%"  # of the validation images
PROXIED = tuple(kind for kind in coresets.KINDS if kind != "medoid")  # coresets that a proxy chooses


def resumed(out: str, options: dict[str, Any]) -> GridConfig:
    """The configuration that an earlier grid left in `out`, for `--resume`.

    options: what else was given; only what does not change results may be. Raises UserError.
    """
    uri = GridLayout(files.absolute(out)).config
    if not files.exists(uri):
        raise UserError(f"--resume: {out} holds no grid; start it without --resume")
    allowed = {"out", "trials_at_once", "gpus_per_trial", "cpus_per_trial", "runner", "dashboard"}
    if wrong := sorted(set(options) - allowed):
        name = "set" if wrong[0] == "changes" else wrong[0].replace("_", "-")
        raise UserError(f"--resume goes on with the options of {uri}; leave --{name} out, or start without --resume")
    made = _json(uri)
    if "sets" not in made:
        raise UserError(f"--resume: {uri} is not of a grid; give --out the folder of one")
    return load_grid_config({**made, **options})


def _json(uri: str) -> dict[str, Any]:
    """What a config.json holds; nothing if it is not one of raycond's."""
    try:
        found = files.read_json(uri)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def prepare(config: GridConfig) -> GridRun:
    """Open and check everything that can be checked before heavy work. Raises UserError, ClassMismatch."""
    if config.runner == "ray" and config.out.startswith("memory://"):
        raise UserError(f"--out {config.out}: is of one process; use --runner local, or a place that workers can reach")
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
    options = Decoding(int(content["size"]), content["config"]["resize"], int(content["channels"]), config.max_pixels)
    baselines = _baselines(config, recipe)
    _require_fit(config, recipe, len(classes), ipcs, options)
    if set(baselines) & set(PROXIED):
        with named("--proxy-student"):
            students.build(config.proxy_student, classes=len(classes), size=options.size, channels=options.channels)
    with named("--labeler"):
        _, labels_digest = registry.identity(config.labeler, classes)
    source, val = _sources(config, sets[0], baselines)
    layout = GridLayout(config.out)
    return GridRun(config, layout, sets, ipcs, recipe, options, baselines, source, val, labels_digest)


def _require_fit(
    config: GridConfig, recipe: protocol.Recipe, classes: int, ipcs: tuple[int, ...], options: Decoding
) -> None:
    """That every student can be built, and trained at every IPC with the labels that there are."""
    for student in config.students:
        protocols = [recipe.resolve(ipc=ipc, classes=classes, student=student) for ipc in ipcs]
        for size in {min(options.size, p.max_size or options.size) for p in protocols}:
            with named("--students"):
                students.build(student, classes=classes, size=size, channels=options.channels)
        for p in protocols:
            with named(f"--protocol {config.protocol}"):
                seen_classes(classes, p.tasks, seed=0)
                if config.labeler == "hard" and p.loss != "cross-entropy":
                    raise UserError(
                        f"its loss {p.loss} learns soft labels: give --labeler (such as teacher:resnet18), or --set "
                        "loss=cross-entropy for hard ones"
                    )


def _baselines(config: GridConfig, recipe: protocol.Recipe) -> tuple[str, ...]:
    if config.baselines == ("none",):
        return ()
    chosen: list[str] = ["random", "medoid", *(config.baselines or ())]
    same_cost = config.baselines is None and recipe.resolve(ipc=10, classes=10, student="").steps
    if same_cost or config.scores:
        chosen.append(FULL)
    return tuple(dict.fromkeys(chosen))


def _sources(config: GridConfig, first: OpenedSet, baselines: tuple[str, ...]) -> tuple[Source | None, Source]:
    """The source of the baselines (None without them) and the validation images."""
    run = Layout(first.path.rpartition("/")[0])
    made = _json(run.config) if files.exists(run.config) else {}
    data = config.data or made.get("data") or _public_source(first)
    val = config.val or (made.get("val") if not config.data else None) or data
    if val is None:
        raise UserError(f"--val: {first.path} does not say where its source is; give --val URI (and --data URI)")
    about, classes = first.manifest.content["config"], first.manifest.classes
    options: dict[str, Any] = {
        "index_dir": run.index if files.exists(run.index) else GridLayout(config.out).index,
        "max_classes": about.get("classes"),
        "image_column": about.get("image_column"),
        "label_column": about.get("label_column"),
    }
    with named("--val"):
        tests = open_source(val, split="val", **options)
    require_same(classes, tests.classes, first.path, f"--val {val}")
    if not baselines:
        return None, tests
    if data is None:
        raise UserError(f"--data: baselines need the source of {first.path}: give --data URI, or --baselines none")
    with named("--data"):
        source = open_source(data, split="train", limit=about.get("limit"), **options)
    require_same(classes, source.classes, first.path, f"--data {data}")
    return source, tests


def _public_source(first: OpenedSet) -> str | None:
    """The address in the manifest, if it is one that holds on every machine."""
    uri = str(first.manifest.content["source"]["uri"])
    return uri if "://" in uri or uri.endswith(":") else None


def evaluate_grid(config: GridConfig) -> GridRun:
    """Train what has no record yet, then write results, summary and report into `config.out`.

    A rerun with the same configuration does what is missing and writes the same results. Raises UserError for bad
    input; trainings that fail are listed in `failures` and do not stop the others.
    """
    run = prepare(config)
    files.write_json(run.layout.config, config.to_dict())
    with run.timed("start"):
        runner = _runner(config)
    try:
        run.machine = runner.describe()
        with run.timed("decode"):
            units = _units(run, runner)
        missing = []
        for unit in units:
            row = unit.finished()
            if row is None:
                missing.append(unit)
            else:
                run.rows.append(row)
        run.trained = len(missing)
        with run.timed("train"), LiveTable(len(units), run.rows) as watcher:
            runner.run(missing, watcher)
        run.failures += watcher.failures
    finally:
        runner.close()
    results.write(f"{run.layout.results}.csv", run.rows)
    results.write_parquet(f"{run.layout.results}.parquet", run.rows)
    if run.rows:
        with run.timed("report"):
            write_grid_report(run.layout.report, build_report(run))
    files.write_bytes(run.layout.summary, summary(run).encode())
    return run


def _runner(config: GridConfig) -> GridRunner:
    if config.runner == "local":
        return LocalGrid(config)
    from raycond.runtime.ray_tune import TuneRunner

    return TuneRunner(config, config.out)


def _units(run: GridRun, runner: GridRunner) -> list[Trial]:
    """Decode what trainings share, choose nothing twice, and list every training."""
    val_digest = source_digest(class_fingerprints(run.val, "list val"))
    contenders = from_sets(run.sets, run.ipcs, run.config.weights)
    if run.source is not None:
        contenders = [*_from_source(run, runner, run.source), *contenders]
    tests: dict[int, int] = {}
    units = []
    for contender in contenders:
        for ipc in contender.ipcs:
            for student in run.config.students:
                for seed in run.config.seeds:
                    for cell in _cells(run, contender, ipc, student, seed, runner.device):
                        side = decoded_side(run.options.size, cell.protocol)
                        if side not in tests:
                            tests[side] = _decode_val(run, val_digest, side)
                        units.append(_unit(run, contender, cell, side, val_digest, tests[side]))
    return units


def _from_source(run: GridRun, runner: GridRunner, source: Source) -> list[Contender]:
    """The baselines; decodes the training split and measures a proxy where one of them needs that."""
    digest = source_digest(class_fingerprints(source))
    chosen = [kind for kind in run.baselines if kind in PROXIED]
    output, made_of, count = run.layout.pixels("train"), "", 0
    if chosen or FULL in run.baselines:
        large = [kind for kind in run.baselines if kind in chosen or kind == FULL]
        remedy = f"give --baselines without {' '.join(large)}{' and leave out --scores' if run.config.scores else ''}"
        count = decode_split("train", source, digest, run.options, output, remedy).images
    if chosen:
        made_of = _proxy(run, runner, output, digest)
    budgeted = run.recipe.resolve(ipc=10, classes=10, student="").tasks > 1
    baselines = Baselines(source, digest, count, run.sets[0], run.ipcs, output, run.layout.proxy, made_of, budgeted)
    return [Baseline(kind, baselines) for kind in run.baselines]


def _proxy(run: GridRun, runner: GridRunner, split: str, digest: str) -> str:
    """The fingerprint of the proxy, which is measured where that is not done."""
    c = run.config
    expected = records.fingerprint(
        stage="proxy", data=digest, options=str(run.options), student=c.proxy_student, nets=c.proxy_nets,
        steps=c.proxy_steps, device=runner.device,
    )  # fmt: skip
    if records.find(run.layout.proxy, expected) is None:
        runner.once(_measure_proxy, (split, len(run.classes), c, run.layout.proxy, runner.device))
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
        run.recipe.resolve(ipc=ipc, classes=len(run.classes), student=student),
        run.classes,
        run.options,
        contender.images(ipc, seed),
        "",
        device,
        labeler=run.config.labeler,
        set=contender.label,
        weights=contender.weights,
    )
    yield cell
    if run.config.scores:
        if run.config.labeler != "hard":
            yield as_hard(cell)
        if ipc is not None:
            yield as_plain(cell)


def _decode_val(run: GridRun, digest: str, side: int) -> int:
    split = decode_split("val", run.val, digest, replace(run.options, size=side), run.layout.pixels(f"val-{side}"))
    bad = sorted({*split.bad, *run.val.bad})
    if bad:
        quarantine.write(run.layout.quarantine, bad)
    if Limit.parse(MAX_BAD).exceeded(len(bad), len(bad) + split.images):
        raise UserError(f"--val: {len(bad)} images cannot be read, more than {MAX_BAD}: see {run.layout.quarantine}")
    return split.images


def _unit(run: GridRun, contender: Contender, cell: Cell, side: int, val_digest: str, tests: int) -> Trial:
    cell = replace(cell, test=run.layout.pixels(f"val-{side}"))
    name = files.digest([cell.name, cell.set, cell.weights])[:8]
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
