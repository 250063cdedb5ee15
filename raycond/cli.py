"""The command line: `raycond quantize | inspect | verify`; the scripts in pipelines/ call the same `main`."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from raycond import __version__
from raycond.errors import RaycondError


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line: a usage of fifty options before it would hide it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"raycond: {message.removeprefix('argument ')}; {self.prog} --help lists the options\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0 only if everything asked for was made."""
    parser = Parser("raycond", description=sys.modules["raycond"].__doc__)
    parser.add_argument("--version", action="version", version=f"raycond {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    quantize_options(commands.add_parser("quantize", help="condense an image set (DDOQ, D4M)"))
    for name, text in (("inspect", "say what a condensed set is"), ("verify", "check every digest and count of a set")):
        commands.add_parser(name, help=text).add_argument("path", metavar="PATH", help="folder of a condensed set")
    options = vars(parser.parse_args(argv))
    return guarded(options.pop("command"), options)


def guarded(command: str, options: dict[str, Any]) -> int:
    """Carry out a command; errors that raycond raises on purpose become one message and exit code 2."""
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        return _COMMANDS[command](options)
    except RaycondError as error:
        print(f"raycond: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # a full disk, a folder that may not be written, a lost connection
        print(f"raycond: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        print("\nraycond: stopped; the same command goes on from here", file=sys.stderr)
        return 128 + (stop.args[0] if stop.args else signal.SIGINT)
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop(number: int, _frame: object) -> None:
    """SIGTERM (a preempted node, `timeout`) must shut Ray down as Ctrl-C does."""
    raise KeyboardInterrupt(number)


def quantize_options(parser: argparse.ArgumentParser) -> None:
    """The options of pipelines/imagenet_quantize.py. None has a default here: presets and files come first."""
    add = parser.add_argument
    add("--preset", metavar="NAME", help="start from a preset: digits, imagenet")
    add("--config", metavar="FILE", help="YAML file with any of the fields below (underscores for dashes)")

    def option(*names: str, **settings: Any) -> None:
        add(*names, default=argparse.SUPPRESS, **settings)

    option("--name", help="name of the run and of the set")
    option("--data", metavar="URI", help="source: class folders, .tar, .parquet, idx files or digits:")
    option("--val", metavar="URI", help="source of the validation images (default: the val split of --data)")
    option("--out", metavar="DIR", help="run folder, local or s3://, gs:// (default runs/NAME)")
    option("--codec", metavar="KIND[:WHERE]", help="kl, tiny, taef2, pixels or train")
    option("--posterior", choices=["mean", "sample"], help="of an AutoencoderKL (default mean)")
    option("--dtype", metavar="TYPE", help="of the codec: auto, float32, bfloat16, float16")
    option("--size", type=int, metavar="N", help="pixels per side")
    option("--resize", choices=["crop", "squash"], help="shorter side and centre crop (default), or squash")
    option("--ipc", type=int, nargs="+", metavar="N", help="images per class")
    option("--quantizer", choices=["lloyd", "clvq", "faiss"])
    option("--restarts", type=int, metavar="N", help="of lloyd (default 5)")
    option("--weights", choices=["uniform", "density", "sqrt"], help="of the condensed images (default sqrt)")
    option("--generator", metavar="KIND", help="images from latents: vae or medoid (default vae)")
    option("--image-format", choices=["png", "jpeg", "webp"])
    option("--limit", type=int, metavar="N", help="images per class taken from the source")
    option("--classes", type=int, metavar="N", help="only the first N classes")
    option("--image-column", metavar="NAME", help="of a Parquet source")
    option("--label-column", metavar="NAME", help="of a Parquet source")
    option("--seed", type=int, metavar="N")
    option("--batch", type=int, metavar="N", help="images encoded at once")
    option("--actors", type=int, metavar="N", help="class actors (default: as many as fit)")
    option("--gpus-per-actor", type=float, metavar="X", help="may be a fraction; 0 for none")
    option("--cpus-per-actor", type=int, metavar="N")
    option("--decode-threads", type=int, metavar="N", help="JPEG threads of an actor (default CPUs + 1)")
    option("--classes-at-once", type=int, metavar="N", help="classes quantized together on a GPU")
    option("--max-bad", metavar="N|P%", help="bad images allowed (default 1%%)")
    option("--max-pixels", type=int, metavar="N", help="a larger image is quarantined as a decompression bomb")
    option("--runner", choices=["ray", "local"])
    option("--no-dashboard", dest="dashboard", action="store_false", help="of a Ray started here")
    option("--w2-classes", type=int, metavar="N", help="classes measured for the W2 table")
    option("--students", nargs="+", metavar="NAME", help="convnet3-w32, resnet18, any torchvision classifier, …")
    option("--seeds", type=int, nargs="+", metavar="N", help="of the evaluation")
    option("--protocol", metavar="NAME", help="evaluation recipe (default quick)")
    option("--methods", nargs="+", metavar="NAME", help="rows: random medoid d4m ddoq full")
    option("--no-evaluate", dest="evaluate", action="store_false")
    add("--dry-run", action="store_true", help="check everything and say what would be done")


def _quantize(options: dict[str, Any]) -> int:
    from raycond.config import load_config

    preset, file, dry = options.pop("preset"), options.pop("config"), options.pop("dry_run")
    config = load_config(options, preset=preset, config=file)
    from raycond import pipeline, summary

    if dry:
        print(pipeline.plan(config))
        return 0
    run = pipeline.quantize(config)
    print(summary.summary(run))
    return 1 if run.failures else 0


def _inspect(options: dict[str, Any]) -> int:
    from raycond.sets.inspect import describe

    print(describe(options["path"]))
    return 0


def _verify(options: dict[str, Any]) -> int:
    from raycond.sets.verify import verify

    problems = verify(options["path"])
    for problem in problems:
        print(problem)
    print(f"{options['path']}: {f'{len(problems)} problems' if problems else 'whole'}")
    return 1 if problems else 0


_COMMANDS = {"quantize": _quantize, "inspect": _inspect, "verify": _verify}

if __name__ == "__main__":
    sys.exit(main())
