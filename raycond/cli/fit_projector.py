"""The command `raycond fit-projector`: its options, and what it does with them."""

from __future__ import annotations

import argparse
from typing import Any

from raycond.cli.fields import RESIZE, SOURCE, Option, layered, runner_options, source_options, worker_options


def projector_options(parser: argparse.ArgumentParser) -> None:
    """The options of pipelines/fit_projector.py. None has a default here: presets and files come first."""
    option = layered(parser, "digits, fashion-mnist, imagenette, imagenet")
    option("--name", help="name of the projector")
    option("--data", metavar="URI", help=SOURCE)
    option("--out", metavar="DIR", help="the projector's folder (default runs/NAME-projector)")
    option("--clip", metavar="MODEL:TAG|DIR", help="of open_clip (default RN50:openai), a local folder, or train")
    option("--teachers", nargs="+", metavar="SPEC", help="NAME[@FILE][,OPTION=VALUE…], or train (default), or none")
    _projector_options(option)
    option("--size", type=int, metavar="N", help="pixels per side at which images are decoded (default 224)")
    option("--resize", choices=["crop", "squash"], help=RESIZE)
    option("--channels", type=int, choices=[1, 3], help="1 for grey images (default 3)")
    option("--holdout", type=int, metavar="N", help="images per class to check on (default 10)")
    option("--ipc", type=int, metavar="N", help="images per class in the table of bytes (default 50)")
    source_options(option)
    _fit_options(option)
    _teacher_options(option)
    worker_options(option)
    runner_options(option)


def _projector_options(option: Option) -> None:
    option("--conv-rank", type=int, metavar="N", help="of the image tower's deltas, 0 for none (default 8)")
    option("--head-rank", type=int, metavar="N", help="default 64 up to 100 classes, else 128")
    option("--layout", choices=["3x3", "peft"], help="3 x 3 convolutions (default), or all but downsample's")
    option("--head", choices=["text", "full", "scratch"], help="texts and a delta (default), or all of it learned")
    option("--templates", nargs="+", metavar="TEXT", help="photo (default), simple, or texts with {} for the class")
    option("--dtype", choices=["float32", "float16", "int8"], help="of the delta on disk (default float16)")


def _fit_options(option: Option) -> None:
    option("--epochs", type=float, metavar="X", help="of the fit, at most (default 10)")
    option("--batch", type=int, metavar="N", help="images per step, over all workers (default 256)")
    option("--lr", type=float, metavar="X", help="of the delta (default 5e-4)")
    option("--lambda", type=float, metavar="X", help="weight of the labels' cross-entropy (default 0.1)")
    option("--combine", choices=["mean", "sample"], help="teachers: mean of rescaled logits (default), or one drawn")
    option("--targets", choices=["centred", "logits", "probabilities"], help="what is matched (default centred logits)")
    option("--optimizer", choices=["adamw", "sgd"])
    option("--weight-decay", type=float, metavar="X")
    option("--schedule", choices=["cosine", "constant"], help="of the learning rate (default cosine)")
    option("--warmup", type=int, metavar="N", help="steps until the learning rate is reached (default 0)")
    option("--clip-norm", type=float, metavar="X", help="of the gradient, 0 for none (default 1)")
    option("--precision", choices=["auto", "float32", "bfloat16"], help="of the fit; auto: bfloat16 on GPUs")
    option("--log-every", type=int, metavar="N", help="of the fit: steps between entries of its curve (default 50)")
    option("--checks", type=int, metavar="N", help="of the held-out images in the whole fit (default 20)")
    option("--patience", type=int, metavar="N", help="checks without a better one that end it, 0: never (default 5)")
    option("--scale", type=float, nargs=2, metavar="X", help="random crops: least and most share of the area")
    option("--shift", type=float, metavar="X", help="random moves, share of a side")
    option("--flip", action=argparse.BooleanOptionalAction, help="mirror half of the views")
    option("--mix", choices=["none", "cutmix", "mixup"], help="views mixed as a student's may be (default none)")
    option("--mix-beta", type=float, metavar="X", help="of the Beta distribution of the mix (default 1)")


def _teacher_options(option: Option) -> None:
    option("--teacher-network", metavar="NAME", help="whose checkpoints teach (default resnet18)")
    option("--keep", type=float, nargs="+", metavar="EPOCH", help="its checkpoints, after these epochs")
    option("--teacher-batch", type=int, metavar="N", help="default 256")
    option("--teacher-lr", type=float, metavar="X", help="default 0.1")


def fit_projector(options: dict[str, Any]) -> int:
    """Carry out the command; 0 if the projector is there."""
    from raycond.pipelines.fit_projector.config import load_projector_config

    preset, file, dry = options.pop("preset"), options.pop("config"), options.pop("dry_run")
    config = load_projector_config(options, preset=preset, config=file)
    from raycond.pipelines.fit_projector import run, summary

    if dry:
        print(summary.plan(config))
        return 0
    print(summary.summary(config, run.fit_projector(config)))
    return 0
