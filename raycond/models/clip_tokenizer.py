"""Tokenizers of CLIP models, from known classes and plain files alone: a model's folder never runs code."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from raycond.core import files
from raycond.core.errors import UserError, parsing, short

_OWN_OPTIONS = ("clean", "reduction_mask")  # of open_clip's own tokenizer
_OPTIONS = ("clean", "strip_sep_token", "language")  # of open_clip's wrapper of transformers' tokenizers
_CLASSES = (
    *("Bert", "CLIP", "DistilBert", "GPT2", "Gemma", "Llama", "Nllb", "PreTrained", "Roberta", "Siglip", "T5"),
    *("TokenizersBackend", "XLMRoberta"),
)
_PLAIN = ("tokenizer.json", "vocab.json", "merges.txt", "vocab.txt", "special_tokens_map.json", "added_tokens.json")
_SENTENCEPIECE = ".model"
_CONFIG = "tokenizer_config.json"
_DROPPED = ("auto_map", "chat_template", "custom_pipelines", "name_or_path", "_name_or_path")
_MOST_BYTES = 256 * 2**20


def tokenizer(config: Mapping[str, Any], folder: str | None = None) -> Callable[[Sequence[str]], Tensor]:
    """Texts → token ids (n, context length) int64: open_clip's own vocabulary, or a tokenizer of transformers.

    config: open_clip's `model_cfg`. folder: that has the files of the latter; None for the hub, by a name of
    open_clip's own configurations. Options that could run code or read other files are refused, as are tokenizer
    classes that are not in a list of known ones. Raises UserError for these, and if files are missing or damaged.
    """
    from open_clip.tokenizer import HFTokenizer, SimpleTokenizer

    text = config["text_cfg"]
    where = text.get("hf_tokenizer_name")
    options = _checked(dict(text.get("tokenizer_kwargs") or {}), _OPTIONS if where else _OWN_OPTIONS)
    options["context_length"] = text.get("context_length", 77)
    if not where:
        return SimpleTokenizer(**options)
    options |= {"tokenizer_mode": text.get("tokenizer_mode"), "trust_remote_code": False}
    with _said(where, folder):
        if folder is None:
            opened = HFTokenizer(where, **options)
        else:
            with tempfile.TemporaryDirectory(prefix="raycond-") as clean:
                _copy_plain(folder, clean)
                opened = HFTokenizer(clean, local_files_only=True, **options)

    def tokenize(texts: Sequence[str]) -> Tensor:
        with _said(where, folder):
            tokens: Tensor = opened(list(texts))
            return tokens

    return tokenize


@contextmanager
def _said(where: str, folder: str | None) -> Iterator[None]:
    """transformers raises all kinds of errors for files that are missing or damaged, some of them late."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"CLIP: the tokenizer of {where} cannot be loaded from {folder or 'the hub'}: put its files "
            f"(tokenizer.json, tokenizer_config.json, …) beside open_clip_config.json in a local folder. "
            f"Cause: {short(error)}"
        ) from error


def _checked(options: dict[str, Any], known: Sequence[str]) -> dict[str, Any]:
    for name, value in options.items():
        if name not in known or not isinstance(value, str | bool):
            raise UserError(f"CLIP: tokenizer option {name}={value!r} is not supported; supported: {', '.join(known)}")
    return options


def _copy_plain(folder: str, clean: str) -> None:
    """What a tokenizer needs of a folder, local or remote, and nothing that is code or names code."""
    entries = [e for e in files.listdir(folder) if e.name in (*_PLAIN, _CONFIG) or e.name.endswith(_SENTENCEPIECE)]
    if sum(entry.size for entry in entries) > _MOST_BYTES:
        raise UserError(f"CLIP: the tokenizer's files in {folder} are larger than {_MOST_BYTES // 2**20} MiB together")
    for entry in entries:
        data = files.read_bytes(entry.uri)
        if entry.name == _CONFIG:
            data = json.dumps(_plain_config(entry.uri, data)).encode()
        files.write_bytes(os.path.join(clean, entry.name), data)


def _plain_config(uri: str, data: bytes) -> dict[str, Any]:
    with parsing(uri, "a JSON object"):
        config = dict(files.parse_json(data))
    name = str(config.get("tokenizer_class") or "PreTrainedTokenizerFast")
    if name.removesuffix("Fast").removesuffix("Tokenizer") not in _CLASSES:
        raise UserError(f"{uri}: tokenizer_class {name!r} is not supported; supported: {', '.join(_CLASSES)}")
    return {key: value for key, value in config.items() if key not in _DROPPED} | {"tokenizer_class": name}
