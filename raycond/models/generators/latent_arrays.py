"""Latents of a whole source, cached by class, and read again for training."""

from __future__ import annotations
