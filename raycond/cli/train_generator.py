"""The command `raycond train-generator`: its options, and what it does with them."""

from __future__ import annotations

import argparse
from typing import Any

from raycond.cli.fields import RESIZE, SOURCE, Option, layered, runner_options, source_options, worker_options


def generator_options(parser: argparse.ArgumentParser) -> None:
    """The options of pipelines/train_generator.py. None has a default here: presets and files come first."""
    option = layered(parser, "digits, imagenette")
    option("--name", help="name of the generator")
    option("--data", metavar="URI", help=SOURCE)
    option("--out", metavar="DIR", help="the folder that becomes a DiTPipeline (default runs/NAME-dit)")
    option("--codec", metavar="KIND[:WHERE]", help="kl or train")
    option("--posterior", choices=["mean", "sample"], help="of the codec (default mean)")
    option("--dtype", metavar="TYPE", help="of the codec: auto, float32, bfloat16, float16")
    option("--size", type=int, metavar="N", help="pixels per side")
    option("--resize", choices=["crop", "squash"], help=RESIZE)
    option("--flip", action="store_true", help="learn mirrored images too")
    source_options(option)
    option("--batch-encode", type=int, metavar="N", help="images encoded at once")
    _dit_options(option)
    worker_options(option)
    runner_options(option)


def _dit_options(option: Option) -> None:
    option("--width", type=int, metavar="N", help="of the transformer (default 384)")
    option("--layers", type=int, metavar="N", help="default 12")
    option("--heads", type=int, metavar="N", help="default 6")
    option("--patch", type=int, metavar="N", help="latent cells per token and side")
    option("--steps", type=int, metavar="N", help="default 100000")
    option("--batch", type=int, metavar="N", help="latents per step, over all workers (default 256)")
    option("--lr", type=float, metavar="X", help="of AdamW (default 1e-4)")
    option("--schedule", choices=["cosine", "constant"], help="of the learning rate (default constant)")
    option("--warmup", type=int, metavar="N", help="steps until the learning rate is reached (default 0)")
    option("--weight-decay", type=float, metavar="X")
    option("--class-dropout", type=float, metavar="X", help="share trained without class, for guidance (default 0.1)")
    option("--ema", type=float, metavar="X", help="decay of the averaged weights (default 0.9999)")
    option("--clip", type=float, metavar="X", help="of the gradient's norm, 0 for none (default 1)")
    option("--precision", choices=["auto", "float32", "bfloat16"], help="auto: bfloat16 on GPUs")
    option("--log-every", type=int, metavar="N", help="steps between entries of the loss curve (default 50)")


def train_generator(options: dict[str, Any]) -> int:
    """Carry out the command; 0 if the generator is there."""
    from raycond.pipelines.train_generator.config import load_generator_config

    preset, file, dry = options.pop("preset"), options.pop("config"), options.pop("dry_run")
    config = load_generator_config(options, preset=preset, config=file)
    from raycond.pipelines.train_generator import run, summary

    if dry:
        print(summary.plan(config))
        return 0
    print(summary.summary(run.train_generator(config)))
    return 0
