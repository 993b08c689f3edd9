"""Findings: what is inconsistent between fields that are each valid, and where it stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

FINDING = "lorapack_finding"
"""Type of the pydantic errors that carry a finding of ours."""

Loc = tuple[str | int, ...]


@dataclass(frozen=True)
class Finding:
    """Something inconsistent between fields that are each valid.

    Parameters
    ----------
    loc
        Keys and indices from the model to the value at fault; empty is the model itself.
    message
        What is wrong, with the value.
    remedy
        What the user can do.
    """

    loc: Loc
    message: str
    remedy: str

    def error(self) -> PydanticCustomError:
        """Return the finding as the error that a pydantic validator may raise."""
        return PydanticCustomError(
            FINDING, "{message}; {remedy}", {"message": self.message, "remedy": self.remedy}
        )


def is_tag(field: FieldInfo) -> bool:
    """Tell whether a field has one value only, by which a union of models knows its own."""
    return get_origin(field.annotation) is Literal and len(get_args(field.annotation)) == 1
