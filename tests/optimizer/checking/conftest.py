"""What the twin shows of a plan's GPUs is asked for once, as many tests read the same plan."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from optimizer.checking.drift import planned
from optimizer.checking.drift.foretold import Foretold, foretell
from scenarios import Scenario
from twin import EngineProfile, GPUContent

FORETOLD: dict[Any, Foretold] = {}


@pytest.fixture(scope="module", autouse=True)
def _foretold_once() -> Iterator[None]:
    """The same content of the same scenario is played once by the tests of this folder."""

    def once(content: GPUContent, scenario: Scenario, profile: EngineProfile, seconds: float) -> Foretold:
        asked = (content, scenario.model_dump_json(), profile.model_dump_json(), seconds)
        if asked not in FORETOLD:
            FORETOLD[asked] = foretell(content, scenario, profile, seconds)
        return FORETOLD[asked]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planned, "foretell", once)
        yield
