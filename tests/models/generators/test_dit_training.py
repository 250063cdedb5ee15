from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from raycond.core.errors import RaycondError, UserError
from raycond.data.class_arrays import ArrayFiles, Latents, to_bytes
from raycond.models.generators.dit_network import build_dit
from raycond.models.generators.dit_training import DitTraining, finished
from raycond.models.generators.options import DitConfig
from tests.support.distributed import in_workers

TINY = DitConfig(
    width=16, layers=2, heads=2, steps=6, batch=6, lr=1e-2, warmup=2, schedule="cosine", log_every=2, ema=0.9
)
SHAPE = (2, 4, 4)


def some(count: int = 10, labels: int = 2) -> Latents:
    random = torch.Generator().manual_seed(0)
    parts = [torch.randn(count + k, *SHAPE, generator=random).half().numpy() for k in range(labels)]
    return Latents(parts, "cpu")


def training(config: DitConfig = TINY, latents: Latents | None = None, seed: int = 0, **options: Any) -> DitTraining:
    return DitTraining(config, latents or some(), classes=2, seed=seed, device="cpu", **options)


def trained(config: DitConfig = TINY, **options: Any) -> bytes:
    run = training(config, **options)
    assert list(run.run()) == [2, 4, 6]
    return run.state()


def test_it_learns_what_latents_look_like() -> None:
    flat = Latents([np.full((8, *SHAPE), value, np.float16) for value in (-1, 1)], "cpu")
    config = replace(TINY, steps=120, log_every=20, batch=32, class_dropout=0.0)
    run = training(config, flat)
    steps = list(run.run())
    assert steps == [20, 40, 60, 80, 100, 120]
    assert [step for step, _ in run.curve] == steps
    assert run.loss < 0.5 * run.curve[0][1] < 0.5  # the noise has variance 1, and an untrained network predicts 0
    # at late times the noisy latent says little: what the class is must have been used
    net = run.net.eval()
    net.load_state_dict(finished(run.state())[0])
    times = torch.full((64,), 500)
    noise = torch.randn(64, *SHAPE, generator=torch.Generator().manual_seed(1))
    errors = []
    for label in (0, 1):
        noisy = run.scheduler.add_noise(torch.ones(64, *SHAPE), noise, times)
        with torch.inference_mode():
            found = net(noisy, timestep=times, class_labels=torch.full((64,), label)).sample
        errors.append(float((found - noise).square().mean()))
    assert errors[1] < 0.8 * errors[0]


def test_same_seed_same_bytes() -> None:
    torch.manual_seed(5)
    first = trained()
    before = torch.random.get_rng_state()
    torch.manual_seed(6)
    assert trained() == first
    assert trained(seed=1) != first
    torch.manual_seed(5)
    trained()
    assert torch.equal(torch.random.get_rng_state(), before)  # the ambient state is neither used nor changed


@pytest.mark.parametrize("stop", [2, 4, 6])
def test_interrupted_training_goes_on_to_the_same_bytes(stop: int) -> None:
    whole = trained()
    run = training()
    state = next(run.state() for step in run.run() if step == stop)
    assert (state == whole) == (stop == 6)
    again = training(replace(TINY))
    again.load(state)
    assert list(again.run()) == list(range(stop + 2, 7, 2))
    assert again.state() == whole


def test_what_is_kept_is_the_average() -> None:
    run = training(replace(TINY, ema=0.0))
    list(run.run())
    weights, curve = finished(run.state())
    assert set(weights) == set(run.names)
    assert curve == run.curve
    for name, value in run.net.named_parameters():
        assert torch.equal(weights[name], value)
    slow = training(replace(TINY, ema=0.99))
    list(slow.run())
    assert any(not torch.equal(a, b) for a, b in zip(slow.averaged, slow.parameters, strict=True))


def test_every_latent_comes_once_a_pass() -> None:
    run = training(latents=some(10))  # 21 latents, batches of 6: a pass ends in the middle of a batch
    seen = []
    for step in range(14):
        run.step = step
        seen += run._rows().tolist()
    for start in range(0, 84, 21):
        assert sorted(seen[start : start + 21]) == list(range(21))
    assert seen[:21] != seen[21:42]
    run.step = 3
    assert run._rows().tolist() == seen[18:24]  # also after another pass was drawn


def test_batch_larger_than_the_set() -> None:
    run = training(replace(TINY, batch=16), Latents([np.zeros((3, *SHAPE), np.float16)] * 2, "cpu"))
    assert sorted(run._rows().tolist()) == sorted([*range(6), *range(6), *run._rows().tolist()[12:]])


def test_dropped_classes() -> None:
    for share, low, high in ((0.0, 0, 0), (0.5, 350, 650)):
        run = training(replace(TINY, batch=1000, class_dropout=share))
        _, labels, noise, times = run._draw(run._rows())
        assert low <= int((labels == run.null).sum()) <= high
        assert set(labels.tolist()) - {run.null} == {0, 1}
        assert (int(times.min()), int(times.max())) >= (0, 990)
        assert float(noise.std()) == pytest.approx(1, abs=0.02)


def test_learning_rate() -> None:
    def rates(**changes: Any) -> list[float]:
        run = training(replace(TINY, lr=1.0, **changes))
        return [_at(run, step) for step in range(6)]

    def _at(run: DitTraining, step: int) -> float:
        run.step = step
        return run.rate()

    assert rates(warmup=0, schedule="constant") == [1.0] * 6
    assert rates(warmup=4, schedule="constant") == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert rates(warmup=2) == pytest.approx([0.5, 1.0, 1.0, 0.853553, 0.5, 0.146447], abs=1e-6)


def test_the_network_starts_as_dit_does_and_drops_no_class_by_itself() -> None:
    net = build_dit(TINY, latent=SHAPE, classes=2, seed=0).train()
    x, times, labels = torch.randn(4, *SHAPE), torch.tensor([0, 10, 500, 999]), torch.tensor([0, 1, 1, 1000])
    assert net.config.num_embeds_ada_norm == 1000
    assert float(net(x, timestep=times, class_labels=labels).sample.detach().abs().max()) == 0
    torch.nn.init.normal_(net.proj_out_2.weight)
    for block in net.transformer_blocks:
        torch.nn.init.normal_(block.norm1.linear.weight)
    first, second = (net(x, timestep=times, class_labels=labels).sample for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize(
    ("side", "patch", "expected"), [(4, 0, 1), (3, 0, 1), (8, 0, 2), (7, 0, 1), (4, 2, 2), (8, 4, 4)]
)
def test_patch(side: int, patch: int, expected: int) -> None:
    net = build_dit(replace(TINY, patch=patch), latent=(1, side, side), classes=2, seed=0)
    assert net.config.patch_size == expected
    assert (net.config.sample_size, net.config.in_channels, net.config.out_channels) == (side, 1, 1)


def test_latents_that_do_not_fit() -> None:
    with pytest.raises(UserError, match="4×4 cells do not divide into patches of 3"):
        build_dit(replace(TINY, patch=3), latent=SHAPE, classes=2, seed=0)
    with pytest.raises(UserError, match="--batch 6: expected a multiple of --workers 4"):
        training(world=4)


def test_loss_that_is_not_finite_ends_it() -> None:
    broken = Latents([np.full((4, *SHAPE), np.inf, np.float16)], "cpu")
    with pytest.raises(RaycondError, match=r"the loss is nan after 2 of 6 steps; a smaller lr than 0.01"):
        list(training(latents=broken).run())


def test_mapped_latents_are_those_in_memory(tmp_path: Path) -> None:
    parts = [torch.randn(n, *SHAPE, generator=torch.Generator().manual_seed(n)) for n in (3, 5, 1)]
    uris = tuple(str(tmp_path / f"{k}.npy") for k in range(3))
    for uri, part in zip(uris, parts, strict=True):
        Path(uri).write_bytes(to_bytes(part))
    found = ArrayFiles(uris, (3, 5, 1), SHAPE)
    assert found.bytes(2) == 2 * 9 * 32
    rows = torch.tensor([8, 0, 2, 3, 7, 3])
    for in_memory in (0, found.bytes(2)):
        latents = Latents.open(found, "cpu", in_memory)
        assert len(latents) == 9
        values, labels = latents.take(rows)
        assert labels.tolist() == [2, 0, 0, 1, 1, 1]
        assert torch.equal(values, torch.cat(parts).half().float()[rows])


# ---- several workers


def _worker(rank: int, world: int, folder: str, stop: int) -> None:
    run = training(rank=rank, world=world)
    states: dict[int, bytes] = {}
    for step in run.run():
        states[step] = run.state()
    again = training(rank=rank, world=world)
    again.load(states[stop])
    list(again.run())
    Path(folder, f"{rank}.whole").write_bytes(states[6])
    Path(folder, f"{rank}.resumed").write_bytes(again.state())


def _shared(folder: Path, world: int) -> list[bytes]:
    """States of every rank: of an undisturbed training, and of one that went on from its second step."""
    in_workers(_worker, folder, world, 2)
    return [(folder / f"{rank}.{kind}").read_bytes() for kind in ("whole", "resumed") for rank in range(world)]


@pytest.mark.parametrize("world", [2, 3])
def test_workers_share_a_batch(tmp_path: Path, world: int) -> None:
    found = _shared(tmp_path, world)
    assert len(set(found)) == 1  # every rank has the same state, interrupted or not
    alone, together = finished(trained()), finished(found[0])
    assert [loss for _, loss in together[1]] == pytest.approx([loss for _, loss in alone[1]], rel=1e-4)
    for name, value in alone[0].items():
        assert _close(value, together[0][name]), name


def _close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.gpu
def test_a_training_interrupted_on_cuda_goes_on_to_the_same_bytes() -> None:
    def run() -> DitTraining:
        parts = [np.random.default_rng(k).normal(size=(10, *SHAPE)).astype(np.float16) for k in range(2)]
        return DitTraining(TINY, Latents(parts, "cuda"), classes=2, seed=0, device="cuda")

    whole = run()
    states = {step: whole.state() for step in whole.run()}
    again = run()
    again.load(states[2])
    assert list(again.run()) == [4, 6]
    assert again.state() == whole.state()
