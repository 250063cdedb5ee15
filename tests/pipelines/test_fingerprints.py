"""Every option of every pipeline: the stages that are done again when it changes, and the options that change none.

An option that is left out of a fingerprint gives stale results after it was changed; one that is put into a fingerprint
without need repeats finished work. The tables are the list of what belongs where: a new option must be put into one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from raycond.core.options import options_of
from raycond.data.classes import Classes
from raycond.models import students
from raycond.pipelines.evaluate.config import GridConfig
from raycond.pipelines.evaluate.run import evaluate_grid
from raycond.pipelines.fit_projector.config import ProjectorConfig
from raycond.pipelines.fit_projector.run import fit_projector
from raycond.pipelines.kernel.config import KernelConfig
from raycond.pipelines.kernel.run import condense
from raycond.pipelines.match.config import MatchingConfig
from raycond.pipelines.match.run import match
from raycond.pipelines.quantize.config import QuantizeConfig
from raycond.pipelines.quantize.run import quantize
from raycond.pipelines.train_generator.config import GeneratorTrainingConfig
from raycond.pipelines.train_generator.run import train_generator
from tests.data.make import png
from tests.labels import clips
from tests.models.codecs.make import kl
from tests.models.generators import tiny
from tests.pipelines.evaluate import make as grids
from tests.pipelines.fit_projector import make as projectors
from tests.pipelines.kernel import make as kernels
from tests.pipelines.match import make as matched
from tests.pipelines.quantize import make as sets
from tests.pipelines.train_generator import make as generators
from tests.support.fingerprints import FinishedRun

# stages → options that change their fingerprints and no others, each with the value that it is changed to. Values that
# are made for the test stand as "…": see `made` in each test.
Table = dict[str, dict[str, Any]]

NOT_CHANGED = (
    "out",
    "runner",
)  # the place of the run itself; a runner that needs Ray: tests/runtime compares the bytes

QUANTIZE: Table = {
    "autoencoder, quantize, set": {
        "data": "…",
        "limit": 1,
        "val_share": 0.34,
        "resize": "squash",
        "interpolation": "bilinear",
        "seed": 1,
        "max_pixels": 10**6,
        "max_value": 4095,
    },
    "autoencoder, quantize": {"check_content": True},
    "autoencoder, quantize, generate, set": {"size": 16},
    "autoencoder, set": {
        "autoencoder.channels": 1,
        "autoencoder.images": 8,
        "autoencoder.latent_channels": 3,
        "autoencoder.widths": (8, 16),
        "autoencoder.layers": 2,
        "autoencoder.steps": 3,
        "autoencoder.batch": 5,
        "autoencoder.lr": 1e-3,
        "autoencoder.kl": 1e-4,
        "autoencoder.shift": 0.0,
    },
    "quantize, generate, set": {"codec": "pixels", "dtype": "bfloat16", "batch": 3, "ipc": (2,)},
    "quantize, set": {"posterior": "sample", "quantizer": "clvq", "restarts": 3, "cpus_per_actor": 2},
    "quantize": {"w2_classes": 0},
    "generate, set": {"output_size": 4, "image_format": "webp"},
    # medoids are made in any case, as a row of the evaluation
    "set": {"name": "other", "weights": "density", "generator": "medoid", "image_column": "x", "label_column": "x"},
    "evaluate, overlap, pixels": {"val": "…"},
    "evaluate": {"protocol": "…", "students": ("mlp-w8",), "seeds": (1,), "methods": ("uniform",)},
    # another set in the same folder; km_expand with another quantizer than its own
    "refused": {"classes": 1, "class_list": "…", "km_expand": 2},
    "": {
        "work": "…",
        "image_root": "/elsewhere",
        "evaluate": False,
        "allow_overlap": True,
        "max_bad": "5%",
        "generator_batch": 2,
        "actors": 2,
        "gpus_per_actor": 0,
        "classes_at_once": 2,
        "decode_threads": 3,
        "dashboard": False,
        "verbose": True,
    },
}
DIT: Table = {
    "generate, set": {
        "noise": 0.8,
        "guidance": 2.0,
        "steps": 5,
        "scheduler": "ddpm",
        "mode_guidance": 0.2,
        "mode_stop": 0.4,
        "class_map": "3+2+1+0",
        "recipe": "published",
        "guidance_channels": 2,
    },
    "": {"generator_batch": 2},
}
STABLE_DIFFUSION: Table = {"generate, set": {"strength": 0.8, "prompt": "a {name}", "negative_prompt": "b"}}

GENERATOR: Table = {
    "autoencoder, latents, write": {"data": "…", "limit": 3, "size": 16, "resize": "squash"},
    "autoencoder, latents": {"max_pixels": 10**6, "max_value": 4095, "check_content": True},
    "autoencoder, generator, write": {"seed": 1},
    "autoencoder, write": QUANTIZE["autoencoder, set"],
    "latents, write": {"posterior": "sample", "dtype": "bfloat16", "flip": True, "batch_encode": 3, "codec": "…"},
    "latents": {"cpus_per_worker": 2},
    "generator, write": {
        "width": 32,
        "layers": 2,
        "heads": 4,
        "patch": 2,
        "steps": 7,
        "batch": 6,
        "lr": 1e-3,
        "schedule": "cosine",
        "warmup": 1,
        "weight_decay": 0.1,
        "class_dropout": 0.2,
        "ema": 0.8,
        "clip": 2.0,
        "precision": "bfloat16",
        "log_every": 3,
    },
    "write": {"name": "other"},
    "refused": {"classes": 1, "class_list": "…"},
    "": {
        "image_root": "/elsewhere",
        "image_column": "x",
        "label_column": "x",
        "max_bad": "5%",
        "decode_threads": 3,
        "checkpoint_every": 3,
        "workers": 2,
        "gpus_per_worker": 0,
        "dashboard": False,
        "verbose": True,
    },
}

_TRAINING = {
    "optimizer": "adamw",
    "weight_decay": 0.1,
    "schedule": "constant",
    "warmup": 1,
    "clip": 2.0,
    "precision": "bfloat16",
    "log_every": 3,
    "scale": (0.4, 1.0),
    "shift": 0.1,
    "flip": True,
}
_CLIP = {
    **_TRAINING,
    "tower": "resnet",
    "image_size": 32,
    "width": 32,
    "layers": 2,
    "patch": 2,
    "head_width": 4,
    "embed": 8,
    "text_width": 32,
    "text_layers": 2,
    "text_heads": 4,
    "context": 12,
    "epochs": 3,
    "batch": 5,
    "lr": 0.01,
    "optimizer": "sgd",
}
PROJECTOR: Table = {
    "pixels of a class, write": {"data": "…", "limit": 9, "resize": "squash", "channels": 1},
    "pixels of a class": {"size": 12, "max_pixels": 10**6, "max_value": 4095, "check_content": True},
    "clip, write": {f"clip_training.{name}": value for name, value in _CLIP.items()},
    "clip, fit": {"templates": ["a {}"]},
    "clip, fit, teachers, write": {"seed": 1, "holdout": 1},
    "teachers, write": {
        "teacher_batch": 5,
        "teacher_lr": 0.01,
        "teacher.smoothing": 0.1,
        **{f"teacher.{name}": value for name, value in _TRAINING.items()},
    },
    "teachers": {"teacher_network": "mlp-w4"},
    "fit, teachers, write": {"keep": (1,)},
    "fit, write": {
        "clip": "…",
        "teachers": ["none"],
        "epochs": 4,
        "batch": 6,
        "lr": 0.01,
        "lambda": 0.2,
        "combine": "sample",
        "targets": "logits",
        "checks": 2,
        "patience": 2,
        "mix": "cutmix",
        "mix_beta": 0.5,
        "clip_norm": 2.0,
        **{name: value for name, value in _TRAINING.items() if name != "clip"},
        "optimizer": "sgd",
    },
    "fit": {"conv_rank": 3, "head_rank": 2, "layout": "peft", "head": "full"},
    "write": {"name": "other", "dtype": "int8"},
    "refused": {"classes": 1, "class_list": "…"},
    "": {
        "ipc": 4,
        "image_root": "/elsewhere",
        "image_column": "x",
        "label_column": "x",
        "max_bad": "5%",
        "decode_threads": 3,
        "checkpoint_every": 3,
        "workers": 2,
        "gpus_per_worker": 0,
        "cpus_per_worker": 2,
        "dashboard": False,
        "verbose": True,
    },
}

MATCH: Table = {
    "pixels of a class, set": {"resize": "squash", "max_pixels": 10**6, "max_value": 4095, "channels": 1},
    "pixels of a class, match, set": {"size": 16},
    # and then the decoded images, which were not made anew, do not fit what is listed
    "pixels of a class": {"data": "…", "limit": 8, "val_share": 0.2, "check_content": True},
    "match, medoids, set": {"seed": 1, "ipc": (2,)},
    "match, set": {
        "method": "dsa",
        "sampling": "random",
        "published": "imagenet-10",
        "network": "convnet3-w4",
        "iterations": 3,
        "factor": 1,
        "init": "first",
        "clusters": 3,
        "recluster": 2,
        "set": {"steps": 3},
        "normalization": "published",
        "parts": 2,
        "cpus_per_worker": 2,
    },
    "match": {"snapshots": 0},
    "set": {"name": "other", "image_format": "webp", "image_column": "x", "label_column": "x"},
    "evaluate": {"protocol": "…", "students": ("mlp-w4",), "curve": True},
    "evaluate, selection": {"seeds": (1,), "baselines": ("medoid",)},
    "evaluate, overlap, pixels": {"val": "…"},
    "refused": {"classes": 1, "class_list": "…"},  # another set in the same folder
    "": {
        "evaluate": False,
        "image_root": "/elsewhere",
        "allow_overlap": True,
        "max_bad": "5%",
        "workers": 2,
        "gpus_per_worker": 0,
        "checkpoint_every": 3,
        "decode_threads": 3,
        "dashboard": False,
        "verbose": True,
    },
}

GRID: Table = {
    "evaluate": {
        "sets": "…",
        "students": ("mlp-w8",),
        "protocol": "…",
        "set": {"steps": 6},
        "weights": ("uniform",),
        "baselines": ("full",),
        "scores": True,
    },
    "evaluate, selection": {"ipc": (3,), "seeds": (1,)},
    "agreement, evaluate": {"labeler": "…"},
    "evaluate, overlap, pixels": {"val": "…"},
    "evaluate, overlap, pixels, proxy": {"data": "…"},
    "evaluate, pixels, proxy": {"max_pixels": 10**6},
    "proxy": {"proxy_student": "mlp-w8", "proxy_nets": 2, "proxy_steps": 3},
    # beside --val; classes that are not the sets'; without --scores
    "refused": {"val_share": 0.2, "class_list": "…", "score_lrs": (0.1,), "full_accuracy": 50.0},
    "": {
        "image_root": "/elsewhere",
        "allow_overlap": True,
        "max_bad": "5%",
        "trials_at_once": 2,
        "gpus_per_trial": 0,
        "cpus_per_trial": 2,
        "dashboard": False,
        "verbose": True,
    },
}


KERNEL: Table = {
    "overlap, pixels, preprocessing, set": {"data": "…", "limit": 3},
    "krr, overlap, pixels, preprocessing, set": {"val_share": 0.34},
    "krr, overlap, pixels, preprocessing": {"check_content": True},
    "pixels, preprocessing, set": {
        "size": 5,
        "channels": 3,
        "resize": "squash",
        "max_pixels": 10**6,
        "max_value": 4095,
    },
    "preprocessing, set": {"preprocess": "standard", "zca_reg": 0.2, "layer_norm": False},
    "set, support": {
        "method": "ls",
        "kernel": "fc2",
        "activation": "erf",
        "head": "gap",
        "w_std": 1.0,
        "b_std": 0.2,
        "ipc": (2,),
        "targets": 16,
        "dtype": "float32",
        "seed": 1,
        "steps": 3,
        "lr": 0.01,
        "batch": 8,
        "learn_labels": True,
        "augment_share": 0.25,
        "augment_rotate": 5.0,
        "augment_shift": 0.1,
        "augment_flip": False,
        "augment_channel": 0.1,
    },
    "krr, set, support": {"reg": 1e-4, "raise_reg": True},
    "support": {"checks": 0},
    "set": {"name": "other", "image_column": "x", "label_column": "x"},
    "evaluate, krr, overlap, pixels": {"val": "…"},
    "evaluate": {"protocol": "…", "students": ("mlp-w8",), "methods": ("full",)},
    "evaluate, selection": {"seeds": (1,)},
    "refused": {"classes": 1, "class_list": "…"},
    "": {
        "image_root": "/elsewhere",
        "evaluate": False,
        "allow_overlap": True,
        "max_bad": "5%",
        "block": 3,
        "workers": 2,
        "gpus_per_worker": 0,
        "cpus_per_worker": 2,
        "checkpoint_every": 3,
        "decode_threads": 3,
        "dashboard": False,
        "verbose": True,
    },
}


def require_stages(base: FinishedRun, table: Table, copies: Path, made: dict[str, Any]) -> None:
    """Every option of a table changes the stages that it stands under.

    made: the values that stand as "…".
    """
    expected, found = {}, {}
    for stages, options in table.items():
        for name, value in options.items():
            expected[name] = set(stages.split(", ")) - {""}
            found[name] = base.stages(copies / name, {name: made[name] if value == "…" else value})
    assert found == expected


@pytest.mark.parametrize(
    ("kind", "tables"),
    [
        (QuantizeConfig, (QUANTIZE, DIT, STABLE_DIFFUSION)),
        (GeneratorTrainingConfig, (GENERATOR,)),
        (ProjectorConfig, (PROJECTOR,)),
        (MatchingConfig, (MATCH,)),
        (GridConfig, (GRID,)),
        (KernelConfig, (KERNEL,)),
    ],
)
def test_every_option_stands_in_a_table(kind: type, tables: tuple[Table, ...]) -> None:
    assert {one.name for one in options_of(kind)} - set(NOT_CHANGED) == {
        name for table in tables for options in table.values() for name in options
    }


@pytest.fixture(autouse=True)
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report is written in every run, and takes longer than to find everything else done."""
    for name in (
        "quantize.run.build_report",
        "quantize.run.write_report",
        "match.run.build_report",
        "match.run.keep_sheets",
    ):
        monkeypatch.setattr(f"raycond.pipelines.{name}", lambda *_: None)
    for name in ("kernel.run.build_report", "kernel.run.write_report"):
        monkeypatch.setattr(f"raycond.pipelines.{name}", lambda *_: None)
    for name in ("match.run.write_report", "evaluate.run.build_report", "evaluate.run.write_grid_report"):
        monkeypatch.setattr(f"raycond.pipelines.{name}", lambda *_: None)


def loadable(options: dict[str, Any], sections: dict[str, Any]) -> dict[str, Any]:
    """Options of which some are named SECTION.FIELD, as configurations are loaded from them."""
    given: dict[str, Any] = {}
    for name, value in options.items():
        section, _, field = name.partition(".")
        given[section] = {**sections[section], field: value} if field else value
    return given


def own_protocol(folder: Path, name: str, steps: int) -> str:
    (folder / f"{name}.yaml").write_text(f"base: quick\nname: {name}\nsteps: {steps}\n")
    return str(folder / f"{name}.yaml")


def unseen(folder: Path, first: int, classes: Sequence[str] = sets.CLASSES) -> str:
    """A folder of images that no training split has, to test on; `first` is the seed of the first."""
    for label, class_id in enumerate(classes):
        (folder / class_id).mkdir(parents=True)
        for k in range(2):
            (folder / class_id / f"{k}.png").write_bytes(png(first + 100 * label + k))
    return str(folder)


def other_order(folder: Path, class_ids: Sequence[str]) -> str:
    (folder / "classes.txt").write_text("\n".join(reversed(class_ids)))
    return str(folder / "classes.txt")


def test_quantize(tmp_path: Path) -> None:
    source = sets.data(tmp_path / "data", train=3, val=2)
    fixed = {"codec": "train", "autoencoder": generators.OPTIONS["autoencoder"], "ipc": (1,), "students": ("mlp-w4",)}
    fixed |= {
        "methods": ("weighted",),
        "protocol": own_protocol(tmp_path, "fast", 2),
        "val": unseen(tmp_path / "val", 5000),
    }
    evaluated = {"val", *QUANTIZE["evaluate"]}

    def run(out: str, options: dict[str, Any]) -> object:
        given = {**fixed, "evaluate": not options or bool(evaluated & set(options)), **loadable(options, fixed)}
        return quantize(sets.config(source, out, **given))

    made = {
        "data": str(sets.data(tmp_path / "more", train=4, val=2)),
        "val": unseen(tmp_path / "other", 7000),
        "class_list": other_order(tmp_path, sets.CLASSES),
        "work": str(tmp_path / "work"),
        "protocol": own_protocol(tmp_path, "slow", 3),
    }
    require_stages(FinishedRun(tmp_path / "base", run), QUANTIZE, tmp_path / "copies", made)


@pytest.mark.parametrize(("kind", "table"), [("dit", DIT), ("sd", STABLE_DIFFUSION)])
def test_diffusion(tmp_path: Path, kind: str, table: Table) -> None:
    source = sets.data(tmp_path / "data", train=2, val=1)
    pipeline = tiny.dit_pipeline(4) if kind == "dit" else tiny.sd_pipeline(tmp_path / "letters")
    where = tiny.saved(pipeline, tmp_path / "model", Classes(sets.CLASSES, sets.CLASSES))
    fixed = {"generator": f"{kind}:{where}", "codec": None, "size": 2 * tiny.SIDE, "steps": 4, "ipc": (1,)}
    if kind == "dit":
        fixed |= {"mode_guidance": 0.1, "noise": 0.9}

    def run(out: str, options: dict[str, Any]) -> object:
        return quantize(sets.config(source, out, **{**fixed, **options}))

    require_stages(FinishedRun(tmp_path / "base", run), table, tmp_path / "copies", {})


@pytest.mark.slow
def test_train_generator(tmp_path: Path) -> None:
    source = generators.data(tmp_path / "data", 4)

    def run(out: str, options: dict[str, Any]) -> object:
        return train_generator(generators.config(source, out, **loadable(options, generators.OPTIONS)))

    codec = kl(latent_channels=2)
    codec.save_pretrained(tmp_path / "kl")
    made = {"data": str(generators.data(tmp_path / "more", 5)), "codec": f"kl:{tmp_path}/kl"}
    made["class_list"] = other_order(tmp_path, generators.CLASSES)
    require_stages(FinishedRun(tmp_path / "base", run), GENERATOR, tmp_path / "copies", made)


@pytest.mark.slow
def test_fit_projector(tmp_path: Path) -> None:
    source = projectors.data(tmp_path / "data")

    def run(out: str, options: dict[str, Any]) -> object:
        given = loadable(options, projectors.OPTIONS)
        if given.get("clip_training", {}).get("tower") == "resnet":
            given["clip_training"]["image_size"] = 32
        return fit_projector(projectors.config(source, out, **given))

    made = {"data": str(projectors.data(tmp_path / "more", 11)), "clip": clips.saved(tmp_path / "clip")}
    made["class_list"] = other_order(tmp_path, projectors.CLASSES)
    require_stages(FinishedRun(tmp_path / "base", run), PROJECTOR, tmp_path / "copies", made)


def test_match(tmp_path: Path) -> None:
    source = matched.data(tmp_path / "data", train=9, val=2)
    fixed = {
        **matched.IDC,
        "iterations": 1,
        "ipc": (1,),
        "sampling": "dream",
        "clusters": 2,
        "snapshots": 1,
        "baselines": ("random",),
        "students": ("convnet3-w4",),
        "protocol": own_protocol(tmp_path, "fast", 2),
        "val": unseen(tmp_path / "val", 5000, matched.CLASSES),
    }
    fixed["changes"] = {**fixed["changes"], "steps": 1}
    evaluated = {name for stages, options in MATCH.items() if "evaluate" in stages for name in options}

    def run(out: str, options: dict[str, Any]) -> object:
        given = {**fixed, "evaluate": not options or bool(evaluated & set(options)), **options}
        if "sampling" in options:
            del given["clusters"]
        if "set" in options:
            given["changes"] = {**fixed["changes"], **given.pop("set")}
        return match(matched.config(source, out, **given))

    made = {
        "data": str(matched.data(tmp_path / "more", train=10, val=2)),
        "val": unseen(tmp_path / "other", 7000, matched.CLASSES),
        "class_list": other_order(tmp_path, matched.CLASSES),
        "protocol": own_protocol(tmp_path, "slow", 3),
    }
    require_stages(FinishedRun(tmp_path / "base", run), MATCH, tmp_path / "copies", made)


def test_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raycond.pipelines.kernel.run.measured_rate", lambda *_, **__: 1e6)
    source = kernels.data(tmp_path / "data", train=4, val=2)
    fixed = {"ipc": (1,), "steps": 2, "checks": 1, "protocol": own_protocol(tmp_path, "fast", 2)}
    fixed |= {"methods": ("random",), "val": unseen(tmp_path / "val", 5000), "preprocess": "zca"}
    fixed |= {"augment_share": 0.5, "augment_flip": True}
    evaluated = {"val", "seeds", *KERNEL["evaluate"]}

    def run(out: str, options: dict[str, Any]) -> object:
        given = {**fixed, "evaluate": not options or bool(evaluated & set(options)), **options}
        if "val_share" in options:
            del given["val"]
        if options.get("method") == "ls":
            given |= {**kernels.SOLVE, "augment_share": None, "augment_flip": None}
        return condense(kernels.config(source, out, **given))

    made = {
        "data": str(kernels.data(tmp_path / "more", train=5, val=2)),
        "val": unseen(tmp_path / "other", 7000),
        "class_list": other_order(tmp_path, kernels.CLASSES),
        "protocol": own_protocol(tmp_path, "slow", 3),
    }
    require_stages(FinishedRun(tmp_path / "base", run), KERNEL, tmp_path / "copies", made)


def test_evaluate(tmp_path: Path) -> None:
    finished, other = grids.made_run(tmp_path), grids.made_run(tmp_path, "other", quantizer="clvq")
    fixed = {"ipc": (1,), "baselines": ("el2n",), "weights": ("sqrt",), "protocol": own_protocol(tmp_path, "fast", 5)}
    fixed |= {"proxy_student": "mlp-w4", "proxy_nets": 1, "proxy_steps": 2, "val": unseen(tmp_path / "val", 5000)}

    def run(out: str, options: dict[str, Any]) -> object:
        return evaluate_grid(grids.grid_config(finished, out, **{**fixed, **options}))

    torch.manual_seed(0)
    torch.save(students.build("mlp-w4", classes=4, size=8, channels=3).state_dict(), tmp_path / "teacher.pt")
    made = {
        "sets": [str(other / "set")],
        "val": unseen(tmp_path / "third", 7000),
        "class_list": other_order(tmp_path, sets.CLASSES),
        "data": str(sets.data(tmp_path / "more", train=13)),
        "protocol": own_protocol(tmp_path, "slow", 6),
        "labeler": f"once:mlp-w4@{tmp_path}/teacher.pt,mean=0.5,std=0.25",
    }
    require_stages(FinishedRun(tmp_path / "base", run), GRID, tmp_path / "copies", made)
