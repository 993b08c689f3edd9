"""A real browser: Chromium at the path in LORAPACK_CHROMIUM, or Debian's.

Without one, tests that need it are skipped, unless LORAPACK_CHROMIUM is set, as `.ci/run` does: then they
fail.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

CHROMIUM = os.environ.get("LORAPACK_CHROMIUM") or shutil.which("chromium")

needs_browser = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium: install it, or set LORAPACK_CHROMIUM"
)


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """The browser, without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()
