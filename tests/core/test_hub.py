from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import LocalEntryNotFoundError

from raycond.core import hub

NOWHERE = "https://nowhere.invalid"  # a name that no network resolves


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)  # which the other tests are not


def cached(folder: Path) -> Path:
    """A file of owner/name in the cache, as the hub's client leaves it there."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = folder / "models--owner--name"
    file = repository / "snapshots" / commit / "config.json"
    file.parent.mkdir(parents=True)
    file.write_text("{}")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    return file


def test_cache_alone_where_the_hub_cannot_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = cached(tmp_path)
    monkeypatch.setattr(constants, "ENDPOINT", NOWHERE)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: pytest.fail("tried again"))
    with hub.reached():
        assert hf_hub_download("owner/name", "config.json", cache_dir=tmp_path) == str(file)
        with pytest.raises(LocalEntryNotFoundError):
            hf_hub_download("owner/name", "model.safetensors", cache_dir=tmp_path)
    assert not constants.HF_HUB_OFFLINE


def test_a_proxy_may_know_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", NOWHERE)
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    with hub.reached():
        assert not constants.HF_HUB_OFFLINE


def test_what_is_set_stays_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "ENDPOINT", "https://127.0.0.1")
    with hub.reached():
        assert constants.HF_HUB_OFFLINE
    assert constants.HF_HUB_OFFLINE
