"""Results from files."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import ValidationError

from optimizer.result import Result
from scenarios import Problem, ScenarioError
from scenarios.files import RESULT_VERSION
from scenarios.reading import error_messages
from scenarios.reading.parsing import MAX_ERRORS
from scenarios.reading.text_files import text_of
from scenarios.reading.yaml_reader import FILE, parse, plain
from scenarios.text.formatting import shown

REMEDY = "name the file that `lorapack solve --json` wrote"


def read_result(path: str | os.PathLike[str]) -> Result:
    """Read a result, as `solve --json` and `Result.to_json` write it.

    Raises
    ------
    ScenarioError
        If it cannot be read, is no result, or one of another version.
    """
    source = str(path)
    root = plain(parse(text_of(Path(path), source), source, as_json=True))
    if not isinstance(root, dict) or not {"status", "scenario", "placement"} <= root.keys():
        raise ScenarioError([Problem(FILE, "holds no result", REMEDY)], source)
    version = root.get("result_version", 1)
    if version != RESULT_VERSION:
        message = f"is {shown(version)}, and {RESULT_VERSION} is read here"
        remedy = "solve the scenario with this version of lorapack"
        raise ScenarioError([Problem("result_version", message, remedy)], source)
    try:
        return Result.model_validate(root)
    except ValidationError as error:
        errors = error.errors(include_url=False)[:MAX_ERRORS]
    raise ScenarioError(error_messages.problems(errors, Result, root), source)
