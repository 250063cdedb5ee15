"""The pipeline that trains a generator: source → codec → cached latents → DiT → DiTPipeline folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from raycond import __version__
from raycond.core import files, records
from raycond.core.errors import RaycondError, UserError
from raycond.core.progress import Timed
from raycond.data import quarantine
from raycond.data.class_list import read_class_list
from raycond.data.classes import require_same
from raycond.data.sources import Source
from raycond.models.codecs.base import Codec
from raycond.models.codecs.registry import open_codec
from raycond.models.generators.dit_folder import ABOUT, INDEX, save_generator
from raycond.models.generators.dit_network import build_dit
from raycond.models.generators.dit_training import finished
from raycond.pipelines.layout import GeneratorLayout
from raycond.pipelines.on_demand import on_demand
from raycond.pipelines.prepare import decoding, training_source
from raycond.pipelines.run_folder import at_work
from raycond.pipelines.stages.autoencoder import codec_label, trained_codec
from raycond.pipelines.stages.class_files import ClassFiles, make_class_files
from raycond.pipelines.stages.latents import EncodeSpec
from raycond.pipelines.stages.listing import class_fingerprints
from raycond.pipelines.train_generator.config import GeneratorTrainingConfig
from raycond.pipelines.train_generator.job import DitJob
from raycond.runtime.runner import Runner

FORMAT = 1  # of raycond.json


@dataclass
class GeneratorRun(Timed):
    """What a run made. images: that the generator learnt; loss: of the last steps; trained, encoded: what was done
    now (steps or not, classes)."""

    layout: GeneratorLayout
    source: Source
    images: int = 0
    bad: int = 0
    loss: float = 0.0
    encoded: int = 0
    trained: bool = False
    machine: dict[str, Any] = field(default_factory=dict)


def prepare(
    config: GeneratorTrainingConfig, index_dir: str | None = None
) -> tuple[GeneratorLayout, Source, Codec | None]:
    """Open and check all that can be checked before heavy work; the codec is None if it is to be trained.

    index_dir: where sources that need an index find or make it; by default in the run's `work`. Raises UserError,
    ClassMismatch.
    """
    layout = GeneratorLayout(config.out)
    source = training_source(config, index_dir or layout.index)
    codec = None if config.codec == "train" else _codec(config.codec)
    latent = codec.latent_shape(config.size) if codec else _trained_shape(config)
    build_dit(config.dit, latent=latent, classes=len(source.classes), seed=0)
    _require_own(config, source)
    return layout, source, codec


def _require_own(config: GeneratorTrainingConfig, source: Source) -> None:
    """A pipeline that is there already must be of these classes, and one that raycond made."""
    if not files.exists(files.join(config.out, INDEX)):
        return
    if not files.exists(files.join(config.out, ABOUT)):
        raise UserError(f"--out {config.out}: holds a pipeline that raycond did not train; use another --out")
    try:
        made = read_class_list([config.out])[0]
    except UserError:
        return  # damaged: it will be written anew
    if made is not None:
        require_same(source.classes, made, "--data", f"the generator in {config.out} (use another --out)")


def _codec(where: str) -> Codec:
    codec = open_codec(where, dtype="float32")
    if shift := float(getattr(codec, "shift", 0.0)):
        raise UserError(
            f"--codec {where}: its latents are shifted by {shift:g}, which DiTPipeline would not undo; "
            "use an AutoencoderKL with a scaling factor alone, such as stabilityai/sd-vae-ft-mse"
        )
    return codec


def _trained_shape(config: GeneratorTrainingConfig) -> tuple[int, int, int]:
    assert config.autoencoder is not None  # the configuration checks it
    factor = 2 ** (len(config.autoencoder.widths) - 1)
    if config.size % factor:
        raise UserError(f"--size {config.size}: codec train needs a multiple of {factor}")
    return config.autoencoder.latent_channels, config.size // factor, config.size // factor


def train_generator(config: GeneratorTrainingConfig) -> GeneratorRun:
    """Source → codec → latents → training → the DiTPipeline folder `config.out`, each only where missing or stale.

    A rerun with the same configuration goes on from the last checkpoint; on one worker the result has the same bytes.
    Raises UserError for bad input, RaycondError where a class cannot be encoded or the training fails.
    """
    layout, source, codec = prepare(config)
    run = GeneratorRun(layout, source)
    with at_work(config.out, "raycond train-generator", verbose=config.verbose):
        _run(config, run, codec)
    return run


def _run(config: GeneratorTrainingConfig, run: GeneratorRun, codec: Codec | None) -> None:
    layout, source = run.layout, run.source
    fingerprints = class_fingerprints(source)
    with on_demand(config, run) as runner:
        where = config.codec
        if codec is None:
            assert config.autoencoder is not None  # the configuration fills it in
            with run.timed("codec"):
                where = trained_codec(
                    config.autoencoder,
                    source,
                    decoding(config, config.autoencoder.channels),
                    classes=fingerprints,
                    layout=layout,
                    seed=config.seed,
                    resources=config.resources,
                    get_runner=runner,
                )
            codec = _codec(where)
        with run.timed("encode"):
            encoded = make_class_files(runner, _encode_spec(config, source, layout, where, codec), fingerprints)
        run.images, run.encoded = encoded.images, encoded.computed
        _quarantine(config, run, encoded)
        _train(config, run, runner, codec, encoded)


def _encode_spec(
    config: GeneratorTrainingConfig, source: Source, layout: GeneratorLayout, where: str, codec: Codec
) -> EncodeSpec:
    return EncodeSpec(
        source,
        layout.latents,
        where,
        codec.digest,
        decoding(config, codec.channels),
        dtype=config.dtype,
        batch=config.batch_encode,
        posterior=config.posterior,
        seed=config.seed,
        flip=config.flip,
        threads=config.decode_threads or config.cpus_per_worker + 1,
        resources=config.resources,
    )


def _quarantine(config: GeneratorTrainingConfig, run: GeneratorRun, encoded: ClassFiles) -> None:
    run.bad = len(encoded.bad)
    quarantine.update(run.layout.quarantine, encoded.bad)
    quarantine.require_few(run.layout.quarantine, encoded.bad, encoded.images, config.max_bad)


def _train(
    config: GeneratorTrainingConfig,
    run: GeneratorRun,
    runner: Callable[[], Runner],
    codec: Codec,
    encoded: ClassFiles,
) -> None:
    """Train and write the folder, unless a valid record says that this has been done."""
    settings = config.to_dict()["dit"]
    training = records.fingerprint(
        stage="generator", settings=settings, latents=encoded.digest, labels=len(encoded.facts), seed=config.seed
    )
    about = _about(config, run, codec, encoded)
    expected = records.fingerprint(training=training, about=about, classes=run.source.classes.to_dict())
    found = records.find(run.layout.record, expected)
    if found is not None and records.all_whole(config.out, found["files"]):
        run.loss = found["loss"]
        return
    job = DitJob(
        run.layout.training(training),
        config.dit,
        encoded.found,
        len(run.source.classes),
        config.seed,
        config.cpus_per_worker,
        config.checkpoint_every,
    )
    with run.timed("train"):
        runner().train(job, config.resources, workers=config.workers)
        weights, curve = finished(job.state())
        if curve[-1][0] != config.dit.steps:
            raise RaycondError(f"the training ended after {curve[-1][0]} of {config.dit.steps} steps; run it again")
    run.trained, run.loss = True, curve[-1][1]
    with run.timed("write"):
        files.sweep(config.out)
        names = save_generator(
            config.out,
            config=config.dit,
            latent=encoded.found.shape,
            weights=weights,
            vae=codec._model,  # type: ignore[attr-defined]
            classes=run.source.classes,
            about={**about, "loss": curve, "trained_on": _machine(config, runner())},
        )
        listed = {name: records.measured(files.join(config.out, name)) for name in names}
        records.finish(run.layout.record, expected, None, loss=run.loss, files=listed)


def _machine(config: GeneratorTrainingConfig, runner: Runner) -> dict[str, Any]:
    """What the last bits of the weights depend on, beside the configuration."""
    workers = config.workers if config.runner == "ray" else 1
    return {"workers": workers, "device": runner.device(config.resources), "threads": config.cpus_per_worker}


def _about(config: GeneratorTrainingConfig, run: GeneratorRun, codec: Codec, encoded: ClassFiles) -> dict[str, Any]:
    """What raycond.json says, without the addresses of this machine: a generator is made to be given away."""
    plain = config.to_dict()
    kept = ("size", "resize", "flip", "posterior", "dtype", "limit", "seed", "batch_encode", "dit", "autoencoder")
    local = files.is_local(config.data) and not config.data.endswith(":")
    return {
        "format": FORMAT,
        "name": config.name,
        "kind": "dit",
        "source": {
            "uri": files.absolute(config.data).rpartition("/")[2] if local else config.data,
            "sha256": files.digest([facts["content"] for facts in encoded.facts]),
            "images": encoded.images,
            "quarantined": run.bad,
        },
        "codec": {
            "name": codec_label(config.codec, config.codec),
            "sha256": codec.digest,
            "channels": codec.channels,
            "factor": codec.factor,
        },
        "latent_shape": list(encoded.found.shape),
        "classes": len(run.source.classes),
        "config": {name: plain[name] for name in kept},
        "raycond": __version__,
    }
