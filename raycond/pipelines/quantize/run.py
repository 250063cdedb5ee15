"""The quantization of an image set: configuration in, files out. See `method_names.quantized_kind` for what it is."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Collection
from typing import Any

from raycond import __version__
from raycond.core import files
from raycond.core.errors import UserError, named
from raycond.data import quarantine
from raycond.data.classes import require_same
from raycond.data.encoded import unpack
from raycond.data.holdout import hold_out
from raycond.data.quarantine import BadRecord, Limit
from raycond.data.sources import Source
from raycond.evaluate import protocol, table
from raycond.evaluate.method_names import D4M, DDOQ, MGD3, quantized_kind
from raycond.methods.quantize import codebook_file
from raycond.models.codecs.base import Codec
from raycond.models.codecs.registry import open_codec
from raycond.models.generators.base import Description
from raycond.models.generators.own_size import own_size
from raycond.models.generators.registry import GENERATORS, describe
from raycond.models.students import build
from raycond.pipelines.layout import Layout
from raycond.pipelines.prepare import decoding, source_options, training_source, with_validation
from raycond.pipelines.quantize.condense import condense_classes
from raycond.pipelines.quantize.config import QuantizeConfig
from raycond.pipelines.quantize.evaluation import evaluate
from raycond.pipelines.quantize.summary import CodecFacts, QuantizeRun, build_report
from raycond.pipelines.quantize.units import WorkerSpec, images_fingerprint
from raycond.pipelines.run_folder import at_work
from raycond.pipelines.stages.autoencoder import codec_label, trained_codec
from raycond.pipelines.stages.condensed import public_uri, write_set
from raycond.pipelines.stages.listing import listings, require_enough_images, source_digest
from raycond.pipelines.stages.overlap import require_unseen
from raycond.report import write_report
from raycond.runtime.open import open_runner
from raycond.runtime.runner import Runner
from raycond.sets.manifest import read_manifest
from raycond.sets.writer import ClassPart, SetWriter

# what the condensed set depends on; the rest (where, with how many actors, how evaluated) must not change its bytes
IDENTITY = (
    *("size", "output_size", "resize", "ipc", "quantizer", "restarts", "weights", "image_format", "posterior", "dtype"),
    *("limit", "classes", "seed", "image_column", "label_column", "max_pixels", "batch", "cpus_per_actor"),
    "autoencoder",
)


# options that came later, and what they were before: they are told where they differ, so that sets keep their bytes
SINCE = {"val_share": None, "max_value": None, "interpolation": "bicubic"}


def prepare(config: QuantizeConfig, index_dir: str | None = None) -> QuantizeRun:
    """Open and check everything that can be checked before heavy work, the cheap things first.

    index_dir: where sources that need an index find or make it; by default inside the run folder. Raises UserError,
    ClassMismatch.
    """
    layout = Layout(config.out, config.work)
    options = source_options(config, index_dir or layout.index)
    source = training_source(config, options["index_dir"])
    val = None
    if config.evaluate:
        source, val = with_validation(source, config.data, config.val, config.val_share, config.seed, options)
    elif config.val_share is not None:
        source, _ = hold_out(source, config.val_share, config.seed)
    if files.exists(files.join(layout.condensed, "manifest.json")):
        _require_same_set(layout, source)
    codec = _check_options(config)
    diffusion = None
    if codec is not None:  # a generator with weights is of one codec, which is there
        diffusion = describe(
            config.generator, options=config.diffusion, classes=source.classes, codec=codec, size=config.size
        )
    _warn_of_size(config)
    return QuantizeRun(layout, source, val, _codec_facts(config, config.codec, codec) if codec else None, diffusion)


def _warn_of_size(config: QuantizeConfig) -> None:
    """Say so where a diffusion model is to make images of another size than it was made for."""
    kind, where = GENERATORS.parse(config.generator)
    own = own_size(where) if kind.own_codec else None
    if own is not None and own != config.size:
        print(
            f"WARNING    --size {config.size}: {config.generator} was made for images of {own} pixels and makes worse "
            f"ones at another size; leave --size out, and give --output-size {config.size} to store them so",
            file=sys.stderr,
        )


def _check_options(config: QuantizeConfig) -> Codec | None:
    """Check what needs no data; open the codec unless it is to be trained."""
    if config.evaluate:
        with named("--protocol"):
            if protocol.preset(config.protocol).needs_labeler:
                raise UserError(f"{config.protocol} learns soft labels; make the set, then use evaluate_grid.py")
        for student in config.students:
            with named("--students"):
                build(student, classes=2, size=config.image_size, channels=3)
    if config.codec != "train":
        return _open_codec(config, config.codec)
    assert config.autoencoder is not None  # the configuration checks it
    factor = 2 ** (len(config.autoencoder.widths) - 1)
    if config.size % factor:
        raise UserError(f"--size {config.size}: codec train needs a multiple of {factor}")
    return None


def _open_codec(config: QuantizeConfig, where: str) -> Codec:
    codec = open_codec(where, dtype="float32")
    codec.latent_shape(config.size)
    return codec


def _codec_facts(config: QuantizeConfig, where: str, codec: Codec) -> CodecFacts:
    return CodecFacts(where, codec_label(config.codec, where), codec.digest, codec.channels)


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
    with at_work(config.out, "raycond quantize", verbose=config.verbose, shared=config.work):
        _run(config, run)
    return run


def _run(config: QuantizeConfig, run: QuantizeRun) -> None:
    files.write_json(run.layout.config, config.to_dict())
    with run.timed("start"):
        runner = open_runner(config.runner, config.dashboard)
    try:
        runner.require(config.resources, config.actors, may_grow=True)
        run.machine = runner.describe() | {
            "actors": config.actors or "as many as fit",
            "gpus_per_actor": config.gpus_per_actor,
            "cpus_per_actor": config.cpus_per_actor,
        }
        _stages(config, run, runner)
    finally:
        runner.close()
    if run.manifest:
        with run.timed("report"):
            write_report(run.layout.report, build_report(config, run))


def _stages(config: QuantizeConfig, run: QuantizeRun, runner: Runner) -> None:
    listed = listings(run.source)
    require_enough_images(run.source, listed, config.ipc)
    run.source_bytes = sum(one.bytes for one in listed)
    fingerprints = [one.fingerprint for one in listed]
    if run.val is not None:  # before the work, not at its end
        run.val_digest, run.overlap = require_unseen(
            run.val, run.source, train_digest=source_digest(fingerprints), out=config.out, allow=config.allow_overlap
        )
    if run.codec is None:
        with run.timed("codec"):
            assert config.autoencoder is not None  # the configuration fills it in
            where = trained_codec(
                config.autoencoder,
                run.source,
                decoding(config, config.autoencoder.channels, config.interpolation),
                classes=fingerprints,
                layout=run.layout,
                seed=config.seed,
                resources=config.resources,
                get_runner=lambda: runner,
            )
            run.codec = _codec_facts(config, where, _open_codec(config, where))
    codec = run.codec
    spec = WorkerSpec(config, run.source, codec.where, codec.digest, codec.channels, run.layout, run.diffusion)
    with run.timed("condense"):
        outcome = condense_classes(runner, spec, fingerprints, Limit.parse(config.max_bad))
    run.codebooks, run.retried = outcome.facts, dict(sorted(outcome.retried.items()))
    run.generator, run.medoids, run.decoded = spec.generator, spec.medoids, spec.decoded
    run.computed["condense"] = outcome.computed
    run.failures += [text for _, text in sorted(outcome.errors.items())]
    _quarantine(config, run, outcome.bad, run.images(config.ipc[0]))
    if outcome.errors:
        return
    made_of = {ipc: _made_of(spec, run, spec.generator, ipc) for ipc in config.ipc}
    with run.timed("write"):
        _write_set(config, run, codec, made_of)
    if config.evaluate:
        with run.timed("evaluate"):
            evaluate(config, run, runner, source_digest(fingerprints))
        quarantine.write(run.layout.quarantine, run.bad)
        table.write(run.layout.results, run.rows)


def _quarantine(config: QuantizeConfig, run: QuantizeRun, bad: Collection[BadRecord], good: int) -> None:
    """Write the quarantine with `bad` added. Raises UserError if they are too many beside `good` images."""
    run.bad = sorted({*run.bad, *bad})
    quarantine.write(run.layout.quarantine, run.bad)
    quarantine.require_few(run.layout.quarantine, bad, good, config.max_bad)


def _made_of(spec: WorkerSpec, run: QuantizeRun, kind: str, ipc: int) -> str:
    """Digest of the codebooks and images of one IPC."""
    labels = range(len(run.source.classes))
    return files.digest([images_fingerprint(spec, kind, label, run.codebooks[label, ipc]) for label in labels])


def _write_set(config: QuantizeConfig, run: QuantizeRun, codec: CodecFacts, parts: dict[int, str]) -> None:
    """parts: for each IPC the digest of its codebooks and images."""

    def load(ipc: int, label: int) -> ClassPart:
        stored = codebook_file.read(run.layout.codebook(ipc, label))
        images = unpack(run.layout.images(run.generator, ipc, label))
        return ClassPart(label, images, stored.codebook, stored.medoid_ids)

    writer = SetWriter(run.layout.condensed, run.source.classes, config.ipc, config.weights, config.image_format, load)
    run.manifest, written = write_set(
        writer, _about(config, run, codec), record=run.layout.set_record, parts=sorted(parts.items())
    )
    run.computed["write"] = int(written)


def _about(config: QuantizeConfig, run: QuantizeRun, codec: CodecFacts) -> dict[str, Any]:
    """What the manifest says of where the set comes from."""
    plain = config.to_dict()
    labels = range(len(run.source.classes))
    return {
        "name": config.name,
        "method": _method(config, plain["diffusion"]),
        "generator": run.diffusion.name if run.diffusion else config.generator,
        "size": config.image_size,
        "channels": codec.channels,
        "codec": {"name": codec.name, "sha256": codec.digest, "channels": codec.channels},
        "seed": config.seed,
        "config": {k: plain[k] for k in IDENTITY}
        | {k: plain[k] for k, before in SINCE.items() if plain[k] != before}
        | ({"km_expand": config.km_expand} if config.quantizer == "minibatch" else {}),
        **({"diffusion": _about_diffusion(run.diffusion, plain["diffusion"])} if run.diffusion else {}),
        "source": {
            "uri": public_uri(config.data),
            "sha256": files.digest([run.codebooks[label, config.ipc[0]]["content"] for label in labels]),
            "quarantined": len(run.bad),
        },
        "raycond": __version__,
    }


def _method(config: QuantizeConfig, diffusion: dict[str, Any]) -> str:
    """The published method that this run carries out, in capitals, or what its images are."""
    kind = quantized_kind(
        quantizer=config.quantizer, generator=config.generator, weights=config.weights, diffusion=diffusion
    )
    return kind.upper() if kind in (D4M, DDOQ, MGD3) else kind


def _about_diffusion(found: Description, options: dict[str, Any]) -> dict[str, Any]:
    """The generator's identity, without the folders of this machine. conditions: what each class was made from."""
    told = {k: v for k, v in options.items() if k not in ("batch", "class_map")}
    return {"name": found.name, "sha256": found.digest, "options": told, "conditions": list(found.conditions)}


def plan(config: QuantizeConfig) -> str:
    """What a run would do, having opened and checked everything (`--dry-run`); writes nothing. Raises UserError."""
    with tempfile.TemporaryDirectory(prefix="raycond-") as folder:
        # an index that is there is worth using; a new one would stay in the run folder
        run = prepare(config, None if files.exists(Layout(config.out, config.work).index) else folder)
        listed = listings(run.source)
    counts = [one.images for one in listed]
    lines = [
        f"source    {run.source.description}",
        f"images    {len(counts)} classes, {sum(counts)} images, {min(counts)} to {max(counts)} a class",
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
    try:
        require_enough_images(run.source, listed, config.ipc)
    except UserError as error:
        raise UserError("\n".join([*lines, str(error)])) from error
    return "\n".join(lines)
