"""Progress: one callback, that an interruption of it does not break."""

from __future__ import annotations

import pytest

from scenarios import interrupted, noticed
from scenarios.stopping.progress import interruptible, silent


def test_an_interrupt_in_a_callback_asks_for_the_end() -> None:
    def told(_label: str, _done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with noticed():
        interruptible(told)("work", 0, 1)
        assert interrupted()


def test_another_error_of_a_callback_is_its_own() -> None:
    def told(_label: str, _done: int, _total: int) -> None:
        raise RuntimeError("the callback's")

    with pytest.raises(RuntimeError, match="the callback's"):
        interruptible(told)("work", 0, 1)


def test_silent_tells_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    silent("work", 0, 1)
    assert capsys.readouterr() == ("", "")
