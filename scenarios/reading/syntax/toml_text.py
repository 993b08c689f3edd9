"""Values of a text of TOML, and why there are none, in our words."""

from __future__ import annotations

import re
import tomllib
from typing import Any

from scenarios.errors import Problem, ScenarioError
from scenarios.reading.syntax.words import toml_words
from scenarios.reading.yaml_reader import FILE

_PLACE = re.compile(r"at line (\d+), column (\d+)\)?$")


def toml_values(text: str, source: str) -> dict[str, Any]:
    """The values of a text of TOML.

    Parameters
    ----------
    text
        The document.
    source
        What messages call it: its file name.

    Raises
    ------
    ScenarioError
        If it is none, is nested too deep, or has a number of too many digits.
    """
    line = None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = _PLACE.search(str(error))
        line = int(place[1]) if place else None
        where = f" at column {place[2]}" if place else " at its end"
        what, remedy = f"is no TOML: {toml_words(str(error))}{where}", "correct it"
    except ValueError:  # Python's own limit on the digits of a whole number
        what, remedy = "holds a number of too many digits, or one that is none", "write fewer digits"
    except RecursionError:
        what, remedy = "is nested too deep", "flatten it"
    raise ScenarioError([Problem(FILE, what, remedy, line)], source)
