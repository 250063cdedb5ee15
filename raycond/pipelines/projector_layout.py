"""Where everything of a projector's fit lies in its folder."""

from __future__ import annotations
