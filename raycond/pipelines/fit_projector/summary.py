"""What a projector's fit says at its end, and before it begins."""

from __future__ import annotations

from raycond.core import files
from raycond.labels.projector.delta import ABOUT, DELTA, read_projector
from raycond.labels.projector.options import TRAIN
from raycond.labels.stored import sizes
from raycond.pipelines.fit_projector.config import ProjectorConfig
from raycond.pipelines.fit_projector.run import ProjectorRun, options_of, prepare


def bytes_table(config: ProjectorConfig, run: ProjectorRun) -> str:
    """What the labels of a set with `config.ipc` images per class weigh, each kind, and the paper's own ratio."""
    classes = len(run.source.classes)
    images = config.ipc * classes
    stored = sum(files.entry(files.join(config.out, name)).size for name in (DELTA, ABOUT))
    shipped = sizes.Projector(
        *(run.parameters, config.dtype, stored, f"{run.clip[0]}, both towers", run.base_bytes),
        base_note=sizes.base_note(read_projector(config.out).spec),
    )
    amounts = sizes.table(images, classes, top_k=sizes.few_classes(classes), projector=shipped)
    return sizes.markdown(amounts, paper=sizes.paper_ratio(run.parameters, images, classes))


def summary(config: ProjectorConfig, run: ProjectorRun) -> str:
    """What was made, how well it agrees with its teachers, what it weighs and how to use it."""
    assert run.start is not None  # a run that ended has been checked
    assert run.best is not None
    out, start, best = run.layout.out, run.start, run.best
    count = len(run.teachers)
    taught = f"{count} teacher{'s' * (count > 1)}" if count else "the labels"
    begun = "an empty head" if config.head == "scratch" else "CLIP alone"
    lines = [
        f"projector  {out}: {run.parameters:,} parameters on {run.clip[0]}, {len(run.source.classes)} classes",
        f"agreement  with {taught} on held-out images: {start.agreement:.1f} % before, {best.agreement:.1f} % after "
        f"{best.step} of {run.steps} steps (KL {start.kl:.3f} to {best.kl:.3f})",
        f"accuracy   of the labels there: {begun} {start.accuracy:.1f} %, teachers {start.teachers:.1f} %, "
        f"projector {best.accuracy:.1f} %",
    ]
    rounding = run.rounding
    if rounding is not None and config.dtype != "float32":
        lines.append(
            f"rounding   to {config.dtype} changes the first class of {rounding.changed:.1f} % of {rounding.images} "
            f"images (KL {rounding.kl:.2g})"
        )
    if run.bad:
        lines.append(f"left out   {run.bad} images that cannot be read")
    if not run.trained:
        lines.append("           nothing to do: it was fitted already")
    use = f"--labeler projector:{out}"
    if read_projector(out).spec is None:  # a folder of this machine, which the projector does not name
        use += f",clip={config.clip}"
    lines += [f"seconds    {run.times}", "", bytes_table(config, run), f"use        {use}"]
    return "\n".join(lines)


def plan(config: ProjectorConfig) -> str:
    """What a run would do, having opened and checked everything (`--dry-run`). Raises UserError."""
    _, source = prepare(config)
    counts = [len(source.refs(label)) for label in range(len(source.classes))]
    weight = sum(counts) * config.channels * config.size**2
    options = options_of(config)
    clip = (
        config.clip if config.clip_training is None or config.clip != TRAIN else f"train, {config.clip_training.tower}"
    )
    teachers = ", ".join(config.teachers)
    if config.teachers == (TRAIN,):
        epochs = " ".join(f"{epoch:g}" for epoch in config.teacher.keep)
        teachers = f"{config.teacher.network} after {epochs} epochs"
    spread = f"{min(counts)} to {max(counts)} a class"
    return "\n".join(
        [
            f"source    {config.data.rstrip(':')}: {len(counts)} classes, {sum(counts)} images, {spread}",
            f"decode    {config.size} px, {config.resize}, {sizes.readable(weight)} in {config.out}",
            f"clip      {clip}",
            f"teachers  {teachers}",
            f"fit       conv rank {options.conv_rank} ({options.layout}), head {options.head}, at most "
            f"{config.fit.epochs:g} epochs, batches of {config.fit.batch}, {config.workers} workers",
            f"out       {config.out}, {config.dtype}",
        ]
    )
