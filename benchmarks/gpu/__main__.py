"""The command line; see `benchmarks.gpu`."""

from __future__ import annotations

import argparse
import faulthandler
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

BEGAN = time.perf_counter()  # what is imported below takes its part of the budget

from benchmarks import gpu  # noqa: E402
from benchmarks.gpu import carry  # noqa: E402
from benchmarks.gpu.parts import PARTS  # noqa: E402

NEEDED = ("torch", "numpy", "fsspec", "safetensors")  # without which nothing of raycond runs
GRACE = 120  # seconds beyond the budget after which a run that hangs is ended


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=gpu.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for gpu.json and GPU.md")
    parser.add_argument("--budget", type=float, default=480, help="seconds, shared out among the parts (default: 480)")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="NAME", help=", ".join(PARTS))
    parser.add_argument("--carry", type=Path, help="folder with wheels and images that benchmarks.gpu.carry has filled")
    parser.add_argument("--tiny", action="store_true", help="all parts with miniature models on the CPU")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parsed(arguments)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # every model is made here
    notes = carry.use(options.carry) if options.carry else []
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        print(f"{sys.executable}: not found: {', '.join(missing)}; nothing can be run", file=sys.stderr)
        return 2
    import torch

    if not options.tiny and not torch.cuda.is_available():
        print(
            f"torch {torch.__version__} of {sys.executable} finds no CUDA device; --tiny runs every part with "
            "miniature models on the CPU",
            file=sys.stderr,
        )
        return 2
    return run(options, torch.device("cpu" if options.tiny else "cuda"), notes)


def run(options: argparse.Namespace, device: Any, notes: Sequence[str]) -> int:
    """Run the parts; the exit code."""
    from benchmarks.gpu.context import Context
    from benchmarks.gpu.runner import Run, load, summary

    faulthandler.dump_traceback_later(options.budget + GRACE, exit=True, file=2)
    try:
        with tempfile.TemporaryDirectory(prefix="raycond-gpu-") as scratch:
            context = Context(device, tiny=options.tiny, scratch=Path(scratch), carry=options.carry)
            names = [name for name in PARTS if name in options.only]
            parts = Run(names, context, options.out, options.budget, BEGAN)
            parts.record.absent += notes
            record = parts.all(load)
    finally:
        faulthandler.cancel_dump_traceback_later()
    print(summary(record))
    print(f"{options.out}/GPU.md")
    return 1 if record.failed else 0


if __name__ == "__main__":
    sys.exit(main())
