"""Options that several commands share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

Option = Callable[..., Any]
SOURCE = "source: class folders, .tar, .parquet, idx files or digits:"
RESIZE = "shorter side and centre crop (default), or squash"


def layered(parser: argparse.ArgumentParser, presets: str) -> Option:
    """Adds --preset, --config and --dry-run; what it returns adds options without defaults: those of presets and files
    come first."""
    parser.add_argument("--preset", metavar="NAME", help=f"start from a preset: {presets}")
    parser.add_argument(
        "--config", metavar="FILE", help="YAML file with any of the fields below (underscores for dashes)"
    )
    parser.add_argument("--dry-run", action="store_true", help="check everything and say what would be done")

    def option(*names: str, **settings: Any) -> None:
        parser.add_argument(*names, default=argparse.SUPPRESS, **settings)

    return option


def source_options(option: Option) -> None:
    """Which images are taken from `--data`, and what becomes of bad ones."""
    option("--limit", type=int, metavar="N", help="images per class taken from the source")
    option("--classes", type=int, metavar="N", help="only the first N classes")
    option("--image-column", metavar="NAME", help="of a Parquet source")
    option("--label-column", metavar="NAME", help="of a Parquet source")
    option("--seed", type=int, metavar="N")
    option("--max-bad", metavar="N|P%", help="bad images allowed (default 1%%)")
    option("--max-pixels", type=int, metavar="N", help="a larger image is quarantined as a decompression bomb")
    option("--decode-threads", type=int, metavar="N", help="JPEG threads of a worker (default CPUs + 1)")


def worker_options(option: Option) -> None:
    """Of every training of a command."""
    option("--checkpoint-every", type=int, metavar="N", help="steps (default 1000)")
    option("--workers", type=int, metavar="N", help="that share each batch (default 1)")
    option("--gpus-per-worker", type=float, metavar="N", help="0 or 1 (default: 1 where there are GPUs)")
    option("--cpus-per-worker", type=int, metavar="N")


def runner_options(option: Option) -> None:
    option("--runner", choices=["ray", "local"])
    option("--no-dashboard", dest="dashboard", action="store_false", help="of a Ray started here")
