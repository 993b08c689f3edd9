"""Results from files, as `Result.to_json` writes them."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import ValidationError

from optimizer.result import Result
from scenarios import Problem, ScenarioError
from scenarios.files import RESULT_VERSION
from scenarios.reading.error_messages import problems
from scenarios.reading.text_files import text_of
from scenarios.reading.yaml_reader import FILE, parse, plain
from scenarios.text.formatting import shown


def read_result(path: str | os.PathLike[str]) -> Result:
    """Read a result, with its scenario and its plan.

    Raises
    ------
    ScenarioError
        If the file cannot be read, or is no result of this version.
    """
    source = str(path)
    root = parse(text_of(Path(path), source), source, as_json=True)
    values = plain(root)
    if not isinstance(values, dict) or not {"scenario", "placement"} <= values.keys():
        message, remedy = "holds no result", "give what `lorapack solve --json` wrote"
        raise ScenarioError([Problem(FILE, message, remedy)], source)
    version = values.get("result_version", 1)
    if version != RESULT_VERSION:
        problem = Problem("result_version", f"is {shown(version)}, not {RESULT_VERSION}", "solve it again")
        raise ScenarioError([problem], source)
    try:
        return Result.model_validate(values)
    except ValidationError as error:
        told = problems(error.errors(include_url=False), Result, root)
    raise ScenarioError(told, source)
