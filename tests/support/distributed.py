"""Several processes for a test, as the workers of one training or each with a memory of its own.

They are forked from a server that has imported what they need: a process that starts from nothing imports torch for
seconds before it does anything.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import torch

# one server serves all tests of this process, so it imports what any of them needs
PRELOADED = [
    "raycond.pipelines.fit_projector.run",
    "raycond.pipelines.match.run",
    "raycond.pipelines.quantize.run",
    "raycond.pipelines.train_generator.run",
    "diffusers.models.autoencoders.autoencoder_kl",
    "open_clip",
]


def fork_server() -> ForkServerContext:
    """The context whose processes are forked from the server."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def in_workers(work: Callable[..., None], folder: Path, world: int, *arguments: Any) -> None:
    """Run `work(rank, world, folder, *arguments)` in `world` processes that are one torch.distributed group over gloo.

    folder: where they meet; a new one for every call. Raises what one of them raises.
    """
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    fork_server()
    torch.multiprocessing.start_processes(
        _worker, (work, world, str(folder), arguments), nprocs=world, start_method="forkserver"
    )


def _worker(rank: int, work: Callable[..., None], world: int, folder: str, arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    work(rank, world, folder, *arguments)
    torch.distributed.destroy_process_group()
