from __future__ import annotations

import json
import math
import re

import pytest

from benchmarks.gpu import page, projection, results
from benchmarks.gpu.record import Check, Figure, PartRecord, Record


def rate(name: str, value: float, **setting: str | int) -> Figure:
    return Figure(name, "per s", (value * 0.9, value, value * 1.5), setting)


def record(*figures: Figure, checks: tuple[Check, ...] = (), device: str = "Card A") -> Record:
    part = PartRecord("one", "the title", "done", 3.0, "", list(checks), list(figures), ["a note"])
    about = {"device": device, "driver": "1.2"}
    return Record(about, ["elsewhere"], 480, False, "2026-01-01T00:00:00+00:00", [part], 12.0)


def figures() -> list[Figure]:
    """Rates for which hours are easily reckoned by hand."""
    photos = "enlarged, as large as ImageNet's: 469 × 387 px"
    plain = {"dtype": "bfloat16", "changed": ""}
    return [
        rate("decode JPEG", 9999.0, photos="brought along: 224 × 224 px", threads=2),
        rate("decode JPEG", 100.0, photos=photos, threads=1),
        rate("decode JPEG", 1000.0, photos=photos, threads=2),
        rate("encode", 2000.0, size=256, batch=8, **plain),
        rate("encode", 9999.0, size=256, batch=8, dtype="bfloat16", changed="compiled"),
        rate("encode", 500.0, size=512, batch=8, **plain),
        rate("lloyd", 3.6, numbers=4096),
        rate("lloyd", 1.8, numbers=4096),
        rate("lloyd", 7.2, numbers=16384),
        rate("decode latents", 100.0, size=256),
        rate("sd", 5.0, size=512),
        rate("dit", 50.0, size=256),
    ]


def test_hours_by_hand() -> None:
    rows = {(row.generator, row.ipc): row for row in projection.projected(record(*figures()))}
    assert len(rows) == 12
    vae, sd, dit = (rows[name, 50] for name in ("VAE", "Stable Diffusion", "DiT"))
    assert (vae.encode, vae.bound) == (pytest.approx(1_281_167 / 1000 / 3600), "decoding JPEG")
    assert (sd.encode, sd.bound) == (pytest.approx(1_281_167 / 500 / 3600), "encoding")
    assert [row.quantize for row in (vae, sd, dit)] == pytest.approx([0.5, 2.0, 0.5])
    assert [row.generate for row in (vae, sd, dit)] == pytest.approx([500 / 3600, 10000 / 3600, 1000 / 3600])
    assert dit.total == pytest.approx(dit.encode + dit.quantize + dit.generate)
    assert rows["DiT", 200].generate == pytest.approx(4 * dit.generate)


@pytest.mark.parametrize("missing", ["decode JPEG", "encode", "lloyd", "sd"])
def test_no_hours_without_all_figures(missing: str) -> None:
    rows = list(projection.projected(record(*(figure for figure in figures() if figure.name != missing))))
    assert {row.generator for row in rows} == ({"VAE", "DiT"} if missing == "sd" else set())


def test_a_record_survives_json() -> None:
    checks = (
        Check("nan", "error", math.nan, 1.0),
        Check("inf", "error", math.inf, 1.0),
        Check("fine", "error", 0.0, 0.0),
    )
    before = record(*figures(), Figure("none", "s", (math.inf,), {}, {"GiB": math.nan}), checks=checks)
    text = json.dumps(before.to_dict(), allow_nan=False)
    after = Record.from_dict(json.loads(text))
    assert repr(after) == repr(before)
    assert [check.passed for check in after.parts[0].checks] == [False, False, True]
    assert after.best("sd", size=512).value == 5.0  # type: ignore[union-attr]


def test_the_page_has_a_table_for_every_figure() -> None:
    checks = (Check("good", "error", 0.25, 1.0), Check("bad", "error", 2.0, 1.0))
    text = re.sub(" +", " ", page.of(record(*figures(), checks=checks)))
    assert text.startswith("# Card A\n")
    assert "Not found on this machine: elsewhere." in text
    assert "**1 of 2 checks passed.**\nFailed: bad." in text
    assert "| bad | error | 2 | 1 | FAILED |" in text
    assert "| 512 | 8 | bfloat16 | | 500 (450 to 750, 3) |" in text
    assert "- a note" in text
    assert "hours = (1,281,167 / min(decode, encode)" in text
    assert "`pipeline`" in text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (1e-4, "1.00e-04"), (0.0123456, "0.01235"), (1.5, "1.500"), (123.456, "123.5"), (54321.0, "54321"),
     (54321.5, "54322"), (2e9, "2.00e+09"), (-1.25, "-1.250"), (math.nan, "nan"), (math.inf, "inf")],
)  # fmt: skip
def test_numbers(value: float, text: str) -> None:
    assert page.number(value) == text


def test_results_are_kept_by_device() -> None:
    start = f"# Results\n\nWhat this is.\n\n{results.NONE_YET}\n"
    one = results.kept(start, record(rate("sd", 5.0, size=512)))
    assert results.NONE_YET not in one
    assert one.startswith("# Results\n\nWhat this is.\n\n## Card A\n\ndriver 1.2.\n")
    assert "\n### one: the title (3 s)\n" in one
    two = results.kept(one, record(rate("sd", 6.0, size=512), device="Card B"))
    assert two.startswith(one.rstrip())
    assert two.count("\n## ") == 2
    again = results.kept(two, record(rate("sd", 7.0, size=512)))
    assert again.count("## Card A") == again.count("## Card B") == 1
    assert "| 512  | 7 (" in again
    assert "| 512  | 5 (" not in again


def test_the_page_of_results_says_so_until_there_are_some() -> None:
    text = results.PAGE.read_text()
    assert (results.NONE_YET in text) == ("\n## " not in text)
