from __future__ import annotations

import urllib.error
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from raycond.core.errors import UserError
from raycond.data.classes import Classes
from raycond.data.images import load
from raycond.data.refs import ImageRef
from raycond.labels import teacher
from raycond.labels.teacher import describe, open_teacher
from raycond.models import checkpoint, students

THREE = Classes.of(("a", "b", "c"))
NUMBERS = (1440764, 2102040, 2979186, 3000684, 3028079, 3394916, 3417042, 3425413, 3445777, 3888257)
NETTE = Classes.of(f"n{number:08d}" for number in NUMBERS)
NETTE_INDEX = (0, 217, 482, 491, 497, 566, 569, 571, 574, 701)


def student(name: str, classes: int, size: int, channels: int = 3) -> nn.Module:
    torch.manual_seed(5)
    return students.build(name, classes=classes, size=size, channels=channels).eval()


def saved(folder: Path, name: str, classes: int, size: int, channels: int = 3) -> tuple[str, nn.Module]:
    net = student(name, classes, size, channels)
    file = folder / "weights.safetensors"
    save_file({k: v.contiguous() for k, v in net.state_dict().items()}, file)
    return str(file), net


def pictures(n: int, size: int, channels: int = 3) -> Tensor:
    return torch.rand(n, channels, size, size, generator=torch.Generator().manual_seed(size))


def test_logits_of_a_student(tmp_path: Path) -> None:
    file, net = saved(tmp_path, "convnet3-w8", 3, 16)
    found = open_teacher(f"convnet3-w8@{file},mean=0.4+0.5+0.6,std=0.25", classes=THREE, device="cpu")
    x = pictures(5, 16)
    with torch.no_grad():
        expected = net((x - torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1)) / 0.25)
    logits = found(x)
    assert (logits.shape, logits.dtype, logits.requires_grad) == ((5, 3), torch.float32, False)
    torch.testing.assert_close(logits, expected)
    torch.testing.assert_close(found((x * 255).round().to(torch.uint8)), expected, rtol=0, atol=0.05)
    assert found.name == "convnet3-w8"
    assert not any(p.requires_grad for p in found.parameters())


def test_its_own_image_size_and_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, net = saved(tmp_path, "resnet18", 3, 32)
    found = open_teacher(f"resnet18@{file},size=32", classes=THREE, device="cpu")
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in teacher.IMAGENET)
    for size, antialias in ((16, False), (50, True), (32, False)):
        x = pictures(4, size)
        with torch.no_grad():
            expected = net((F.interpolate(x, (32, 32), mode="bilinear", antialias=antialias) - mean) / std)
        torch.testing.assert_close(found(x), expected, rtol=1e-4, atol=1e-4)
    monkeypatch.setitem(teacher.CHUNK_PIXELS, "cpu", 2 * 32**2)
    seen: list[int] = []
    found.net.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    torch.testing.assert_close(found(x[[0, 1, 2, 3, 0]]), expected[[0, 1, 2, 3, 0]], rtol=1e-4, atol=1e-4)
    assert seen == [2, 2, 1]


def test_images_of_another_size_do_not_fit_a_student_without_size(tmp_path: Path) -> None:
    file, _ = saved(tmp_path, "convnet3-w8", 3, 16)
    found = open_teacher(f"convnet3-w8@{file},mean=0,std=1", classes=THREE, device="cpu")
    found(pictures(1, 16))
    with pytest.raises(UserError, match=r"another shape than convnet3-w8 for 3x32x32.*classifier.weight(.|\n)*size="):
        found(pictures(1, 32))


def test_grey_images_and_grey_networks(tmp_path: Path) -> None:
    file, net = saved(tmp_path, "convnet3-w8", 3, 16)
    found = open_teacher(f"convnet3-w8@{file},mean=0.5,std=0.5", classes=THREE, device="cpu")
    x = pictures(2, 16, channels=1)
    torch.testing.assert_close(found(x), net(x.repeat(1, 3, 1, 1) * 2 - 1).detach())
    (tmp_path / "grey").mkdir()
    file, net = saved(tmp_path / "grey", "convnet3-w8", 3, 16, channels=1)
    found = open_teacher(f"convnet3-w8@{file},mean=0.5,std=0.5", classes=THREE, device="cpu")
    torch.testing.assert_close(found(x), net(x * 2 - 1).detach())
    with pytest.raises(UserError, match="takes 1 channels, and the images have 3"):
        found(pictures(2, 16))
    with pytest.raises(UserError, match="mean has 3 numbers; expected 1"):
        describe(f"convnet3-w8@{file},mean=1+1+1,std=1", THREE)


def test_an_mlp_learns_its_channels_from_the_images(tmp_path: Path) -> None:
    file, net = saved(tmp_path, "mlp-w8", 3, 8, channels=1)
    x = pictures(2, 8, channels=1)
    for size in ("", ",size=8"):
        found = open_teacher(f"mlp-w8@{file},mean=0,std=1{size}", classes=THREE, device="cpu")
        torch.testing.assert_close(found(x), net(x).detach())


@pytest.mark.parametrize("form", ["half", "pt", "state_dict", "model", "parallel"])
def test_forms_of_state_dicts(tmp_path: Path, form: str) -> None:
    state = student("convnet3-w8", 3, 16).half().state_dict()
    file = tmp_path / ("w.safetensors" if form == "half" else "w.pth")
    if form == "half":
        save_file(state, file)
    elif form == "pt":
        torch.save(state, file)
    elif form == "parallel":
        torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}}, file)
    else:
        torch.save({form: state, "epoch": 3}, file)
    net = student("convnet3-w8", 3, 16)
    net.load_state_dict({k: v.float() for k, v in state.items()})
    found = open_teacher(f"convnet3-w8@{file},mean=0,std=1", classes=THREE, device="cpu")
    assert found(pictures(2, 16)).dtype == torch.float32
    torch.testing.assert_close(found(pictures(2, 16)), net(pictures(2, 16)).detach())


def test_always_eval_without_gradient_and_autocast_and_no_seed_is_moved(tmp_path: Path) -> None:
    file, _ = saved(tmp_path, "resnet18", 3, 32)
    torch.manual_seed(11)
    before = torch.random.get_rng_state()
    found = open_teacher(f"resnet18@{file},size=32", classes=THREE, device="cpu")
    assert torch.equal(torch.random.get_rng_state(), before)
    x = pictures(3, 32)
    expected, statistics = found(x), found.net.state_dict()
    found.train()
    with torch.autocast("cpu", torch.bfloat16):
        again = found(x.clone().requires_grad_())
    assert torch.equal(again, expected)
    assert not again.requires_grad
    assert all(torch.equal(v, statistics[k]) for k, v in found.net.state_dict().items())
    (expected + torch.zeros(3, 3, requires_grad=True)).square().sum().backward()  # may take part in a loss


def test_digest_is_of_the_weights_and_what_changes_a_logit(tmp_path: Path) -> None:
    file, _ = saved(tmp_path, "convnet3-w8", 3, 16)
    copy = tmp_path / "elsewhere.safetensors"
    copy.write_bytes(Path(file).read_bytes())
    base = describe(f"convnet3-w8@{file},mean=0,std=1", THREE).digest
    assert describe(f"convnet3-w8@{copy},std=1,mean=0", THREE).digest == base
    assert open_teacher(f"convnet3-w8@{file},mean=0,std=1", classes=THREE, device="cpu").digest == base
    others = [describe(f"convnet3-w8@{file},mean=0,std=1{o}", THREE).digest for o in (",size=16", ",outputs=2+1+0")] + [
        describe(f"convnet3-w8@{file},mean=0.1,std=1", THREE).digest
    ]
    copy.write_bytes(Path(file).read_bytes()[:-4] + b"\0\0\0\0")
    others.append(describe(f"convnet3-w8@{copy},mean=0,std=1", THREE).digest)
    assert len({base, *others}) == 5


def test_outputs_in_class_order(tmp_path: Path) -> None:
    file, net = saved(tmp_path, "convnet3-w8", 5, 16)
    found = open_teacher(f"convnet3-w8@{file},mean=0,std=1,outputs=4+0+2", classes=THREE, device="cpu")
    x = pictures(2, 16)
    torch.testing.assert_close(found(x), net(x).detach()[:, [4, 0, 2]])
    with pytest.raises(UserError, match=r"5 outputs and 3 classes \(a, b, c\): say which .*outputs="):
        describe(f"convnet3-w8@{file},mean=0,std=1", THREE)
    for wrong in ("0+1", "0+1+5", "0+1+1", "0+1+x", "0+1+2+3"):
        with pytest.raises(UserError, match=r"expected 3 different numbers from 0 to 4 .*a, b, c"):
            describe(f"convnet3-w8@{file},mean=0,std=1,outputs={wrong}", THREE)


def test_outputs_of_imagenet_by_wordnet_id(tmp_path: Path) -> None:
    file, _ = saved(tmp_path, "convnet3-w8", 1000, 16)
    where = f"convnet3-w8@{file},mean=0,std=1"
    assert describe(where, NETTE).outputs == NETTE_INDEX
    assert describe(where, Classes.of(reversed(NETTE.ids))).outputs == NETTE_INDEX[::-1]
    with pytest.raises(UserError, match=r"1000 outputs and 3 classes .*not WordNet ids of ImageNet-1K"):
        describe(where, THREE)
    with pytest.raises(UserError, match="not WordNet ids of ImageNet-1K"):
        describe(where, Classes.of(("n01440764", "n99999999")))
    assert describe(where, Classes.of(map(str, range(1000)))).outputs == tuple(range(1000))


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("", "expected NAME or NAME@FILE"),
        ("resnet18@", "expected NAME or NAME@FILE"),
        ("resnet19", r"teacher resnet19: student 'resnet19' is not known(.|\n)*resnet18"),
        ("convnet3", "teacher convnet3: has no published weights; give a file: convnet3@FILE"),
        ("resnet18@x,colour=3", "colour is not an option; options are mean, std, size, outputs"),
        ("resnet18@x,size=big", "size=big: expected a whole number above 0"),
        ("resnet18@x,mean=a+b", "mean=a[+]b: expected a number, or one a channel"),
        ("resnet18@/none/w.pth", "/none/w.pth: cannot be read: No such file"),
        ("convnet3@/none/w.pth", "teacher convnet3: give mean= and std="),
    ],
)
def test_wrong_teachers(where: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        describe(where, THREE)


def test_files_of_something_else(tmp_path: Path) -> None:
    file, net = saved(tmp_path, "convnet3-w8", 3, 16)
    with pytest.raises(UserError, match=r"not of this network: it has no fc.weight, but .*… \d+ more"):
        describe(f"resnet18@{file}", THREE)
    with pytest.raises(UserError, match=r"it lacks features.12.weight, .* and it has features.1.bias"):
        describe(f"convnet4-w8-nonorm@{file},mean=0,std=1,size=16", THREE)
    with pytest.raises(UserError, match="another shape than convnet3-w16"):
        describe(f"convnet3-w16@{file},mean=0,std=1,size=16", THREE)
    with pytest.raises(UserError, match=r"std must be above 0, not 0\.0"):
        describe(f"convnet3-w8@{file},mean=0,std=0", THREE)
    state = net.state_dict()
    del state["classifier.bias"]
    torch.save(state, tmp_path / "less.pt")
    with pytest.raises(UserError, match=r"it lacks classifier.bias$"):
        describe(f"convnet3-w8@{tmp_path}/less.pt,mean=0,std=1,size=16", THREE)
    torch.save({"epoch": 3}, tmp_path / "none.pt")
    (tmp_path / "noise.pt").write_bytes(b"not a checkpoint")
    (tmp_path / "noise.safetensors").write_bytes(b"not a checkpoint")
    for name in ("none.pt", "noise.pt", "noise.safetensors"):
        with pytest.raises(UserError, match=f"{name}: expected a state dict"):
            describe(f"convnet3-w8@{tmp_path}/{name},mean=0,std=1", THREE)


def test_nothing_in_a_file_is_run(tmp_path: Path) -> None:
    target = tmp_path / "ran"

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (target,)

    torch.save({"classifier.weight": Bomb()}, tmp_path / "w.pth")
    with pytest.raises(UserError, match="expected a state dict"):
        describe(f"convnet3@{tmp_path}/w.pth,mean=0,std=1", THREE)
    assert not target.exists()


def test_published_weights_from_torch_hubs_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import models

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    weights = models.SqueezeNet1_1_Weights.DEFAULT
    file = tmp_path / "checkpoints" / weights.url.rsplit("/", 1)[1]

    def offline(url: str, *_: object, **__: object) -> None:
        raise urllib.error.URLError(f"no network for {url}")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(
        UserError, match=rf"squeezenet1_1: {file.name} is not in {file.parent} and .*no network.*put https:.* there"
    ):
        describe("squeezenet1_1", NETTE)
    net = student("squeezenet1_1", 1000, 224)
    torch.save(net.state_dict(), file)
    found = describe("squeezenet1_1,size=64", NETTE)
    assert (found.mean, found.std, found.size) == (*teacher.IMAGENET, 64)
    found = describe("squeezenet1_1", NETTE)
    assert (found.size, found.count, found.outputs) == (224, 1000, NETTE_INDEX)
    assert found.label == "squeezenet1_1:IMAGENET1K_V1, 10 of its 1000 classes"
    assert describe("squeezenet1_1:IMAGENET1K_V1", NETTE) == found
    with pytest.raises(UserError, match="squeezenet1_1: has no weights IMAGENET1K_V9; it has IMAGENET1K_V1"):
        describe("squeezenet1_1:IMAGENET1K_V9", NETTE)
    with pytest.raises(UserError, match="give the name of weights or a file of weights, not both"):
        describe(f"squeezenet1_1:IMAGENET1K_V1@{file}", NETTE)
    assert describe(f"squeezenet1_1@{file}", NETTE).label == "squeezenet1_1, 10 of its 1000 classes"


def test_both_weights_of_a_network_have_names_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "_downloaded", lambda _, url: url.rsplit("/", 1)[1])
    found = {name: checkpoint.pretrained("resnet50", name) for name in ("DEFAULT", "IMAGENET1K_V1", "IMAGENET1K_V2")}
    assert found["DEFAULT"] == found["IMAGENET1K_V2"]
    assert found["IMAGENET1K_V1"].weights == "IMAGENET1K_V1"
    assert found["IMAGENET1K_V1"].file != found["DEFAULT"].file


def test_old_names_and_auxiliary_heads_of_published_weights(tmp_path: Path) -> None:
    old = "features.denseblock1.denselayer12"
    torch.save({f"{old}.norm.1.weight": torch.ones(2), f"{old}.conv.2.weight": torch.ones(2)}, tmp_path / "w.pth")
    assert sorted(checkpoint.read(str(tmp_path / "w.pth"))[0]) == [f"{old}.conv2.weight", f"{old}.norm1.weight"]
    torch.save(student("googlenet", 3, 64).state_dict() | {"aux1.fc1.weight": torch.zeros(1)}, tmp_path / "w.pth")
    assert describe(f"googlenet@{tmp_path}/w.pth,size=64", THREE).count == 3


@pytest.mark.slow
def test_mobilenet_on_real_images(real_weights: Path, real_data: Path) -> None:
    where = f"mobilenet_v2@{real_weights}/mobilenet_v2_imagenet.safetensors,mean=0.5,std=0.5"
    found = open_teacher(where, classes=NETTE, device="cpu")
    assert (found.description.size, found.description.outputs) == (224, NETTE_INDEX)
    folders = [real_data / "imagenette" / "val" / class_id for class_id in NETTE.ids]
    chosen = [(label, f) for label, folder in enumerate(folders) for f in sorted(folder.iterdir())[:10]]
    images = np.stack([load(ImageRef(f.name, 0, str(f)), size=224)[0] for _, f in chosen])
    logits = found(torch.from_numpy(images).permute(0, 3, 1, 2) / 255)
    right = (logits.argmax(1) == torch.tensor([label for label, _ in chosen])).float().mean()
    assert float(right) > 0.8


@pytest.mark.gpu
@pytest.mark.usefixtures("full_float32")
def test_cuda_gives_the_cpus_logits(tmp_path: Path) -> None:
    file, _ = saved(tmp_path, "resnet18", 3, 32)
    here, there = (open_teacher(f"resnet18@{file},size=32", classes=THREE, device=d) for d in ("cpu", "cuda"))
    for size in (16, 50, 32):
        x = pictures(4, size)
        actual = there(x)
        assert actual.is_cuda
        torch.testing.assert_close(actual.cpu(), here(x), rtol=1e-3, atol=1e-3)
