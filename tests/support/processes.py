"""Commands that tests start as processes of their own."""

from __future__ import annotations

import subprocess

import pytest


def ended(process: subprocess.Popen[str], seconds: float = 120) -> str:
    """What it wrote to stderr, once it has ended; killed and told, with what it wrote, where it does not end."""
    try:
        return process.communicate(timeout=seconds)[1]
    except subprocess.TimeoutExpired:
        process.kill()
        pytest.fail(f"not ended after {seconds:g} s; it wrote:\n{process.communicate()[1]}")
