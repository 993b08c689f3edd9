"""The page about models names every family, every refusal and every shipped model."""

from __future__ import annotations

from pathlib import Path

from twin.architectures import shipped_architectures
from twin.architectures.families import FAMILIES, REFUSED

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "models.md").read_text(encoding="utf-8")


def test_every_family_is_on_the_page_as_read_or_as_refused() -> None:
    read, _, rest = PAGE.partition("Refused by name")
    assert [name for name in FAMILIES if f"`{name}`" not in read] == []
    refused = [line for line in rest.splitlines() if line.startswith("| `")]
    assert [name for name, why in REFUSED.items() if f"| `{name}` | {why} |" not in refused] == []
    assert not FAMILIES.keys() & REFUSED.keys()


def test_every_shipped_model_is_on_the_page() -> None:
    listed = PAGE.rpartition("## Shipped models")[2].rpartition(".")[0].split(", ")
    names = {name.strip().rpartition("\n")[2] for name in listed}
    assert {architecture.name for architecture in shipped_architectures()} <= names
