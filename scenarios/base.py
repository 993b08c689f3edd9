"""What every model that is read from a file shares: frozen, no unknown keys, checked as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, Self, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import InitErrorDetails, PydanticCustomError

FINDING = "lorapack_finding"
"""Type of the pydantic errors that carry a finding of ours."""

MAX_FINDINGS = 1000
"""Most findings of a model that are reported."""

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


class PlainDir:
    """Base of models of which `dir`, and completion, show their own names and none of pydantic's."""

    def __dir__(self) -> list[str]:
        """Names of fields, properties and methods."""
        return [name for name in super().__dir__() if name[:2] == "__" or not hasattr(BaseModel, name)]


class FrozenModel(PlainDir, BaseModel):
    """Base of what is read from files; a subclass says in `findings` what its fields must agree on."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        use_attribute_docstrings=True,  # they explain the field in messages and in the JSON schema
    )

    def findings(self) -> Iterator[Finding]:
        """Yield every inconsistency between the model's fields."""
        yield from ()

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """As pydantic's, but without what properties have computed from the values before the update."""
        copied = super().model_copy(update=update, deep=deep)
        for name in copied.__dict__.keys() - type(self).model_fields.keys():
            del copied.__dict__[name]
        return copied

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        errors = [
            InitErrorDetails(type=finding.error(), loc=finding.loc, input=self)
            for finding in islice(self.findings(), MAX_FINDINGS)
        ]
        if errors:
            raise ValidationError.from_exception_data(type(self).__name__, errors)
        return self


def is_tag(field: FieldInfo) -> bool:
    """Tell whether a field has one value only, by which a union of models knows its own."""
    return get_origin(field.annotation) is Literal and len(get_args(field.annotation)) == 1


def refuse_booleans(value: object) -> object:
    """Refuse true and false where Python would take them for 1 and 0."""
    if isinstance(value, bool):
        shown = str(value).lower()
        raise Finding((), f"is {shown}, not a number", "give a number").error()
    return value
