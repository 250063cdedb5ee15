from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from raycond.core.errors import UserError
from raycond.labels.projector.options import TeacherConfig
from raycond.labels.projector.weak_teachers import (
    Teachers,
    TeacherTraining,
    centred,
    centred_mean,
    checkpoint,
    identities,
    kept_steps,
    mean_probability,
    rescaled_mean,
    spec_of,
)
from raycond.labels.teacher import open_teacher
from tests.labels.images import CLASSES, pixels, rows

CONFIG = TeacherConfig(
    network="convnet3-w8-bn", keep=(1, 2.5, 4), batch=16, lr=0.05, log_every=4, scale=None, shift=0.1
)
IMAGES = pixels()


def training(folder: Path, **options: Any) -> TeacherTraining:
    return TeacherTraining(CONFIG, IMAGES, rows(IMAGES), folder=str(folder), seed=0, device="cpu", **options)


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teachers")
    run = training(folder)
    assert list(run.run()) == [3, 4, 7, 8, 11]  # the curve's and the checkpoints'
    return folder


def specs(folder: Path) -> list[str]:
    mean, std = IMAGES.statistics(rows(IMAGES))
    return [spec_of(CONFIG.network, checkpoint(str(folder), epoch), 8, mean, std) for epoch in CONFIG.keep]


def test_checkpoints_are_teachers_that_get_better(whole: Path) -> None:
    assert list(files_of(whole)) == [f"epoch-{epoch}.safetensors" for epoch in ("001.00", "002.50", "004.00")]
    images, labels = IMAGES.take(rows(IMAGES))
    right = []
    for spec in specs(whole):
        logits = open_teacher(spec, classes=CLASSES, device="cpu")(images)
        right.append(float((logits.argmax(1) == labels).float().mean()))
    assert right[-1] == 1.0
    losses = [
        torch.nn.functional.cross_entropy(open_teacher(s, classes=CLASSES, device="cpu")(images), labels)
        for s in specs(whole)
    ]
    assert losses[-1] < losses[0]


def test_a_teacher_is_the_network_that_was_trained(tmp_path: Path) -> None:
    run = training(tmp_path)
    list(run.run())
    images, _ = IMAGES.take(torch.arange(5))
    with torch.no_grad():
        expected = run.net.eval()((images - run._mean) / run._std)
    found = open_teacher(specs(tmp_path)[-1], classes=CLASSES, device="cpu")(images)
    assert torch.allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("stop", [3, 4, 8])
def test_interrupted_training_writes_the_same_checkpoints(whole: Path, tmp_path: Path, stop: int) -> None:
    run = training(tmp_path)
    state = next(run.state() for step in run.run() if step == stop)
    again = training(tmp_path)
    again.load(state)
    list(again.run())
    assert files_of(tmp_path) == files_of(whole)


def test_only_the_first_worker_writes(tmp_path: Path) -> None:
    run = training(tmp_path)
    run.rank = 1
    run.step = 3
    run.reached()
    assert not list(tmp_path.iterdir())


def test_centred_mean_knows_nothing_of_offsets() -> None:
    one, two = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    expected = rescaled_mean([centred(one), centred(two)])
    assert torch.allclose(centred_mean([one, two + 7]), expected, atol=1e-5)
    assert torch.allclose(expected.sum(1), torch.zeros(4), atol=1e-5)


def test_rescaled_mean() -> None:
    weak, sure = torch.tensor([[0.3, 0.4]]), torch.tensor([[-3.0, 4.0]])
    # norms 0.5 and 5, their mean 2.75
    expected = torch.tensor([[(0.3 * 5.5 - 3 * 0.55) / 2, (0.4 * 5.5 + 4 * 0.55) / 2]])
    assert torch.allclose(rescaled_mean([weak, sure]), expected)
    assert torch.equal(rescaled_mean([weak]), weak)
    assert torch.isfinite(rescaled_mean([torch.zeros(1, 2), sure])).all()


def test_mean_probability() -> None:
    weak, sure = torch.tensor([[0.0, 0.0]]), torch.tensor([[-30.0, 30.0]])
    assert torch.allclose(mean_probability([weak, sure]).exp(), torch.tensor([[0.25, 0.75]]))
    assert torch.allclose(mean_probability([sure]).softmax(1), sure.softmax(1))


def test_epochs_that_are_one_step() -> None:
    assert kept_steps(CONFIG, 45) == {3: 1, 7: 2.5, 11: 4}
    with pytest.raises(UserError, match=r"--keep 1 2.5: both are step 1 of the teacher's training on 8 images"):
        kept_steps(CONFIG, 8)


def parts(seeds: tuple[int, ...]) -> list[tuple[Tensor, torch.Generator]]:
    images = IMAGES.take(torch.arange(4 * len(seeds)))[0].split(4)
    return [(part, torch.Generator().manual_seed(seed)) for part, seed in zip(images, seeds, strict=True)]


def test_teachers_together_and_one_at_a_time(whole: Path) -> None:
    mean = Teachers(specs(whole), classes=CLASSES, device="cpu")
    drawn = Teachers(specs(whole), classes=CLASSES, device="cpu", combine="sample")
    probable = Teachers(specs(whole), classes=CLASSES, device="cpu", targets="probabilities")
    images = IMAGES.take(torch.arange(4))[0]
    expected = torch.stack([member(images).softmax(1) for member in mean.members]).mean(0)
    assert torch.allclose(probable.together(images).softmax(1), expected, atol=1e-5)
    seeds = tuple(range(8))
    together, one = mean(parts(seeds)), drawn(parts(seeds))
    chosen = set()
    for k, (images, _) in enumerate(parts(seeds)):
        of_part = slice(4 * k, 4 * k + 4)
        assert torch.allclose(together[of_part], mean.together(images), atol=1e-5)
        near = [torch.allclose(one[of_part], member(images), atol=1e-5) for member in mean.members]
        assert sum(near) == 1
        chosen.add(near.index(True))
    assert len(chosen) > 1
    assert torch.equal(drawn(parts(seeds)), one)


def test_identities(whole: Path) -> None:
    found = identities(specs(whole), CLASSES)
    assert {one["name"] for one in found} == {"convnet3-w8-bn"}
    assert len({one["sha256"] for one in found}) == 3
    with pytest.raises(UserError, match="--teachers: one of them is given twice"):
        identities([specs(whole)[0]] * 2, CLASSES)
