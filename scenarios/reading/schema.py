"""The JSON schema of a scenario file, for editors."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from scenarios.scenario import Scenario


def schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of a scenario file, short forms included.

    It says what an editor can check; what the parts must agree on is checked by `scenarios.read`.
    """
    body = Scenario.model_json_schema()
    return {"$schema": GenerateJsonSchema.schema_dialect, **body, "title": "lorapack scenario"}
