"""The schema of scenario files, made once: it takes a tenth of a second."""

from __future__ import annotations

from functools import cache

from jsonschema import Draft202012Validator

import scenarios


@cache
def scenario_validator() -> Draft202012Validator:
    """What an editor asks whether a file is one."""
    return Draft202012Validator(scenarios.schema())
