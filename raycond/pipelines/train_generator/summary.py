"""What is printed before and after the training of a generator."""

from __future__ import annotations

import tempfile

from raycond.core import files
from raycond.models.generators.dit_network import build_dit
from raycond.pipelines.layout import GeneratorLayout
from raycond.pipelines.train_generator.config import GeneratorTrainingConfig
from raycond.pipelines.train_generator.run import GeneratorRun, _trained_shape, prepare


def summary(run: GeneratorRun) -> str:
    """What was made and how to use it."""
    out = run.layout.out
    made = f"{run.images} images of {len(run.source.classes)} classes, loss {run.loss:.4f}"
    lines = [f"generator  {out}: {made}" + (f", {run.bad} images left out" if run.bad else "")]
    if not run.trained:
        lines.append("           nothing to do: it was trained already")
    lines.append(f"seconds    {run.times}")
    lines.append(f"use        python pipelines/imagenet_quantize.py --generator dit:{out} …")
    return "\n".join(lines)


def plan(config: GeneratorTrainingConfig) -> str:
    """What a run would do, having opened and checked everything (`--dry-run`). Raises UserError."""
    with tempfile.TemporaryDirectory(prefix="raycond-") as folder:
        # an index that is there is worth using; a new one would stay in the folder
        _, source, codec = prepare(config, None if files.exists(GeneratorLayout(config.out).index) else folder)
        counts = [len(source.refs(label)) for label in range(len(source.classes))]
    latent = codec.latent_shape(config.size) if codec else _trained_shape(config)
    model = build_dit(config.dit, latent=latent, classes=len(source.classes), seed=0)
    count = sum(p.numel() for p in model.parameters()) / 1e6
    least, most = min(counts), max(counts)
    d = config.dit
    return "\n".join(
        [
            f"source  {config.data}: {len(counts)} classes, {sum(counts)} images, {least} to {most} a class",
            f"encode  {config.codec}, {config.size} px, {config.resize}, latents {'×'.join(map(str, latent))}",
            f"train   DiT of {count:.1f} M parameters, {d.steps} steps of {d.batch}, {config.workers} workers",
            f"out     {config.out}",
        ]
    )
