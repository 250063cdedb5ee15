from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from raycond.core import files
from raycond.core.errors import UserError
from raycond.models.clip import open_clip_model, save_clip
from raycond.models.clip_tokenizer import tokenizer
from tests.labels.clips import CONFIGS, model

WORDS = {"[PAD]": 0, "[UNK]": 1, "a": 2, "dog": 3, "cat": 4}


def config(**options: Any) -> dict[str, Any]:
    text = {**CONFIGS["vit"]["text_cfg"], "hf_tokenizer_name": "owner/words", "context_length": 5}
    return {**CONFIGS["vit"], "text_cfg": text | ({"tokenizer_kwargs": options} if options else {})}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files of a tokenizer that knows a few words."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel(WORDS, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.save(str(tmp_path / "tokenizer.json"))
    about = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]", "unk_token": "[UNK]"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(about))
    return tmp_path


def change(folder: Path, **values: Any) -> None:
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("remote", [False, True])
def test_a_tokenizer_of_plain_files(folder: Path, remote: bool) -> None:
    where = str(folder)
    if remote:
        where = f"memory://tokenizer{folder}"
        for path in folder.iterdir():
            files.write_bytes(f"{where}/{path.name}", path.read_bytes())
    found = tokenizer(config(), where)(["a dog", "a  cat bird"])
    assert found.tolist() == [[2, 3, 0, 0, 0], [2, 4, 1, 0, 0]]
    assert tokenizer(config(clean="lower"), where)(["A DOG"]).tolist() == [[2, 3, 0, 0, 0]]


def hostile(folder: Path) -> Path:
    """A tokenizer class in the folder itself, that leaves a file when its module is imported."""
    ran = folder / "ran"
    (folder / "tok.py").write_text(
        f"open({str(ran)!r}, 'w').close()\n"
        "from transformers import PreTrainedTokenizerFast\n"
        "class Tok(PreTrainedTokenizerFast):\n    pass\n"
    )
    auto = {"AutoTokenizer": ["tok.Tok", "tok.Tok"], "AutoConfig": "tok.Tok"}
    change(folder, tokenizer_class="Tok", auto_map=auto)
    (folder / "config.json").write_text(json.dumps({"model_type": "x", "auto_map": auto}))
    return ran


@pytest.mark.parametrize("options", [{"trust_remote_code": True}, {"trust_remote_code": True, "clean": "lower"}, {}])
def test_code_in_a_folder_is_never_run(folder: Path, options: dict[str, Any]) -> None:
    ran = hostile(folder)
    net = model("vit").state_dict()
    net["positional_embedding"] = net["positional_embedding"][:5]
    save_clip(str(folder), config(**options), net)
    with pytest.raises(UserError, match=r"tokenizer option trust_remote_code=True is not|tokenizer_class 'Tok' is not"):
        open_clip_model(str(folder), device="cpu").encode_text(["a dog"])
    assert not ran.exists()


def test_code_named_by_the_configuration_alone_is_ignored(folder: Path) -> None:
    ran = hostile(folder)
    change(folder, tokenizer_class="PreTrainedTokenizerFast")
    assert tokenizer(config(), str(folder))(["a dog"]).tolist() == [[2, 3, 0, 0, 0]]
    assert not ran.exists()


@pytest.mark.parametrize(
    ("options", "own"),
    [({"cache_dir": "/x"}, False), ({"subfolder": "x"}, False), ({"clean": ["x"]}, False), ({"bpe_path": "/x"}, True)],
)
def test_options_that_reach_elsewhere_are_refused(folder: Path, options: dict[str, Any], own: bool) -> None:
    asked = config(**options)
    if own:
        del asked["text_cfg"]["hf_tokenizer_name"]
    with pytest.raises(
        UserError, match=f"tokenizer option {next(iter(options))}=.* is not supported; supported: clean"
    ):
        tokenizer(asked, str(folder))


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"version": 1}'])
def test_damaged_files(folder: Path, name: str, data: bytes) -> None:
    (folder / name).write_bytes(data)
    try:
        found = tokenizer(config(), str(folder))(["a"])
    except UserError:
        return
    assert isinstance(found, torch.Tensor)  # a configuration may say nothing


def test_missing_files_and_files_that_are_too_large(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raycond.models.clip_tokenizer._MOST_BYTES", 10)
    with pytest.raises(UserError, match="larger than 0 MiB together"):
        tokenizer(config(), str(folder))
    monkeypatch.undo()
    shutil.rmtree(folder)
    folder.mkdir()
    with pytest.raises(UserError, match=r"tokenizer of owner/words cannot be loaded from .*tokenizer.json"):
        tokenizer(config(), str(folder))
