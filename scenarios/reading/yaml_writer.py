"""Models to YAML in short forms, which `scenarios.reading.yaml_reader` reads back as it was."""

from __future__ import annotations

import re
from typing import Any

import yaml

from scenarios.base import FrozenModel
from scenarios.reading.findings import is_tag
from scenarios.reading.scalars import FLOAT, INT
from scenarios.text.display import visible, visible_lines
from scenarios.traffic.lengths import FixedLengths

WIDTH = 60
"""Columns after which a line is broken, where it may be: most then fit in 80."""

_NO_BREAK = 2**31 - 1
"""More columns than a line has."""


def to_yaml(model: FrozenModel, *, defaults: bool = False) -> str:
    """Return a model as YAML.

    Parameters
    ----------
    model
        What to write.
    defaults
        Whether values at their defaults are written too, and null for what is absent; else they are left out.
    """
    text: str = yaml.dump(
        _short(model, defaults),
        Dumper=Dumper,
        sort_keys=False,
        default_flow_style=None,
        width=WIDTH,
        allow_unicode=True,
    )
    return visible_lines(text)  # whoever reads the file sees all of it; YAML's escapes are the same


def plain_yaml(value: object) -> str:
    """Return a plain value as YAML on one line."""
    text: str = yaml.dump(
        value,
        Dumper=Dumper,
        sort_keys=False,
        default_flow_style=True,
        width=_NO_BREAK,
        allow_unicode=True,
    )
    return visible(text.removesuffix("\n").removesuffix("\n..."))


def folded_yaml(value: object) -> list[str]:
    """Return the lines of a plain value as YAML, as wide as those of `to_yaml`."""
    text: str = yaml.dump(
        value, Dumper=Dumper, sort_keys=False, default_flow_style=None, width=WIDTH, allow_unicode=True
    )
    return visible_lines(text.removesuffix("\n")).split("\n")


def short_form(value: object) -> object:
    """A value of a model's field as plain values, in the form in which a user would write it."""
    written = _short(value, defaults=False)
    if isinstance(written, dict):
        return {key: item for key, item in written.items() if key != "distribution"}
    return written


def _short(value: object, defaults: bool) -> object:
    """Return a value as it is written: lengths as a number, of a model all, or its tag and no defaults."""
    if isinstance(value, FixedLengths):
        return value.tokens
    if isinstance(value, FrozenModel):
        return value.written(
            {
                name: _short(getattr(value, name), defaults)
                for name, info in type(value).model_fields.items()
                if defaults
                or is_tag(info)
                or getattr(value, name) != info.get_default(call_default_factory=True)
            }
        )
    if isinstance(value, dict):
        return {key: _short(item, defaults) for key, item in value.items()}
    return [_short(item, defaults) for item in value] if isinstance(value, tuple) else value


_SafeDumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class Dumper(_SafeDumper):  # type: ignore[misc]  # the C dumper is there or not
    """Writes YAML that both this package and YAML 1.1 readers read back as it was."""

    def ignore_aliases(self, _data: object) -> bool:
        """Write equal values out instead of sharing them."""
        return True


def _write_float(dumper: Any, value: float) -> Any:
    """Represent a float by its shortest text that reads back as the same float."""
    return dumper.represent_scalar("tag:yaml.org,2002:float", repr(value))


def _write_text(dumper: Any, text: str) -> Any:
    """Represent text that would not be visible in double quotes, which alone may hold its escapes."""
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, '"' if visible(text) != text else None)


for _tag, _pattern in (("int", INT), ("float", FLOAT)):
    Dumper.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern.pattern})$"), list("+-.0123456789")
    )
Dumper.add_representer(float, _write_float)
Dumper.add_representer(str, _write_text)
