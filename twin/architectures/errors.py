"""What goes wrong while a model's files are read."""

from __future__ import annotations

from scenarios import LorapackError


class ArchitectureError(LorapackError, ValueError):
    """A model's files cannot be read, or no shipped architecture has the name."""
