"""Where everything of a generator's training lies in its folder."""

from __future__ import annotations
