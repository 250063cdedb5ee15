"""The command line: `raycond quantize | train-generator | evaluate | …`; pipelines/ call `main` too."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from raycond import __version__
from raycond.cli.fields import RESIZE, SOURCE, Option, layered, runner_options, source_options
from raycond.cli.fit_projector import fit_projector, projector_options
from raycond.cli.labels import attach, attach_options, collage_options, collages, store_labels, store_options
from raycond.cli.train_generator import generator_options, train_generator
from raycond.core.errors import RaycondError, UserError


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
    generator_options(commands.add_parser("train-generator", help="train a small latent DiT on an image set"))
    projector_options(commands.add_parser("fit-projector", help="fit a label projector (HeLlO: CLIP, a small delta)"))
    grid_options(commands.add_parser("evaluate", help="train students on condensed sets and baselines, and compare"))
    export_options(commands.add_parser("export", help="write a set for another tool"))
    attach_options(commands.add_parser("attach", help="put a fitted projector into a condensed set"))
    store_options(commands.add_parser("store-labels", help="store soft labels of a condensed set's views"))
    collage_options(commands.add_parser("collages", help="write a set of collages of real patches (RDED)"))
    for name, text in (
        ("inspect", "say what a condensed set is"),
        ("verify", "check every digest and count of a set, or of stored labels"),
    ):
        commands.add_parser(name, help=text).add_argument("path", metavar="PATH", help="its folder")
    options = vars(parser.parse_args(argv))
    return guarded(options.pop("command"), options)


def guarded(command: str, options: dict[str, Any]) -> int:
    """Carry out a command; errors that raycond raises on purpose become one message and exit code 2."""
    received: list[int] = []

    def stop(number: int, _frame: object) -> None:
        """SIGTERM (a preempted node, `timeout`) must shut Ray down as Ctrl-C does."""
        received.append(number)  # Ray may raise a KeyboardInterrupt of its own, without it
        raise KeyboardInterrupt(number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        return _COMMANDS[command](options)
    except RaycondError as error:
        print(f"raycond: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # a full disk, a folder that may not be written, a lost connection
        print(f"raycond: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stopped:
        print("\nraycond: stopped; the same command goes on from here", file=sys.stderr)
        return 128 + (*received, *stopped.args, signal.SIGINT)[0]
    finally:
        signal.signal(signal.SIGTERM, before)


def quantize_options(parser: argparse.ArgumentParser) -> None:
    """The options of pipelines/imagenet_quantize.py. None has a default here: presets and files come first."""
    option = layered(parser, "digits, imagenet")
    option("--name", help="name of the run and of the set")
    option("--data", metavar="URI", help=SOURCE)
    option("--val", metavar="URI", help="source of the validation images (default: the val split of --data)")
    option("--out", metavar="DIR", help="run folder, local or s3://, gs:// (default runs/NAME)")
    option("--work", metavar="DIR", help="codebooks and images that runs share (default: in the run folder)")
    option("--codec", metavar="KIND[:WHERE]", help="kl, tiny, taef2, pixels or train")
    option("--posterior", choices=["mean", "sample"], help="of an AutoencoderKL (default mean)")
    option("--dtype", metavar="TYPE", help="of the codec: auto, float32, bfloat16, float16")
    option("--size", type=int, metavar="N", help="pixels per side")
    option("--resize", choices=["crop", "squash"], help=RESIZE)
    option("--ipc", type=int, nargs="+", metavar="N", help="images per class")
    option("--quantizer", choices=["lloyd", "clvq", "faiss", "gmm"])
    option("--restarts", type=int, metavar="N", help="of lloyd (default 5)")
    option("--weights", choices=["uniform", "density", "sqrt"], help="of the condensed images (default sqrt)")
    option("--generator", metavar="KIND[:WHERE]", help="vae, medoid, sd:WHERE or dit:WHERE (default vae)")
    _diffusion_options(option)
    option("--output-size", type=int, metavar="N", help="pixels per side of the condensed images, if not --size")
    option("--image-format", choices=["png", "jpeg", "webp"])
    source_options(option)
    option("--batch", type=int, metavar="N", help="images encoded at once")
    option("--actors", type=int, metavar="N", help="class actors (default: as many as fit)")
    option("--gpus-per-actor", type=float, metavar="X", help="may be a fraction; 0 for none")
    option("--cpus-per-actor", type=int, metavar="N")
    option("--classes-at-once", type=int, metavar="N", help="classes quantized together on a GPU")
    runner_options(option)
    option("--w2-classes", type=int, metavar="N", help="classes measured for the W2 table")
    option("--students", nargs="+", metavar="NAME", help="convnet3-w32, resnet18, any torchvision classifier, …")
    option("--seeds", type=int, nargs="+", metavar="N", help="of the evaluation")
    option("--protocol", metavar="NAME", help="evaluation recipe (default quick)")
    option("--methods", nargs="+", metavar="NAME", help="rows: random medoid d4m ddoq full")
    option("--no-evaluate", dest="evaluate", action="store_false")


def _diffusion_options(option: Option) -> None:
    option("--strength", type=float, metavar="X", help="sd: share of the steps that are run (default 0.7)")
    option("--noise", type=float, metavar="X", help="dit: share of the schedule to start from (default 0.5; 1: noise)")
    option("--guidance", type=float, metavar="X", help="classifier-free scale (default 8 for sd, 4 for dit)")
    option("--steps", type=int, metavar="N", help="of the whole schedule (default 50)")
    option("--scheduler", choices=["ddim", "ddpm", "dpm", "pndm", "euler"], help="default: the pipeline's own")
    option("--prompt", metavar="TEXT", help="sd: with {name} and {id} of the class (default {name})")
    option("--negative-prompt", metavar="TEXT", help="sd: default D4M's")
    option("--mode-guidance", type=float, metavar="X", help="pull towards the centroid (MGD3; default 0)")
    option("--mode-stop", type=float, metavar="X", help="share of the schedule at which it ends (default 0.5)")
    option("--class-map", metavar="MAP", help="dit: its class of each class, 0+217+482 or a .json file")
    option("--generator-batch", type=int, metavar="N", help="images generated at once (default 16)")


def grid_options(parser: argparse.ArgumentParser) -> None:
    """The options of pipelines/evaluate_grid.py; their defaults are in `GridConfig`."""
    parser.argument_default = argparse.SUPPRESS
    option = parser.add_argument
    option("--sets", nargs="+", metavar="DIR", help="condensed sets with the same classes and image size")
    option("--val", metavar="URI", help="images to test on (default: of the run that the first set lies in)")
    option("--data", metavar="URI", help="the sets' source, for baselines (default: as for --val)")
    option("--out", metavar="DIR", help="default: grid beside the first set")
    option("--students", nargs="+", metavar="NAME", help="resnet18, convnet4, timm/NAME, … (default convnet3-w32 mlp)")
    option("--ipc", type=int, nargs="+", metavar="N", help="default: all of the first set")
    option("--protocol", metavar="NAME", help="a preset or a .yaml file (default quick)")
    option("--set", dest="changes", nargs="+", metavar="FIELD=VALUE", help="settings of the protocol to change")
    option("--seeds", type=int, nargs="+", metavar="N", help="default 0 1 2")
    option("--labeler", metavar="KIND[:WHERE]", help="hard, once, teacher, projector, stored (default hard)")
    option("--weights", nargs="+", metavar="MODE", help="uniform sqrt density (default: uniform and the set's own)")
    option("--baselines", nargs="+", metavar="NAME", help="beside random, medoid: herding k-center el2n full; or none")
    option("--scores", action="store_true", help="DD-Ranking's scores, and the trainings that they need")
    option("--proxy-student", metavar="NAME", help="its features and EL2N choose coresets (default convnet3-w32)")
    option("--proxy-nets", type=int, metavar="N")
    option("--proxy-steps", type=int, metavar="N")
    option("--trials-at-once", type=int, metavar="N", help="default: as many as memory and processors hold")
    option("--gpus-per-trial", type=float, metavar="X", help="a fraction; 0 for none (default: by measured memory)")
    option("--cpus-per-trial", type=int, metavar="N")
    option("--max-pixels", type=int, metavar="N", help="a larger image is left out as a decompression bomb")
    runner_options(option)
    option("--resume", action="store_true", help="go on with the grid in --out, with its options")


def export_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH", help="folder of a condensed set")
    parser.add_argument("out", metavar="OUT", help="a folder that does not exist or is empty")
    parser.add_argument("--to", dest="kind", required=True, choices=["ddranking", "rethinkdc", "folder"])
    parser.add_argument("--ipc", type=int, metavar="N", help="default: the largest of the set")
    parser.add_argument("--labeler", metavar="KIND:WHERE", help="write one soft label per image too (ddranking)")


def _evaluate(options: dict[str, Any]) -> int:
    from raycond.pipelines.evaluate.config import load_grid_config

    if "changes" in options:
        from raycond.evaluate.protocol import parse_settings

        options["changes"] = parse_settings(options["changes"])
    from raycond.pipelines.evaluate import run

    if options.pop("resume", False):
        if "out" not in options:
            raise UserError("--resume: give the grid's folder with --out")
        config = run.resumed(options["out"], options)
    else:
        config = load_grid_config(options)
    result = run.evaluate_grid(config)
    print(run.summary(result), end="")
    return 1 if result.failures else 0


def _export(options: dict[str, Any]) -> int:
    from raycond.sets.export import export

    about = export(options.pop("path"), options.pop("out"), **options)
    print(json.dumps(about, indent=2))
    return 0


def _quantize(options: dict[str, Any]) -> int:
    from raycond.pipelines.quantize.config import load_config

    preset, file, dry = options.pop("preset"), options.pop("config"), options.pop("dry_run")
    config = load_config(options, preset=preset, config=file)
    from raycond.pipelines.quantize import run, summary

    if dry:
        print(run.plan(config))
        return 0
    result = run.quantize(config)
    print(summary.summary(result))
    return 1 if result.failures else 0


def _inspect(options: dict[str, Any]) -> int:
    from raycond.sets.inspect import describe

    print(describe(options["path"]))
    return 0


def _verify(options: dict[str, Any]) -> int:
    from raycond.labels.stored.verify import holds_labels, verify_set_labels
    from raycond.sets.verify import verify

    path = options["path"]
    problems = verify_set_labels(path) if holds_labels(path) else verify(path)
    for problem in problems:
        print(problem)
    print(f"{options['path']}: {f'{len(problems)} problems' if problems else 'whole'}")
    return 1 if problems else 0


_COMMANDS = {
    "quantize": _quantize,
    "train-generator": train_generator,
    "fit-projector": fit_projector,
    "evaluate": _evaluate,
    "attach": attach,
    "store-labels": store_labels,
    "collages": collages,
    "export": _export,
    "inspect": _inspect,
    "verify": _verify,
}

if __name__ == "__main__":
    sys.exit(main())
