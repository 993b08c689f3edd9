"""All kinds of files that are read, by name."""

from __future__ import annotations

from functools import cache

from tests.fuzzing import kinds_of_imports, kinds_of_learning, kinds_of_scenarios, kinds_of_twin
from tests.fuzzing.fuzzed import Fuzzed

ROOMS = (kinds_of_scenarios, kinds_of_twin, kinds_of_learning, kinds_of_imports)


@cache
def fuzzed_kinds() -> dict[str, Fuzzed]:
    """Every kind by its name."""
    return {one.name: one for room in ROOMS for one in room.kinds()}
