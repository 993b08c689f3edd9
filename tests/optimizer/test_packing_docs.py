"""The example in docs/placers.md runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from optimizer.packing import registry

PAGE = Path(__file__).parents[2] / "docs" / "placers.md"


def test_a_placer_is_added_as_the_page_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "METHODS", dict(registry.METHODS))
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.S)
    with monkeypatch.context() as patch:
        patch.setattr("optimizer.packing.solver.METHODS", registry.METHODS)
        exec(compile(code, str(PAGE), "exec"), {})


def test_every_packing_method_is_on_the_page() -> None:
    page = PAGE.read_text(encoding="utf-8")
    ours = ("ffd", "bfd", "local", "spread", "cpsat", "milp", "cbc", "patterns", "exact")
    assert all(name in registry.METHODS and f"`{name}`" in page for name in ours)
