"""The pipeline that fits a label projector: source → pixels → (CLIP) → (weak teachers) → fit → projector folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from raycond import __version__
from raycond.core import files, records
from raycond.core.errors import UserError, named
from raycond.core.progress import Timed
from raycond.core.seeds import seeded
from raycond.data import quarantine
from raycond.data.classes import require_same
from raycond.data.sources import Source
from raycond.labels.projector.clip_training import ClipTraining, model_config, tokens, weights
from raycond.labels.projector.delta import ABOUT, read_projector, save_projector
from raycond.labels.projector.fitting import Check, Fitted, Rounding, finished, rounding_of
from raycond.labels.projector.network import ProjectorOptions, check_clip
from raycond.labels.projector.options import TRAIN
from raycond.labels.projector.prompts import IMAGENET, TEMPLATES, class_texts, templates_of
from raycond.labels.projector.weak_teachers import checkpoint, identities, kept_steps, spec_of
from raycond.models import students
from raycond.models.clip import describe_clip, save_clip
from raycond.pipelines.fit_projector.config import ProjectorConfig
from raycond.pipelines.fit_projector.jobs import ClipJob, FitJob, Learnt, TeacherJob
from raycond.pipelines.layout import ProjectorLayout
from raycond.pipelines.on_demand import on_demand
from raycond.pipelines.prepare import decoding, training_source
from raycond.pipelines.run_folder import at_work
from raycond.pipelines.stages.class_files import ClassFiles, make_class_files
from raycond.pipelines.stages.listing import class_fingerprints
from raycond.pipelines.stages.pixels import PixelSpec
from raycond.runtime.job import TrainingJob
from raycond.runtime.resources import Resources
from raycond.runtime.runner import Runner
from raycond.training.augment import drawn

GetRunner = Callable[[], Runner]
ROUNDING_CLASSES, ROUNDING_IMAGES = 8, 64  # at most, that show what rounding the delta changes


@dataclass
class ProjectorRun(Timed):
    """What a run made. images: decoded, held-out ones too. trained: the stages that were carried out now, of clip,
    teachers and fit. clip: name and digest. teachers: what opens each. start, best: how the projector did before the
    fit and at its best; rounding: what `dtype` then changes. parameters: of the delta; base_bytes: of CLIP's file."""

    layout: ProjectorLayout
    source: Source
    images: int = 0
    bad: int = 0
    decoded: int = 0
    trained: list[str] = field(default_factory=list)
    clip: tuple[str, str] = ("", "")
    teachers: tuple[str, ...] = ()
    start: Check | None = None
    best: Check | None = None
    rounding: Rounding | None = None
    steps: int = 0
    parameters: int = 0
    base_bytes: int = 0
    machine: dict[str, Any] = field(default_factory=dict)


def options_of(config: ProjectorConfig) -> ProjectorOptions:
    """What the projector is told. Raises UserError."""
    return ProjectorOptions(
        conv_rank=config.conv_rank,
        head_rank=config.head_rank,
        head=config.head,
        layout=config.layout,
        templates=_templates(config.templates),
        seed=config.seed,
    )


def _templates(given: Sequence[str]) -> tuple[str, ...]:
    found = templates_of(given)
    if found is None:
        names = ", ".join((*TEMPLATES, IMAGENET))
        raise UserError(f"--templates: expected {names}, or texts with one {{}} for the class's name each")
    return found


def prepare(config: ProjectorConfig) -> tuple[ProjectorLayout, Source]:
    """Open and check all that can be checked before heavy work. Raises UserError, ClassMismatch."""
    layout = ProjectorLayout(config.out)
    options = options_of(config)
    source = training_source(config, layout.index)
    if config.head != "scratch" or config.clip == TRAIN:
        texts = class_texts(source.classes, options.templates)
        if config.clip_training is not None and config.clip == TRAIN:
            tokens(texts, model_config(config.clip_training))
    if config.clip != TRAIN:
        with named("--clip"):
            check_clip(config.clip, config.layout if config.conv_rank else None, texts=config.head != "scratch")
    if config.teachers == (TRAIN,):
        with named("--teacher-network"), seeded(0):
            students.build(
                config.teacher.network, classes=len(source.classes), size=config.size, channels=config.channels
            )
    elif config.teachers != ("none",):
        with named("--teachers"):
            identities(config.teachers, source.classes)
    if files.exists(files.join(config.out, ABOUT)):
        _require_own(config, source)
    return layout, source


def _require_own(config: ProjectorConfig, source: Source) -> None:
    """A projector that is there already must be of these classes."""
    try:
        made = read_projector(config.out).classes
    except UserError:
        return  # damaged: it will be written anew
    require_same(source.classes, made, "--data", f"the projector in {config.out} (use another --out)")


def fit_projector(config: ProjectorConfig) -> ProjectorRun:
    """Source → pixels → CLIP and teachers where they are to be trained → fit → the folder `config.out`, each only
    where missing or stale.

    A rerun with the same configuration goes on from the last checkpoint; on one worker the result has the same bytes.
    Raises UserError for bad input, RaycondError where a class cannot be decoded or a training fails.
    """
    layout, source = prepare(config)
    run = ProjectorRun(layout, source)
    with at_work(config.out, "raycond fit-projector", verbose=config.verbose):
        _run(config, run)
    return run


def _run(config: ProjectorConfig, run: ProjectorRun) -> None:
    layout, source = run.layout, run.source
    fingerprints = class_fingerprints(source)
    with on_demand(config, run) as runner:
        with run.timed("decode"):
            decoded = make_class_files(runner, _pixel_spec(config, source, layout), fingerprints)
        run.images, run.decoded = decoded.images, decoded.computed
        _quarantine(config, run, decoded)
        learnt = Learnt(decoded.found, config.holdout, config.seed)
        if config.teachers == (TRAIN,):
            kept_steps(config.teacher, learnt.count)  # before a CLIP is trained
        clip = _clip(config, run, runner, learnt, decoded.digest)
        run.clip = describe_clip(clip)
        run.teachers = _teachers(config, run, runner, learnt, decoded.digest)
        _fit(config, run, runner, learnt, decoded, clip)


def _pixel_spec(config: ProjectorConfig, source: Source, layout: ProjectorLayout) -> PixelSpec:
    return PixelSpec(
        source,
        layout.pixel_files,
        decoding(config, config.channels),
        threads=config.decode_threads or config.cpus_per_worker + 1,
        resources=Resources(config.cpus_per_worker),
    )


def _quarantine(config: ProjectorConfig, run: ProjectorRun, decoded: ClassFiles) -> None:
    run.bad = len(decoded.bad)
    quarantine.update(run.layout.quarantine, decoded.bad)
    quarantine.require_few(run.layout.quarantine, decoded.bad, decoded.images, config.max_bad)


def _clip(config: ProjectorConfig, run: ProjectorRun, runner: GetRunner, learnt: Learnt, pixels: str) -> str:
    """What `open_clip_model` takes: a model of the user's, or one trained here, unless a valid record says it was."""
    if config.clip != TRAIN:
        return config.clip
    settings = config.clip_training
    assert settings is not None  # the configuration checks it
    layout, texts = run.layout, class_texts(run.source.classes, options_of(config).templates)
    expected = records.fingerprint(
        stage="clip",
        settings=config.to_dict()["clip_training"],
        pixels=pixels,
        held_out=config.holdout,
        texts=texts,
        seed=config.seed,
        **drawn(settings.scale),
    )
    found = records.find(layout.clip_record, expected)
    if found is not None and records.all_whole(layout.clip, found["files"]):
        return layout.clip
    job = ClipJob(
        *(layout.training("clip", expected), settings, learnt, tuple(map(tuple, texts))),
        *(config.cpus_per_worker, config.checkpoint_every),
    )
    _train(config, run, runner, job, "clip")
    training: ClipTraining = job.open("cpu", 0, 1)
    colours = (3 // len(training.mean)) if len(training.mean) == 1 else 1
    name = f"{config.name}-{settings.tower}"
    names = save_clip(
        *(layout.clip, model_config(settings), weights(job.state())),
        name=name,
        mean=training.mean * colours,
        std=training.std * colours,
    )
    _record(layout.clip_record, expected, layout.clip, names)
    return layout.clip


def _teachers(
    config: ProjectorConfig, run: ProjectorRun, runner: GetRunner, learnt: Learnt, pixels: str
) -> tuple[str, ...]:
    """What `open_teacher` takes, of each teacher; their checkpoints are made unless a valid record says they are."""
    if config.teachers == ("none",):
        return ()
    if config.teachers != (TRAIN,):
        return config.teachers
    expected = records.fingerprint(
        stage="teachers",
        settings=config.to_dict()["teacher"],
        pixels=pixels,
        held_out=config.holdout,
        seed=config.seed,
        **drawn(config.teacher.scale),
    )
    folder = run.layout.teachers(expected)
    names = [checkpoint("", epoch).lstrip("/") for epoch in config.teacher.keep]
    found = records.find(run.layout.teachers_record, expected)
    if found is None or not records.all_whole(folder, found["files"]):
        job = TeacherJob(
            *(run.layout.training("teachers", expected), config.teacher, learnt, folder),
            *(config.cpus_per_worker, config.checkpoint_every),
        )
        if found is not None:  # a finished training would not write its checkpoints again
            files.delete(job.place)
        _train(config, run, runner, job, "teachers")
        training = job.open("cpu", 0, 1)
        found = _record(
            *(run.layout.teachers_record, expected, folder, names), mean=list(training.mean), std=list(training.std)
        )
    return tuple(
        spec_of(config.teacher.network, files.join(folder, name), config.size, found["mean"], found["std"])
        for name in names
    )


def _train(config: ProjectorConfig, run: ProjectorRun, get_runner: GetRunner, job: TrainingJob, stage: str) -> None:
    runner = get_runner()
    with run.timed(stage):
        runner.train(job, config.resources, workers=config.workers, stage=stage)
    run.trained.append(stage)


def _record(record: str, expected: str, folder: str, names: Sequence[str], **facts: Any) -> dict[str, Any]:
    listed = {name: records.measured(files.join(folder, name)) for name in names}
    return records.finish(record, expected, None, files=listed, **facts)


def _fit(
    config: ProjectorConfig, run: ProjectorRun, runner: GetRunner, learnt: Learnt, decoded: ClassFiles, clip: str
) -> None:
    """Fit and write the folder, unless a valid record says that this has been done."""
    options, classes = options_of(config), run.source.classes
    taught = identities(run.teachers, classes)
    training = records.fingerprint(
        stage="fit",
        settings=config.to_dict()["fit"],
        clip=run.clip[1],
        options=options.to_dict(),
        classes=classes.to_dict(),
        teachers=[one["sha256"] for one in taught],
        pixels=decoded.digest,
        held_out=config.holdout,
        seed=config.seed,
        **drawn(config.fit.scale),
    )
    about = _about(config, run, taught, decoded)
    expected = records.fingerprint(training=training, about=about, dtype=config.dtype)
    found = records.find(run.layout.record, expected)
    if found is None or not records.all_whole(config.out, found["files"]):
        job = FitJob(
            *(run.layout.training("fit", training), config.fit, learnt, classes, clip, options, run.teachers),
            *(config.cpus_per_worker, config.checkpoint_every),
        )
        _train(config, run, runner, job, "fit")
        with run.timed("write"):
            found = _write(config, run, job, finished(job.state()), about, expected)
    run.start, run.best = Check(**found["start"]), Check(**found["best"])
    run.rounding = Rounding(**found["rounding"])
    run.steps, run.parameters, run.base_bytes = found["steps"], found["parameters"], found["base_bytes"]


def _write(
    config: ProjectorConfig, run: ProjectorRun, job: FitJob, fitted: Fitted, about: dict[str, Any], expected: str
) -> dict[str, Any]:
    files.sweep(config.out)
    projector = job.projector("cpu")
    rounding = rounding_of(projector, fitted.delta, config.dtype, job.learnt.some(ROUNDING_CLASSES, ROUNDING_IMAGES))
    projector.load_delta(fitted.delta)
    told = {
        **about,
        "steps": fitted.steps,
        "loss": fitted.curve,
        "checks": [asdict(check) for check in fitted.checks],
        "kept": asdict(fitted.best),
        "rounding": asdict(rounding),
    }
    names = save_projector(config.out, projector, config.dtype, told)
    return _record(
        *(run.layout.record, expected, config.out, names),
        start=asdict(fitted.checks[0]),
        best=asdict(fitted.best),
        rounding=asdict(rounding),
        steps=fitted.steps,
        parameters=projector.count,
        base_bytes=projector.clip.bytes,
    )


def _about(
    config: ProjectorConfig, run: ProjectorRun, taught: list[dict[str, Any]], decoded: ClassFiles
) -> dict[str, Any]:
    """What projector.json says, without the addresses of this machine: a projector is made to be given away."""
    plain = config.to_dict()
    kept = ("size", "resize", "channels", "limit", "holdout", "seed", "fit")
    local = files.is_local(config.data) and not config.data.endswith(":")
    return {
        "name": config.name,
        "source": {
            "uri": files.absolute(config.data).rpartition("/")[2] if local else config.data,
            "sha256": files.digest([facts["content"] for facts in decoded.facts]),
            "images": decoded.images,
            "quarantined": run.bad,
        },
        "teachers": taught,
        "config": {name: plain[name] for name in kept},
        **({"teacher": plain["teacher"]} if config.teachers == (TRAIN,) else {}),
        **({"clip_training": plain["clip_training"]} if config.clip == TRAIN else {}),
        "raycond": __version__,
    }
