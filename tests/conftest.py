"""What every test leaves as it was."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from scenarios.stopping import interrupts


@pytest.fixture(autouse=True)
def _width(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables are as wide wherever the tests run."""
    monkeypatch.setenv("COLUMNS", "100")


@pytest.fixture(autouse=True)
def _signals_as_they_were(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The command takes signals over for good, and ignores them at its end; a test runner goes on."""
    monkeypatch.setattr(interrupts, "_notice", interrupts._Notice())
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
