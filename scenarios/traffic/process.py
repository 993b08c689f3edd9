"""What every arrival process has in common."""

from __future__ import annotations

from typing import Any

from scenarios.base import FrozenModel


def _require_process(schema: dict[str, Any]) -> None:
    schema["required"] = ["process", *schema.get("required", [])]


class ArrivalProcess(FrozenModel, json_schema_extra=_require_process):
    """A process, which a file must name."""
