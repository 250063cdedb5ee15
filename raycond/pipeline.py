"""The pipelines: configuration in, files out. `quantize` is DDOQ with D4M as its uniform-weight twin."""

from __future__ import annotations

import os
from typing import Any

from raycond import __version__, files
from raycond.config import QuantizeConfig
from raycond.data import quarantine
from raycond.data.classes import require_same
from raycond.data.quarantine import Limit
from raycond.data.sources import Source, open_source
from raycond.errors import UserError
from raycond.evaluate import protocol, table
from raycond.generate.images import unpack
from raycond.latents.codec import open_codec
from raycond.networks import build
from raycond.quantize import store
from raycond.report import write_report
from raycond.runtime import records
from raycond.runtime.autoencoder import codec_label, trained_codec
from raycond.runtime.evaluation import Evaluation, source_digest
from raycond.runtime.layout import Layout
from raycond.runtime.local import LocalRunner, Runner
from raycond.runtime.stages import (
    StageOutcome,
    bad_images,
    check_limit,
    class_fingerprints,
    condense_classes,
)
from raycond.runtime.units import WorkerSpec, images_fingerprint
from raycond.sets.manifest import read_manifest
from raycond.sets.writer import ClassPart, SetWriter
from raycond.summary import QuantizeRun, build_report

# what the condensed set depends on; the rest (where, with how many actors, how evaluated) must not change its bytes
IDENTITY = (
    *("size", "resize", "ipc", "quantizer", "restarts", "weights", "generator", "image_format", "posterior", "dtype"),
    *("limit", "classes", "seed", "image_column", "label_column", "max_pixels", "batch", "cpus_per_actor"),
    "autoencoder",
)


def prepare(config: QuantizeConfig) -> QuantizeRun:
    """Open and check everything that can be checked before heavy work. Raises UserError, ClassMismatch."""
    layout = Layout(config.out)
    Limit.parse(config.max_bad)
    options: dict[str, Any] = {"index_dir": layout.index, "max_classes": config.classes}
    columns: dict[str, Any] = {"image_column": config.image_column, "label_column": config.label_column}
    source = open_source(config.data, split="train", limit=config.limit, **options, **columns)
    val = None
    if config.evaluate:
        protocol.preset(config.protocol)
        for student in config.students:
            build(student, classes=len(source.classes), size=config.size, channels=3)
        val = _open_val(config, source, options | columns)
    if files.exists(files.join(layout.condensed, "manifest.json")):
        _require_same_set(layout, source)
    return QuantizeRun(layout, source, val)


def _open_val(config: QuantizeConfig, source: Source, options: dict[str, Any]) -> Source:
    if config.val:
        val = open_source(config.val, split="val", **options)
        require_same(source.classes, val.classes, "--data", "--val")
        return val
    try:
        return open_source(config.data, split="val", classes=source.classes, **options)
    except UserError as error:
        raise UserError(f"evaluation needs validation images: give --val URI, or --no-evaluate ({error})") from error


def _require_same_set(layout: Layout, source: Source) -> None:
    try:
        classes = read_manifest(layout.condensed).classes
    except UserError:
        return  # of another format: it will be written anew
    require_same(source.classes, classes, "--data", f"the manifest of {layout.condensed} (use another --out)")


def quantize(config: QuantizeConfig) -> QuantizeRun:
    """Source → codebooks → images → condensed set → accuracies → report, each part only where missing or stale.

    A rerun with the same configuration resumes; the result has the same bytes. Raises UserError for bad input; what
    fails on the way (a class, a training) is in `failures`, and everything else is made.
    """
    run = prepare(config)
    files.write_json(run.layout.config, config.to_dict())
    with run.timed("start"):
        runner = make_runner(config)
    try:
        run.machine = runner.describe()
        _stages(config, run, runner)
    finally:
        runner.close()
    if run.manifest:
        with run.timed("report"):
            write_report(run.layout.report, build_report(config, run))
    return run


def make_runner(config: QuantizeConfig) -> Runner:
    if config.runner == "local":
        return LocalRunner(config)
    from raycond.runtime.cluster import RayRunner

    return RayRunner(config)


def _stages(config: QuantizeConfig, run: QuantizeRun, runner: Runner) -> None:
    fingerprints = class_fingerprints(run.source)
    with run.timed("codec"):
        spec, about_codec = _codec(config, run, fingerprints)
    with run.timed("condense"):
        kinds = {config.generator} | ({"medoid"} if config.evaluate and "medoid" in config.methods else set())
        outcome = condense_classes(runner, spec, fingerprints, sorted(kinds), Limit.parse(config.max_bad))
    run.codebooks = outcome.facts
    run.computed["condense"] = outcome.computed
    _account(config, run, outcome)
    if outcome.errors:
        return
    with run.timed("write"):
        _write_set(config, run, spec, about_codec)
    if config.evaluate:
        with run.timed("evaluate"):
            _evaluate(config, run, runner, spec, fingerprints)


def _codec(config: QuantizeConfig, run: QuantizeRun, fingerprints: list[str]) -> tuple[WorkerSpec, dict[str, Any]]:
    where = config.codec
    if where == "train":
        where = trained_codec(config, run.source, fingerprints, run.layout, "cpu")
    codec = open_codec(where, dtype="float32")
    codec.latent_shape(config.size)
    about = {"name": codec_label(config, where), "sha256": codec.digest, "channels": codec.channels}
    return WorkerSpec(config, run.source, where, codec.digest, codec.channels, run.layout), about


def _account(config: QuantizeConfig, run: QuantizeRun, outcome: StageOutcome) -> None:
    """Write the quarantine, hold the limit, and turn failed classes into failures."""
    run.bad = sorted({*run.source.bad, *bad_images(outcome.facts)})
    quarantine.write(run.layout.quarantine, run.bad)
    check_limit(run.bad, run.images(config.ipc[0]), Limit.parse(config.max_bad))
    run.failures += [f"class {run.source.classes.ids[k]}: {text}" for k, text in sorted(outcome.errors.items())]


def _made_of(spec: WorkerSpec, generator: str, ipc: int) -> str:
    """Digest of the codebooks and images of one IPC."""
    return files.digest([images_fingerprint(spec, generator, ipc, k) for k in range(len(spec.source.classes))])


def _write_set(config: QuantizeConfig, run: QuantizeRun, spec: WorkerSpec, codec: dict[str, Any]) -> None:
    plain = config.to_dict()
    made_of = {str(ipc): _made_of(spec, config.generator, ipc) for ipc in config.ipc}
    about = {
        "name": config.name,
        "method": "D4M" if config.weights == "uniform" else "DDOQ",
        "generator": config.generator,
        "size": config.size,
        "channels": codec["channels"],
        "codec": codec,
        "seed": config.seed,
        "config": {k: plain[k] for k in IDENTITY},
        "source": {
            "uri": _public(config.data),
            "sha256": files.digest(
                [f["content"] for (_, ipc), f in sorted(run.codebooks.items()) if ipc == config.ipc[0]]
            ),
            "quarantined": len(run.bad),
        },
        "raycond": __version__,
    }
    output = run.layout.condensed
    record = files.join(config.out, "work", "set")
    expected = records.fingerprint(stage="set", about=about, classes=run.source.classes.to_dict(), made_of=made_of)
    found = records.find(record, expected)
    manifest = files.join(output, "manifest.json")
    if found is not None and files.exists(manifest):
        data = files.read_bytes(manifest)
        if files.sha256(data) == found["manifest"] and _all_there(output):
            run.manifest = read_manifest(output).content
            run.computed["write"] = 0
            return

    def load(ipc: int, label: int) -> ClassPart:
        stored = store.read(run.layout.codebook(ipc, label))
        return ClassPart(
            label, unpack(run.layout.images(config.generator, ipc, label)), stored.codebook, stored.medoid_ids
        )

    writer = SetWriter(output, run.source.classes, config.ipc, config.weights, config.image_format, load)
    run.manifest = writer.write(about)
    run.computed["write"] = 1
    records.finish(record, expected, None, manifest=files.sha256(files.read_bytes(manifest)))


def _all_there(folder: str) -> bool:
    try:
        listed = read_manifest(folder).files
        return all(files.entry(files.join(folder, n)).size == f["bytes"] for n, f in listed.items())
    except OSError:
        return False


def _public(uri: str) -> str:
    """The address without the folders of this machine: a set is made to be given away."""
    return os.path.basename(uri.rstrip("/")) if files.is_local(uri) and not uri.endswith(":") else uri


def _evaluate(
    config: QuantizeConfig, run: QuantizeRun, runner: Runner, spec: WorkerSpec, fingerprints: list[str]
) -> None:
    assert run.val is not None
    evaluation = Evaluation(
        config=config,
        layout=run.layout,
        source=run.source,
        val=run.val,
        channels=spec.channels,
        protocol=protocol.preset(config.protocol),
        device="cuda" if run.machine.get("device") == "cuda" or run.machine.get("gpus_per_actor") else "cpu",
        source_digest=source_digest(fingerprints),
        val_digest=source_digest(class_fingerprints(run.val)),
        identity=lambda generator, ipc: _made_of(spec, generator, ipc),
    )
    run.rows, failures, bad = evaluation.run(runner)
    run.failures += failures
    run.bad = sorted({*run.bad, *bad})
    quarantine.write(run.layout.quarantine, run.bad)
    table.write(run.layout.results, run.rows)


def plan(config: QuantizeConfig) -> str:
    """What a run would do, having opened and checked everything (`--dry-run`). Raises UserError."""
    run = prepare(config)
    counts = [len(run.source.refs(label)) for label in range(len(run.source.classes))]
    short = [run.source.classes.ids[k] for k, n in enumerate(counts) if n < max(config.ipc)]
    lines = [
        f"source    {config.data}: {len(counts)} classes, {sum(counts)} images, {min(counts)} to {max(counts)} a class",
        f"encode    {config.codec}, {config.size} px, {config.resize}",
        f"quantize  {config.quantizer}, IPC {', '.join(map(str, config.ipc))}, weights {config.weights}",
        f"generate  {config.generator}, {sum(config.ipc) * len(counts)} images",
    ]
    if config.evaluate:
        cells = len([m for m in config.methods if m != "full"]) * len(config.ipc) + ("full" in config.methods)
        lines.append(
            f"evaluate  {cells * len(config.students) * len(config.seeds)} trainings: {' '.join(config.methods)}, "
            f"students {' '.join(config.students)}, seeds {' '.join(map(str, config.seeds))}, {config.protocol}"
        )
    lines.append(f"out       {config.out}")
    if short:
        raise UserError(
            "\n".join(lines) + f"\nIPC {max(config.ipc)} is more than the images of: {', '.join(short[:10])}"
        )
    return "\n".join(lines)
