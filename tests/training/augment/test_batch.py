"""What every augmentation must do, whatever it changes."""

from __future__ import annotations

import pytest
import torch

from raycond.training.augment.draws import on_host
from tests.training.augment.make import CHANGES, SameDraws, generator, images

every_change = pytest.mark.parametrize("name", CHANGES)
SHARED = ("cutmix", "cutmix-0.2", "mixup")  # one draw a batch
SHAPES = [(1, 3, 8, 8), (5, 3, 9, 13), (4, 1, 28, 28), (3, 1, 1, 8)]
RAISES = {("lighting", SHAPES[2]), ("lighting", SHAPES[3]), ("shuffle", SHAPES[3])}  # tested with each


@pytest.mark.parametrize(("name", "shape"), [(n, s) for n in CHANGES for s in SHAPES if (n, s) not in RAISES], ids=str)
def test_keeps_shape_dtype_and_input_and_follows_the_generator(name: str, shape: tuple[int, ...]) -> None:
    change, x = CHANGES[name], images(*shape)
    before = x.clone()
    first = change(x, generator(1))
    assert first.shape == x.shape
    assert first.dtype == x.dtype
    assert bool(torch.isfinite(first).all())
    assert torch.equal(first, change(x, generator(1)))
    assert torch.equal(x, before)
    x[:] = 2  # the result must not be a view of the input
    assert not bool((first == 2).any())


@every_change
def test_memory_layout_changes_no_value(name: str) -> None:
    x = images()
    last = x.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(CHANGES[name](last, generator(1)), CHANGES[name](x, generator(1)), rtol=0, atol=1e-6)


@every_change
def test_another_state_gives_another_result(name: str) -> None:
    x, g = images(), generator()
    results = [CHANGES[name](x, g) for _ in range(6)]
    assert any(not torch.equal(results[0], r) for r in results[1:])


@every_change
def test_images_of_a_batch_have_their_own_draws_unless_shared(name: str) -> None:
    same = images(1).expand(32, -1, -1, -1)
    out = CHANGES[name](same, generator(3))
    different = len({image.contiguous().numpy().tobytes() for image in out})
    assert (different == 1) == (name in SHARED or name.endswith("-shared"))


@every_change
def test_gradients_reach_the_images(name: str) -> None:
    x = 0.3 + 0.2 * images(4, 3, 6).double()  # away from the clamps of jitter, where the slope jumps
    x.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: CHANGES[name](z, generator(2)), (x,), fast_mode=True)


@pytest.mark.gpu
@every_change
def test_runs_on_cuda_and_repeats_there(name: str) -> None:
    x = images().cuda()
    first = CHANGES[name](x, generator(1, "cuda"))
    assert first.device == x.device
    assert torch.equal(first, CHANGES[name](x, generator(1, "cuda")))
    g = generator(0, "cuda")
    results = [CHANGES[name](x, g) for _ in range(6)]
    assert any(not torch.equal(results[0], r) for r in results[1:])


@pytest.mark.gpu
@every_change
def test_does_on_cuda_what_it_does_on_the_cpu(name: str) -> None:
    x = images()
    with SameDraws():
        expected, actual = CHANGES[name](x, generator()), CHANGES[name](x.cuda(), generator(0, "cuda"))
    torch.testing.assert_close(actual.cpu(), expected, rtol=0, atol=1e-5)


@every_change
def test_same_draws_are_draws(name: str) -> None:
    x, g = images(), generator(7)
    with SameDraws():
        first, second = CHANGES[name](x, g), CHANGES[name](x, g)
    assert torch.equal(first, second)
    assert bool(torch.isfinite(first).all())


@pytest.mark.gpu
def test_host_draws_follow_a_cuda_generator() -> None:
    def draw(g: torch.Generator) -> float:
        return float(torch.rand((), generator=on_host(g)))

    g = generator(5, "cuda")
    draws = [draw(g) for _ in range(4)]
    assert len(set(draws)) == 4
    again = generator(5, "cuda")
    assert [draw(again) for _ in range(4)] == draws


def test_host_draws_of_a_cpu_generator_are_its_own() -> None:
    g = generator()
    assert on_host(g) is g
