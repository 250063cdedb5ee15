"""Diffusion generators against the bare pipelines of diffusers, at the same batch and steps, with random weights.

python -m benchmarks.generators [--models tiny medium full] [--device cuda] [--batch 8] [--steps 50] [--dtype bfloat16]

`full` has the sizes of Stable Diffusion 1.5 at 512 px and of DiT-XL/2 at 256 px, and is meant for a GPU.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers.utils import logging

from benchmarks.common import machine, print_table, side_by_side
from raycond.data.classes import Classes
from raycond.models.codecs.base import parse_dtype
from raycond.models.codecs.registry import open_codec
from raycond.models.generators.base import Wanted
from raycond.models.generators.options import GeneratorOptions
from raycond.models.generators.registry import open_generator
from tests.models.codecs.make import kl
from tests.models.generators import tiny

STRENGTH, NOISE = 0.7, 1.0
IMAGES = 1000  # of ImageNet-1K at IPC 1
SIDES = {"tiny": 8, "medium": 16, "full": {"sd": 64, "dit": 32}}
VAES = {"tiny": (8, 8), "medium": (16, 16, 32), "full": (128, 256, 512, 512)}
UNETS: dict[str, dict[str, Any]] = {
    "tiny": {"widths": (8, 16), "cross": 16},
    "medium": {"widths": (64, 128), "cross": 64, "layers_per_block": 2, "attention_head_dim": 8},
    "full": {"widths": (320, 640, 1280, 1280), "cross": 768, "layers_per_block": 2, "attention_head_dim": 8},
}
DITS: dict[str, dict[str, Any]] = {
    "tiny": {"width": 16, "layers": 2, "heads": 2},
    "medium": {"width": 192, "layers": 6, "heads": 3},
    "full": {"width": 1152, "layers": 28, "heads": 16},
}


def side(kind: str, model: str) -> int:
    """Of the latents."""
    found: Any = SIDES[model]
    return found[kind] if isinstance(found, dict) else found


def make(kind: str, model: str, folder: Path, dtype: torch.dtype) -> tuple[Any, str]:
    """The bare pipeline and the folder it was saved to."""
    full = {"layers_per_block": 2, "norm_num_groups": 32} if model == "full" else {}
    vae = kl(block_out_channels=VAES[model], latent_channels=4, **full)
    if kind == "sd":
        groups = {"norm_num_groups": 32} if model == "full" else {}
        pipeline = tiny.sd_pipeline(folder, sample_size=side(kind, model), **UNETS[model], **groups)
        pipeline.register_modules(text_encoder=tiny.text_encoder(width=UNETS[model]["cross"]), vae=vae)
    else:
        pipeline = tiny.dit_pipeline(1000, sample_size=side(kind, model), **DITS[model])
        pipeline.register_modules(vae=vae)
    pipeline = pipeline.to(dtype=dtype)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline, tiny.saved(pipeline, folder / "pipeline")


def bare(kind: str, pipeline: Any, asked: Wanted, options: GeneratorOptions, batch: int) -> None:
    """What a script does, `batch` images a call."""
    for start in range(0, len(asked), batch):
        part = asked.rows(range(start, min(start + batch, len(asked))))
        streams = [torch.Generator().manual_seed(seed) for seed in part.seeds]
        common = {"num_inference_steps": options.steps, "generator": streams, "output_type": "pt"}
        if kind == "sd":
            latents = part.latents.to(pipeline.device, pipeline.unet.dtype)
            images = pipeline(
                prompt=["tench"] * len(part),
                negative_prompt=[options.negative_prompt] * len(part),
                image=latents,
                strength=STRENGTH,
                guidance_scale=8.0,
                **common,
            ).images
        else:
            images = pipeline(part.labels.tolist(), guidance_scale=4.0, **common).images
        images.cpu()


def compare(kind: str, model: str, args: argparse.Namespace) -> list[list[str]]:
    dtype = parse_dtype(args.dtype, args.device)
    options = GeneratorOptions(steps=args.steps, strength=STRENGTH, noise=NOISE, batch=args.batch)
    cells = side(kind, model)
    asked = Wanted(
        torch.randn(args.batch, 4, cells, cells, generator=torch.Generator().manual_seed(0)),
        torch.zeros(args.batch, dtype=torch.long),
        tuple(range(args.batch)),
    )
    with tempfile.TemporaryDirectory() as folder:
        pipeline, where = make(kind, model, Path(folder), dtype)
        codec = open_codec(f"kl:{where}", device=args.device, dtype=args.dtype)

        def opened(batch: int) -> Callable[[Wanted], object]:
            return open_generator(
                f"{kind}:{where}",
                options=GeneratorOptions(**(options.__dict__ | {"batch": batch})),
                classes=Classes(("n01440764",), ("tench",)),
                codec=codec,
                size=cells * codec.factor,
                device=args.device,
                dtype=args.dtype,
            )

        together, alone = opened(args.batch), opened(1)
        pipeline = pipeline.to(args.device)
        # one at a time, the rate is that of fewer images
        few = asked.rows(range(min(2, args.batch)))
        runs: dict[str, tuple[int, Callable[[], object]]] = {
            f"diffusers, {args.batch} at a time": (
                len(asked),
                lambda: bare(kind, pipeline, asked, options, args.batch),
            ),
            f"raycond, {args.batch} at a time": (len(asked), lambda: together(asked)),
            "diffusers, one at a time": (len(few), lambda: bare(kind, pipeline, few, options, 1)),
            "raycond, one at a time": (len(few), lambda: alone(few)),
        }
        seconds = side_by_side({name: run for name, (_, run) in runs.items()}, args.repeats)
    rates = {name: count / seconds[name] for name, (count, _) in runs.items()}
    rows = []
    for name, rate in rates.items():
        base = rates[name.replace("raycond", "diffusers")]
        hours = [IMAGES * ipc / rate / 3600 for ipc in (10, 50)]
        rows.append([f"{kind}, {model}: {name}", f"{rate:.2f}", f"{rate / base:.3f}", *(f"{h:.1f}" for h in hours)])
    return rows


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(VAES), default=["tiny", "medium"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args(arguments)
    logging.set_verbosity_error()  # of casts and of files being written
    logging.disable_progress_bar()
    print(machine())
    print(f"{args.device}, {parse_dtype(args.dtype, args.device)}, {args.steps} steps, batch {args.batch}")
    rows = [row for model in args.models for kind in ("sd", "dit") for row in compare(kind, model, args)]
    head = ["random weights", "images/s", "against diffusers", "h for ImageNet-1K IPC 10", "IPC 50"]
    print_table(head, rows)


if __name__ == "__main__":
    main()
