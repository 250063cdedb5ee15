"""The matching pipeline: source → decoded images → phases of optimization → condensed set → accuracies → report."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch

from raycond import __version__
from raycond.core import files
from raycond.core.errors import UserError, named
from raycond.data import quarantine
from raycond.data.class_arrays import Pixels
from raycond.data.classes import Classes, require_same
from raycond.data.holdout import hold_out
from raycond.data.images import Decoding
from raycond.evaluate import protocol, table
from raycond.methods.match.memory import plan as memory_plan
from raycond.models import students
from raycond.pipelines.layout import MatchLayout
from raycond.pipelines.match import curve
from raycond.pipelines.match.config import MatchingConfig
from raycond.pipelines.match.evaluation import evaluate
from raycond.pipelines.match.medoids import medoids
from raycond.pipelines.match.phase import PhaseTrial
from raycond.pipelines.match.phases import carry_out, phases
from raycond.pipelines.match.pictures import encoded
from raycond.pipelines.match.snapshots import keep_sheets
from raycond.pipelines.match.summary import MatchRun, build_report
from raycond.pipelines.prepare import source_options, training_source, with_validation
from raycond.pipelines.run_folder import at_work
from raycond.pipelines.stages.class_files import ClassFiles, make_class_files
from raycond.pipelines.stages.condensed import public_uri, write_set
from raycond.pipelines.stages.listing import listings, require_enough_images, source_digest
from raycond.pipelines.stages.overlap import require_unseen
from raycond.pipelines.stages.pixels import PixelSpec
from raycond.report import write_report
from raycond.runtime.open import open_runner
from raycond.runtime.resources import Resources
from raycond.runtime.runner import Runner
from raycond.sets.manifest import read_manifest
from raycond.sets.normalization import channels
from raycond.sets.writer import ClassPart, SetWriter

# what the set depends on, beside the settings of each phase; the rest must not change its bytes
IDENTITY = (
    *("resize", "method", "sampling", "published", "ipc", "factor", "parts", "normalization", "image_format"),
    *("limit", "classes", "seed", "image_column", "label_column", "max_pixels", "cpus_per_worker", "changes"),
)
IF_GIVEN = ("val_share", "max_value")


def prepare(config: MatchingConfig, index_dir: str | None = None) -> MatchRun:
    """Open and check everything that can be checked before heavy work. Raises UserError, ClassMismatch.

    index_dir: where sources that need an index find or make it; by default inside the run folder.
    """
    layout = MatchLayout(config.out)
    options = source_options(config, index_dir or layout.index)
    source = training_source(config, options["index_dir"])
    val = None
    if config.evaluate:
        source, val = with_validation(source, config.data, config.val, config.val_share, config.seed, options)
    elif config.val_share is not None:
        source, _ = hold_out(source, config.val_share, config.seed)
    if files.exists(files.join(layout.condensed, "manifest.json")):
        _require_same_set(layout, source.classes)
    classes = len(source.classes)
    for ipc in config.ipc:
        with named("--network"):
            network = config.matching(ipc).network
            students.build(network, classes=classes, size=config.side, channels=config.depth)
    if config.evaluate:
        with named("--protocol"):
            recipe = protocol.recipe(config.protocol_name)
            if recipe.resolve(ipc=config.ipc[0], classes=classes, student="").loss != "cross-entropy":
                raise UserError(f"{config.protocol_name} learns soft labels; make the set, then use raycond evaluate")
        for student in config.student_names:
            with named("--students"):
                students.build(student, classes=classes, size=config.side, channels=config.depth)
    return MatchRun(layout, source, val)


def _require_same_set(layout: MatchLayout, classes: Classes) -> None:
    try:
        known = read_manifest(layout.condensed).classes
    except UserError:
        return  # of another format: it will be written anew
    require_same(classes, known, "--data", f"the manifest of {layout.condensed} (use another --out)")


def match(config: MatchingConfig) -> MatchRun:
    """Carry out the pipeline, each part only where missing or stale.

    A rerun with the same configuration resumes, phases from their last checkpoints; the set has the same bytes. Raises
    UserError for bad input; what fails on the way (a phase, a training) is in `failures`.
    """
    run = prepare(config)
    with at_work(config.out, "raycond match", verbose=config.verbose):
        files.write_json(run.layout.config, config.to_dict())
        with run.timed("start"):
            runner = open_runner(config.runner, config.dashboard)
        try:
            runner.require(config.resources)
            run.machine = runner.describe() | {"cpus_per_worker": config.cpus_per_worker}
            _stages(config, run, runner)
        finally:
            runner.close()
        if run.manifest:
            with run.timed("report"):
                write_report(run.layout.report, build_report(config, run))
    return run


def _stages(config: MatchingConfig, run: MatchRun, runner: Runner) -> None:
    listed = listings(run.source)
    require_enough_images(run.source, listed, config.ipc)
    run.source_bytes = sum(one.bytes for one in listed)
    fingerprints = [one.fingerprint for one in listed]
    if run.val is not None:  # before the work, not at its end
        run.val_digest, run.overlap = require_unseen(
            run.val, run.source, train_digest=source_digest(fingerprints), out=config.out, allow=config.allow_overlap
        )
    with run.timed("decode"):
        decoded = _decoded(config, run, runner, fingerprints)
    constants = config.constants or _measured(decoded)
    if config.constants and len(constants[0]) != config.depth:
        raise UserError(
            f"--normalization published: {config.published} has {len(constants[0])} channels and the images have "
            f"{config.depth}; give measured"
        )
    run.phases = phases(
        config,
        run.layout,
        decoded.found,
        digest=decoded.digest,
        constants=constants,
        device=runner.device(config.resources),
    )
    missing = [trial for trial in run.phases if trial.finished() is None]
    _say_memory(missing, config.shape, decoded.found.counts)
    with run.timed("match"):
        failures = carry_out(
            run.phases, missing, runner, folder=files.join(run.layout.work, "tune"), at_once=config.workers
        )
    run.computed, run.failures = len(missing), run.failures + failures
    if failures:
        return
    with run.timed("medoids"):
        ids = medoids(runner, run.source, decoded, config.ipc, seed=config.seed, folder=run.layout.medoids)
    with run.timed("write"):
        _write_set(config, run, decoded, constants, ids)
    if config.evaluate:
        with run.timed("evaluate"):
            evaluate(config, run, runner, source_digest(fingerprints))
        quarantine.write(run.layout.quarantine, run.bad)
        table.write(run.layout.results, run.rows)
    curve.write(run)
    keep_sheets(run.layout.pictures, run.phases)


def _decoded(config: MatchingConfig, run: MatchRun, runner: Runner, fingerprints: Sequence[str]) -> ClassFiles:
    """The decoded images of every class; those that cannot be read are in quarantine. Raises UserError for too many."""
    threads = config.decode_threads or config.cpus_per_worker + 1
    how = Decoding(config.side, config.resize, config.depth, config.max_pixels, config.max_value)
    spec = PixelSpec(run.source, run.layout.pixel_files, how, threads, Resources(cpus=1))
    decoded = make_class_files(lambda: runner, spec, fingerprints)
    run.bad, run.images = sorted(decoded.bad), decoded.images
    quarantine.write(run.layout.quarantine, run.bad)
    quarantine.require_few(run.layout.quarantine, decoded.bad, decoded.images, config.max_bad)
    for label, count in enumerate(decoded.found.counts):
        _require_enough(config, run.source.classes.ids[label], count)
    return decoded


def _require_enough(config: MatchingConfig, class_id: str, count: int) -> None:
    for ipc in config.ipc:
        settings = config.matching(ipc)
        needed = ipc * (settings.factor**2 if settings.init != "noise" else 1)
        if count < needed:
            raise UserError(
                f"class {class_id}: has {count} usable images, and {needed} are needed for --ipc {ipc} with --factor "
                f"{settings.factor}: give a smaller --ipc or --factor, or leave the class out"
            )


def _measured(decoded: ClassFiles) -> tuple[tuple[float, ...], tuple[float, ...]]:
    pixels = Pixels.open(decoded.found, "cpu", in_memory=0)
    return pixels.statistics(torch.arange(len(pixels)))


def _say_memory(phases: Sequence[PhaseTrial], shape: tuple[int, int, int], counts: Sequence[int]) -> None:
    """Tell what each phase that is to be done will hold on its device."""
    for phase in phases:
        classes, device = len(phase.job.labels), phase.device
        needed = memory_plan(phase.job.config, shape=shape, counts=counts, classes=classes, device=device).total
        print(f"memory     {phase.slug}: {needed / 2**20:,.0f} MiB on its {device}", file=sys.stderr)


def _write_set(
    config: MatchingConfig,
    run: MatchRun,
    decoded: ClassFiles,
    constants: tuple[tuple[float, ...], tuple[float, ...]],
    ids: dict[int, list[tuple[str, ...]]],
) -> None:
    normalization = channels(*constants)
    of_class = {
        (trial.job.config.ipc, label): (trial, position)
        for trial in run.phases
        for position, label in enumerate(trial.job.labels)
    }

    @lru_cache(maxsize=1)  # classes come in order, and those of a phase together
    def images(trial: PhaseTrial) -> torch.Tensor:
        return trial.images()

    def load(ipc: int, label: int) -> ClassPart:
        trial, position = of_class[ipc, label]
        stored = images(trial)[position * ipc : (position + 1) * ipc]
        unit = trial.job.config.pixels == "unit"
        exact = normalization.apply(stored) if unit else stored
        pixels = stored if unit else normalization.invert(stored).float()
        tensors = {"images": exact}
        count = decoded.found.counts[label]
        return ClassPart(label, encoded(pixels, config.image_format), None, ids[ipc][label], tensors, count)

    writer = SetWriter(
        run.layout.condensed, run.source.classes, config.ipc, "uniform", config.image_format, load, normalization
    )
    parts = [[trial.slug, trial.fingerprint] for trial in run.phases] + [[str(k), v] for k, v in sorted(ids.items())]
    run.manifest, written = write_set(writer, _about(config, run, decoded), record=run.layout.set_record, parts=parts)
    run.written = written


def _about(config: MatchingConfig, run: MatchRun, decoded: ClassFiles) -> dict[str, Any]:
    """What the manifest says of where the set comes from."""
    plain = config.to_dict()
    settings = {f"ipc{ipc}": config.matching(ipc) for ipc in config.ipc}
    formation = {
        name: {"factor": one.factor, "decoder": one.decoder, "bound": one.max_synthetic}
        for name, one in settings.items()
        if one.factor > 1
    }
    return {
        "name": config.name,
        "method": config.row.upper(),
        "generator": "match",
        "size": config.side,
        "channels": config.depth,
        "codec": {"name": "none", "sha256": "none", "channels": config.depth},
        "seed": config.seed,
        "config": {
            **{key: plain[key] for key in IDENTITY},
            **{key: plain[key] for key in IF_GIVEN if plain[key] is not None},
            "matching": {name: one.to_dict() for name, one in settings.items()},
        },
        **({"formation": formation} if formation else {}),
        "source": {
            "uri": public_uri(config.data),
            "sha256": files.digest([facts["content"] for facts in decoded.facts]),
            "quarantined": len(run.bad),
        },
        "raycond": __version__,
    }
