"""A pipeline of diffusers as a folder: where it is, what it holds, its digest, and its parts loaded one by one."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch

from raycond.core import files, hub
from raycond.core.errors import UserError
from raycond.data.class_list import read_class_list
from raycond.data.classes import Classes

INDEX = "model_index.json"
# never loaded: see stable_diffusion.py for the safety checker; images are decoded by raycond's codec
_UNUSED = ("vae", "safety_checker", "feature_extractor", "image_encoder")
# what may be made from a folder's own words; nothing else is instantiated
_KNOWN = {
    "diffusers": re.compile(r"UNet2DConditionModel|SD3Transformer2DModel|DiTTransformer2DModel|\w+Scheduler"),
    "transformers": re.compile(r"CLIPTextModel|CLIPTextModelWithProjection|T5EncoderModel|(CLIP|T5)Tokenizer(Fast)?"),
}
_RENAMED = {"Transformer2DModel": "DiTTransformer2DModel"}  # in folders of DiT from before diffusers 0.28
_WEIGHTS = re.compile(r"(diffusion_pytorch_model|pytorch_model|model)(-\d+-of-\d+)?\.(safetensors|bin)")
_SMALL = (".json", ".txt", ".model")
_VARIANTS = ("*.fp16*", "*.non_ema*", "*.ema*")


@dataclass(frozen=True)
class PipelineFolder:
    """A pipeline's files on this machine. kind: sd or dit; where: as it was given; index: its model_index.json."""

    kind: str
    where: str
    path: str
    index: dict[str, Any]

    def __str__(self) -> str:
        return f"--generator {self.kind}:{self.where}"

    @property
    def name(self) -> str:
        """Without the folders of this machine: a set is made to be given away."""
        local = files.is_local(self.where) and files.is_dir(self.where)
        return f"{self.kind}:{os.path.basename(self.where.rstrip('/')) if local else self.where}"

    @property
    def family(self) -> str:
        return str(self.index.get("_class_name"))

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the parts that generating needs."""
        return _parts(self.index)

    def config(self, part: str) -> dict[str, Any]:
        """A part's configuration. Raises UserError if there is none."""
        name = "scheduler_config.json" if part == "scheduler" else "config.json"
        return _json(f"{self.path}/{part}/{name}", str(self))

    def classes(self) -> Classes | None:
        """The classes that the model was trained on, in the order of its own, if the folder says so.

        Raises UserError for a folder of raycond's own training that has lost them.
        """
        found = read_class_list([self.path])[0]
        if found is None and files.exists(f"{self.path}/raycond.json"):
            raise UserError(f"{self}: its classes.json is missing, and nothing else says which class is which")
        return found

    def digest(self) -> str:
        """SHA-256 of all that the parts are made of: configurations, vocabularies, weights."""
        return files.digest({part: self._part_digest(part) for part in self.parts})

    def _part_digest(self, part: str) -> dict[str, Any]:
        folder = f"{self.path}/{part}"
        found: dict[str, Any] = {}
        for entry in files.listdir(folder):
            if entry.name in ("config.json", "scheduler_config.json"):
                settings = _json(entry.uri, str(self))
                # names and versions of what wrote it do not change what it makes
                found[entry.name] = {k: v for k, v in settings.items() if not k.startswith("_")}
            elif entry.name.endswith(_SMALL):
                found[entry.name] = files.sha256(files.read_bytes(entry.uri))
        weights = self._weights(part)
        if not weights and part != "scheduler" and not part.startswith("tokenizer"):
            raise UserError(
                f"{self}: its {part} has no weights: expected model files such as diffusion_pytorch_model.safetensors, "
                "without a variant (fp16, ema) in their names"
            )
        return found | {os.path.basename(path): _sha256(path) for path in weights}

    def _weights(self, part: str) -> list[str]:
        names = [e.name for e in files.listdir(f"{self.path}/{part}") if _WEIGHTS.fullmatch(e.name)]
        chosen = [n for n in names if n.endswith(".safetensors")] or names
        return [f"{self.path}/{part}/{name}" for name in chosen]

    def load(self, part: str, dtype: torch.dtype = torch.float32) -> Any:
        """One part; models in eval mode, frozen, on the CPU. Raises UserError if it cannot be loaded whole.

        Nothing is unpickled: weights are safetensors, or where there are none torch files read with weights_only, as
        facebook/DiT-XL-2-256 still has them.
        """
        library, name = (*self.index[part], "", "")[:2]
        name = _RENAMED.get(name, name)
        if library not in _KNOWN or not _KNOWN[library].fullmatch(name):
            raise UserError(f"{self}: its {part} is a {library}.{name}, which is not supported")
        try:
            kind = getattr(import_module(library), name)
            with _quiet():
                return self._loaded(kind, part, dtype)
        except (ImportError, AttributeError) as error:
            raise UserError(f"{self}: {library} has no {name}; install or update it. Cause: {error}") from error
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise UserError(f"{self}: cannot load its {part} ({name}): {error}") from error

    def _loaded(self, kind: Any, part: str, dtype: torch.dtype) -> Any:
        folder = f"{self.path}/{part}"
        if part == "scheduler" or part.startswith("tokenizer"):
            return kind.from_pretrained(folder, local_files_only=True)
        names = self._weights(part)
        if not names:
            raise ValueError("there are no weights")
        options = {
            "torch_dtype" if kind.__module__.startswith("diffusers") else "dtype": dtype,
            "use_safetensors": names[0].endswith(".safetensors"),
            "output_loading_info": True,
            "local_files_only": True,
        }
        model, found = kind.from_pretrained(folder, **options)
        # positions are counted and shared embeddings are tied: files of other versions may leave both out
        missing = [k for k in found["missing_keys"] if not k.endswith(("position_ids", "embed_tokens.weight"))]
        if missing:
            raise ValueError(f"its weights are not those of a {kind.__name__}: no {min(missing)}")
        return model.eval().requires_grad_(False)


_HASHES: dict[tuple[str, int, int], str] = {}  # of gigabytes, which are described first and then opened


def _sha256(path: str) -> str:
    stat = os.stat(path)
    key = (path, stat.st_size, stat.st_mtime_ns)
    if key not in _HASHES:
        with open(path, "rb") as file:
            _HASHES[key] = hashlib.file_digest(file, "sha256").hexdigest()
    return _HASHES[key]


def _json(path: str, what: str) -> dict[str, Any]:
    try:
        value = files.read_json(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{what}: {path} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise UserError(f"{what}: {path}: expected an object")
    return value


def _parts(index: dict[str, Any]) -> tuple[str, ...]:
    given = {part: kind for part, kind in index.items() if isinstance(kind, list) and not part.startswith("_")}
    return tuple(sorted(part for part, kind in given.items() if part not in _UNUSED and kind[0] is not None))


@contextmanager
def opened(kind: str, where: str) -> Iterator[PipelineFolder]:
    """The pipeline at `where`: a folder, a remote address, or `owner/name[@revision]` on the hub.

    Remote files are only there inside the block. Raises UserError that says what to do if there is no pipeline.
    """
    with tempfile.TemporaryDirectory(prefix="raycond-") as scratch:
        try:
            if not files.is_local(where):
                path = _fetched(where, scratch)
            elif files.is_dir(where):
                path = files.absolute(where)
            else:
                with hub.reached():
                    path = _snapshot(where)
            index = json.loads(files.read_bytes(f"{path}/{INDEX}"))
            for part in (*_parts(index), "vae"):
                if not files.is_dir(f"{path}/{part}"):
                    raise FileNotFoundError(f"{path}/{part} is not there")
        except (OSError, ValueError, AttributeError) as error:
            why = hub.problem(where, "a pipeline", f"{INDEX} and the folders that it names", kind, error)
            raise UserError(f"--generator {kind}:{where}: {why}") from error
        yield PipelineFolder(kind, where, path, index)


def _fetched(uri: str, scratch: str) -> str:
    """The files of a remote folder that `PipelineFolder` reads, copied; of the VAE only the configuration."""
    names = {entry.name for entry in files.listdir(uri)}
    for name in names & {INDEX, "classes.json", "classes.txt", "raycond.json"}:
        files.write_bytes(f"{scratch}/{name}", files.read_bytes(files.join(uri, name)))
    for part in (*_parts(json.loads(files.read_bytes(f"{scratch}/{INDEX}"))), "vae"):
        entries = files.listdir(files.join(uri, part))
        weights = [e for e in entries if _WEIGHTS.fullmatch(e.name) and part != "vae"]
        weights = [e for e in weights if e.name.endswith(".safetensors")] or weights
        for entry in [e for e in entries if e.name.endswith(_SMALL)] + weights:
            files.write_bytes(f"{scratch}/{part}/{entry.name}", files.read_bytes(entry.uri))
    return scratch


def _snapshot(where: str) -> str:
    """The hub's folder in the local cache, downloaded first if there is a network."""
    from huggingface_hub import snapshot_download

    name, _, revision = where.partition("@")

    def get(patterns: Sequence[str]) -> str:
        return str(
            snapshot_download(
                name, revision=revision or None, allow_patterns=list(patterns), ignore_patterns=list(_VARIANTS)
            )
        )

    path = get([INDEX, "classes.json", "raycond.json", *(f"*/*{end}" for end in _SMALL)])
    parts = _parts(json.loads(files.read_bytes(f"{path}/{INDEX}")))
    models = [part for part in parts if part != "scheduler" and not part.startswith("tokenizer")]
    get([f"{part}/*.safetensors" for part in models])
    bare = [part for part in models if not any(n.endswith(".safetensors") for n in os.listdir(f"{path}/{part}"))]
    return get([f"{part}/*.bin" for part in bare]) if bare else path


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the libraries' progress bars and remarks on configurations of other versions; errors are raised."""
    from diffusers.utils import logging as ours
    from transformers.utils import logging as theirs

    before = ours.get_verbosity(), theirs.get_verbosity(), theirs.is_progress_bar_enabled()
    ours.set_verbosity_error()
    theirs.set_verbosity_error()
    theirs.disable_progress_bar()
    try:
        yield
    finally:
        ours.set_verbosity(before[0])
        theirs.set_verbosity(before[1])
        if before[2]:
            theirs.enable_progress_bar()
