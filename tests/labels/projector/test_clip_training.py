from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from raycond.core.errors import UserError
from raycond.labels.projector.clip_training import MAX_SCALE, ClipTraining, gathered, model_config, tokens, weights
from raycond.labels.projector.network import Projector, ProjectorOptions
from raycond.labels.projector.options import ClipTrainingConfig
from raycond.models.clip import open_clip_model, save_clip
from tests.labels.images import CLASSES, pixels, rows
from tests.support.distributed import in_workers

RESNET = ClipTrainingConfig(
    tower="resnet",
    image_size=32,
    width=8,
    layers=1,
    embed=16,
    text_width=16,
    text_layers=1,
    context=12,
    epochs=2,
    batch=16,
    lr=5e-3,
    scale=None,
    log_every=2,
    precision="float32",
)
VIT = replace(RESNET, tower="vit", image_size=8, patch=4, width=16, head_width=8)
TEXTS = tuple((f"a photo of a {name}.", f"the {name}.") for name in CLASSES.names)
IMAGES = pixels()


def training(config: ClipTrainingConfig = VIT, **options: Any) -> ClipTraining:
    return ClipTraining(config, IMAGES, rows(IMAGES), TEXTS, seed=0, device="cpu", **options)


@pytest.mark.parametrize(
    ("config", "right"),
    [(RESNET, 0.0), (replace(VIT, epochs=40, lr=1e-3, warmup=10, log_every=20), 0.9)],
    ids=["resnet", "vit"],
)
def test_a_trained_clip_is_one_that_open_clip_model_opens(
    config: ClipTrainingConfig, right: float, tmp_path: Path
) -> None:
    run = training(config)
    list(run.run())
    assert run.loss < run.curve[0][1]
    statistics = {"mean": run.mean * 3, "std": run.std * 3}
    save_clip(str(tmp_path), model_config(config), weights(run.state()), **statistics)
    clip = open_clip_model(str(tmp_path), device="cpu")
    images, labels = IMAGES.take(rows(IMAGES))
    options = ProjectorOptions(conv_rank=0, templates=("a photo of a {}.",))
    zero_shot = Projector(clip, CLASSES, options)(images)
    assert float((zero_shot.argmax(1) == labels).float().mean()) >= right
    # what the projector says is what was trained, to the letter
    run.net.eval()
    with torch.no_grad():
        seen, said, scale = run.net(_prepared(run), run.texts[:, 0])
    assert torch.allclose(zero_shot, scale * seen @ said.T, atol=1e-3)


def _prepared(run: ClipTraining) -> torch.Tensor:
    images = IMAGES.take(rows(IMAGES))[0]
    side = run.config.image_size
    if images.shape[-1] != side:
        images = F.interpolate(images, (side, side), mode="bicubic", align_corners=False).clamp(0, 1)
    return ((images - run._mean) / run._std).expand(-1, 3, -1, -1)


def test_loss_of_several_right_answers() -> None:
    """Against the formula, written out."""
    run = training()
    images, labels = run._images(torch.arange(16))
    run.step = 0
    loss = run.loss_of(torch.arange(16))
    # the captions of step 0 are one of four pairs
    seen, said, scale = run.net(images, run.texts.flatten(0, 1))
    logits = scale * seen @ said.T
    found = []
    for left in (0, 1):
        for right in (2, 3):
            picked = logits[:, [left, right]]
            to_text = F.cross_entropy(picked, labels)
            to_images = [-picked[:, k].log_softmax(0)[labels == k].mean() for k in range(2) if (labels == k).any()]
            found.append((0.5 * (to_text + sum(to_images) / len(to_images))).item())
    assert min(abs(value - loss.item()) for value in found) < 1e-5


def test_interrupted_training_goes_on_to_the_same_bytes() -> None:
    whole = training(RESNET)
    list(whole.run())
    run = training(RESNET)
    state = next(run.state() for step in run.run() if step == 2)
    again = training(RESNET)
    again.load(state)
    list(again.run())
    assert again.state() == whole.state()


def test_logit_scale_is_bounded() -> None:
    run = training()
    with torch.no_grad():
        run.net.logit_scale.fill_(9.0)  # type: ignore[operator, union-attr]
    run.loss_of(torch.arange(16))
    assert run.net.logit_scale.item() == pytest.approx(MAX_SCALE)  # type: ignore[arg-type]


def test_captions_that_are_too_long() -> None:
    config = model_config(VIT)
    fitting = tokens((("a photo of the left one , a b c",),), {**config, "text_cfg": {**config["text_cfg"]}})
    assert fitting.shape == (1, 1, 12)
    assert int((fitting != 0).sum()) == 12  # exactly as long as it may be
    with pytest.raises(UserError, match="clip_training, context: 'a b c d e f g h i j k' has more than 12 tokens"):
        tokens((("a b c d e f g h i j k",),), config)


# ---- several workers


def _worker(rank: int, world: int, folder: str) -> None:
    run = training(rank=rank, world=world)
    list(run.run())
    Path(folder, f"{rank}.state").write_bytes(run.state())


def test_workers_have_the_loss_and_gradients_of_one(tmp_path: Path) -> None:
    in_workers(_worker, tmp_path, 2)
    first, second = ((tmp_path / f"{rank}.state").read_bytes() for rank in (0, 1))
    assert first == second
    alone = training()
    list(alone.run())
    together = training()
    together.load(first)
    assert [loss for _, loss in together.curve] == pytest.approx([loss for _, loss in alone.curve], rel=1e-3)
    for name, value in weights(alone.state()).items():
        assert torch.allclose(value, weights(first)[name], rtol=0.05, atol=5e-3), name


def test_alone_nothing_is_gathered() -> None:
    features, labels = torch.ones(2, 3), torch.zeros(2)
    assert gathered(features, labels, 1) == (features, labels)
