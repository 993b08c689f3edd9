"""What every model that is read from a file shares: frozen, no unknown keys, checked as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, Never, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import InitErrorDetails

from scenarios.errors import Problem, ScenarioError
from scenarios.reading.error_messages import problems
from scenarios.reading.findings import Finding

MAX_FINDINGS = 1000
"""Most findings of a model that are reported."""

if TYPE_CHECKING:  # a type checker builds our models as any of pydantic's, which has no public name for it
    from pydantic._internal._model_construction import ModelMetaclass as _OwnErrors
else:

    class _OwnErrors(type(BaseModel)):
        """Makes a class that is called with wrong values raise our error; pydantic builds as ever."""

        def __call__(cls, *args: Any, **values: Any) -> Any:
            try:
                return super().__call__(*args, **values)
            except ValidationError as error:
                told = problems(error.errors(include_url=False), cls, values)
                raise ScenarioError(told, cls.__name__) from None


class PlainDir:
    """Base of models of which `dir`, and completion, show their own names and none of pydantic's."""

    def __dir__(self) -> list[str]:
        """Names of fields, properties and methods."""
        return [name for name in super().__dir__() if name[:2] == "__" or not hasattr(BaseModel, name)]


MOST_GIB = 10_000
"""Most GiB of a memory."""


class FrozenModel(PlainDir, BaseModel, metaclass=_OwnErrors):
    """Base of what is read from files; a subclass says in `findings` what its fields must agree on.

    Called with wrong values, or changed in place, it raises `ScenarioError`; `model_validate` and its like
    are pydantic's and raise pydantic's error.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        use_attribute_docstrings=True,  # they explain the field in messages and in the JSON schema
    )

    def findings(self) -> Iterator[Finding]:
        """Yield every inconsistency between the model's fields."""
        yield from ()

    def written(self, values: Any) -> Any:
        """The values to write of the model's own, by name; a subclass may leave some out."""
        return values

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """As pydantic's, but without what properties have computed from the values before the update."""
        copied = super().model_copy(update=update, deep=deep)
        for name in copied.__dict__.keys() - type(self).model_fields.keys():
            del copied.__dict__[name]
        return copied

    def __setattr__(self, name: str, value: object) -> Never:
        """Refuse to change what is frozen.

        Raises
        ------
        ScenarioError
            Always.
        """
        raise self._frozen(name)

    def __delattr__(self, name: str) -> Never:
        """Refuse to delete from what is frozen.

        Raises
        ------
        ScenarioError
            Always.
        """
        raise self._frozen(name)

    def _frozen(self, name: str) -> ScenarioError:
        remedy = f'copy it: .model_copy(update={{"{name}": ...}}); a scenario: scenarios.override'
        return ScenarioError([Problem(name, "cannot be changed", remedy)], type(self).__name__)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        errors = [
            InitErrorDetails(type=finding.error(), loc=finding.loc, input=self)
            for finding in islice(self.findings(), MAX_FINDINGS)
        ]
        if errors:
            raise ValidationError.from_exception_data(type(self).__name__, errors)
        return self


def refuse_booleans(value: object) -> object:
    """Refuse true and false where Python would take them for 1 and 0."""
    if isinstance(value, bool):
        shown = str(value).lower()
        raise Finding((), f"is {shown}, not a number", "give a number").error()
    return value
