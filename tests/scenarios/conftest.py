"""Fixtures of the scenarios' tests."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def logs() -> ModuleType:
    """Logs of starting servers, and what is read in them."""
    spec = importlib.util.spec_from_file_location("startup_logs", Path(__file__).parent / "startup_logs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
