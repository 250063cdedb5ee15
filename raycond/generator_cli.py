"""The command `raycond train-generator`: its options, and what it does with them."""

from __future__ import annotations

import argparse
from typing import Any


def generator_options(parser: argparse.ArgumentParser) -> None:
    """The options of pipelines/train_generator.py. None has a default here: presets and files come first."""
    add = parser.add_argument
    add("--preset", metavar="NAME", help="start from a preset: digits, imagenette")
    add("--config", metavar="FILE", help="YAML file with any of the fields below (underscores for dashes)")

    def option(*names: str, **settings: Any) -> None:
        add(*names, default=argparse.SUPPRESS, **settings)

    option("--name", help="name of the generator")
    option("--data", metavar="URI", help="source: class folders, .tar, .parquet, idx files or digits:")
    option("--out", metavar="DIR", help="the folder that becomes a DiTPipeline (default runs/NAME-dit)")
    option("--codec", metavar="KIND[:WHERE]", help="kl or train")
    option("--posterior", choices=["mean", "sample"], help="of the codec (default mean)")
    option("--dtype", metavar="TYPE", help="of the codec: auto, float32, bfloat16, float16")
    option("--size", type=int, metavar="N", help="pixels per side")
    option("--resize", choices=["crop", "squash"], help="shorter side and centre crop (default), or squash")
    option("--flip", action="store_true", help="learn mirrored images too")
    option("--limit", type=int, metavar="N", help="images per class taken from the source")
    option("--classes", type=int, metavar="N", help="only the first N classes")
    option("--image-column", metavar="NAME", help="of a Parquet source")
    option("--label-column", metavar="NAME", help="of a Parquet source")
    option("--seed", type=int, metavar="N")
    option("--max-bad", metavar="N|P%", help="bad images allowed (default 1%%)")
    option("--max-pixels", type=int, metavar="N", help="a larger image is left out as a decompression bomb")
    option("--batch-encode", type=int, metavar="N", help="images encoded at once")
    option("--decode-threads", type=int, metavar="N", help="JPEG threads while encoding (default CPUs + 1)")
    _dit_options(option)
    option("--checkpoint-every", type=int, metavar="N", help="steps (default 1000)")
    option("--workers", type=int, metavar="N", help="that share each batch (default 1)")
    option("--gpus-per-worker", type=float, metavar="N", help="0 or 1 (default: 1 where there are GPUs)")
    option("--cpus-per-worker", type=int, metavar="N")
    option("--runner", choices=["ray", "local"])
    option("--no-dashboard", dest="dashboard", action="store_false", help="of a Ray started here")
    add("--dry-run", action="store_true", help="check everything and say what would be done")


def _dit_options(option: Any) -> None:
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
    from raycond.generator_config import load_generator_config

    preset, file, dry = options.pop("preset"), options.pop("config"), options.pop("dry_run")
    config = load_generator_config(options, preset=preset, config=file)
    from raycond import generator

    if dry:
        print(generator.plan(config))
        return 0
    print(generator.summary(generator.train_generator(config)))
    return 0
