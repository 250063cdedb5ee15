"""Numbers and plain data as text for a page."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any


def human(count: int) -> str:
    """Bytes in binary units, as 1.2 MiB."""
    power = min(max(count, 1).bit_length() - 1, 49) // 10
    if power == 0:
        return f"{count} B"
    value = count / 1024**power
    return f"{value:.{1 if value < 100 else 0}f} {('KiB', 'MiB', 'GiB', 'TiB')[power - 1]}"


def share(part: int, total: int) -> str:
    """A percentage with two significant digits below 10 %, without exponents."""
    percent = 100 * part / total if total else math.nan
    if not 0 < percent < 10:
        return f"{percent:.0f} %"
    return f"{percent:.{max(0, 1 - math.floor(math.log10(percent)))}f} %"


def times(ratio: float) -> str:
    """How many times smaller or larger, as 312× or 4.7×."""
    return f"{ratio:,.{0 if ratio >= 10 else 1}f}×"


def signed(value: float, unit: str = "") -> str:
    return f"{value:+.1f}{unit}".replace("-", "−")


def digits(value: float) -> str:
    """Four significant digits without an exponent."""
    if not math.isfinite(value) or value == 0:
        return f"{value:g}"
    return f"{value:,.{max(0, 3 - math.floor(math.log10(abs(value))))}f}"


def plain_yaml(config: Mapping[str, Any]) -> str:
    """A configuration as YAML, in its own order; what YAML does not know becomes text."""
    import yaml

    plain = json.loads(json.dumps(config, default=str))
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True) if plain else ""
