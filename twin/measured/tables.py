"""Tables of measurements: CSV files whose columns and cells are checked against a model of their rows."""

from __future__ import annotations

import math
import zlib
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar

import pandas as pd
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from scenarios import FrozenModel, Problem, ScenarioError
from scenarios.errors import SHOWN_PROBLEMS, cause_of
from scenarios.reading.error_messages import problems as in_words
from scenarios.reading.syntax.words import csv_words
from scenarios.reading.text_files import text_of
from scenarios.reading.yaml_reader import FILE
from scenarios.text.formatting import choice, nearest

LARGEST = 1e9
"""No count, length or time of a measurement comes near this; what does is a mistake."""

Text = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=0, lt=LARGEST)]
Number = Annotated[float, Field(ge=0, lt=LARGEST)]
Positive = Annotated[float, Field(gt=0, lt=LARGEST)]
PositiveCount = Annotated[int, Field(gt=0, lt=LARGEST)]


class TableRow(FrozenModel):
    """Base of the row of a table: a field is a column, its docstring says what it holds, with the unit.

    A field without a default must be there and filled in every row. An empty cell is the default.
    """

    model_config = ConfigDict(use_attribute_docstrings=True)


R = TypeVar("R", bound=TableRow)


def read_table(path: Path, row_model: type[TableRow], *, strict: bool = True) -> pd.DataFrame:
    """Read a table and check every cell.

    Parameters
    ----------
    path
        CSV file, compressed if its name says so.
    row_model
        Its columns.
    strict
        Whether every column must be one of the model's, and those left out are filled in with their
        defaults. Otherwise other columns are kept as they are, and none is added.

    Raises
    ------
    ScenarioError
        If it cannot be read, lacks a column, has one that the model has not (``strict``), or has something
        else in a cell than the model says; names everything that is wrong.
    """
    fields = row_model.model_fields
    texts = [name for name, field in fields.items() if field.annotation is str]
    needed = choice([name for name, field in fields.items() if field.is_required()], "and")
    remedy = f"give a table with the columns {needed}; docs/calibration.md says what they hold"
    if not path.is_file():
        text_of(path, str(path))  # which says what is there instead
    try:
        table = pd.read_csv(path, dtype=dict.fromkeys(texts, str))
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise ScenarioError([Problem(FILE, _unreadable(error), remedy)], str(path)) from error
    if not isinstance(table.index, pd.RangeIndex):
        # pandas takes the first column for an index when rows have more cells than there are names.
        problem = Problem(FILE, "has more cells in a row than columns", "name every column in the first line")
        raise ScenarioError([problem], str(path))
    problems = _wrong_columns([str(name) for name in table.columns], row_model, strict)
    if problems:
        raise ScenarioError(problems, str(path))
    present = [name for name in fields if name in table.columns]
    try:
        rows = rows_of(table, row_model)
    except ValidationError as error:
        raise ScenarioError(_wrong_cells(error, row_model, _records(table[present])), str(path)) from error
    kept = fields if strict else present
    checked = pd.DataFrame({name: [getattr(row, name) for row in rows] for name in kept})
    for name in checked.columns[checked.isna().all()]:
        checked[name] = math.nan  # a column of None alone is none of numbers
    return checked if strict else pd.concat([checked, table.drop(columns=present)], axis=1)


def _unreadable(error: Exception) -> str:
    """Why a file is no table, in our words."""
    if isinstance(error, pd.errors.EmptyDataError):
        return "is empty"
    if isinstance(error, UnicodeDecodeError):
        return "is no text in UTF-8"
    if isinstance(error, OSError | EOFError | zlib.error):
        return f"cannot be read ({cause_of(error)})"
    return f"is no CSV: {csv_words(str(error))}"


def rows_of(table: pd.DataFrame, row_model: type[R]) -> list[R]:
    """The rows of a checked table; an empty cell is the column's default."""
    known = table[[name for name in row_model.model_fields if name in table.columns]]
    rows: list[R] = _checker(row_model).validate_python(_records(known))
    return rows


@cache
def _checker(row_model: type[TableRow]) -> TypeAdapter[Any]:
    """What checks rows; it takes longer to make than a small table to check."""
    return TypeAdapter(list[row_model])  # type: ignore[valid-type]


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    # An empty cell is nan, the only value that differs from itself.
    return [
        {str(name): cell for name, cell in record.items() if cell == cell}
        for record in table.to_dict(orient="records")
    ]


def _wrong_columns(columns: list[str], row_model: type[TableRow], strict: bool) -> list[Problem]:
    fields = row_model.model_fields
    unknown = [name for name in columns if name not in fields]
    absent = [name for name in fields if name not in columns]
    problems = []
    for name in absent:
        if fields[name].is_required():
            close = nearest(name, unknown)
            about = (fields[name].description or "").rstrip(".")
            remedy = f'rename "{close}"' if close else f"add it ({about})"
            problems.append(Problem(f"column {name}", "is missing", remedy))
    for name in unknown if strict else ():
        close = nearest(name, absent)
        remedy = (
            f'did you mean "{close}"?' if close else f"remove it; the columns are {choice(fields, 'and')}"
        )
        problems.append(Problem(f"column {name}", "is none of this table's", remedy))
    return problems


def _wrong_cells(
    error: ValidationError, row_model: type[TableRow], records: list[dict[str, Any]]
) -> list[Problem]:
    problems = []
    for detail in error.errors(include_url=False)[: SHOWN_PROBLEMS + 1]:
        row, *loc = detail["loc"]
        # A cell of text beside numbers is read as text: that it could not be parsed is that it is no number.
        cell = {**detail, "loc": tuple(loc), "type": detail["type"].replace("_parsing", "_type")}
        problem = in_words([cell], row_model, records[int(row)])[0]  # type: ignore[list-item]
        problems.append(replace(problem, path=f"row {int(row) + 2}, {problem.path}"))
    return problems
