"""How much a report shows, and how long its parts may take."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from scenarios import Params

Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0.0)]
Factor = Annotated[float, Field(gt=0.0, le=100.0)]


class ReportParams(Params):
    """What is shown in a report."""

    figures: Count = 256
    """GPUs with different adapters that are simulated again for the figures of their adapters."""
    runs: Count = 64
    """Of these, GPUs that are shown over time; the fullest where there are more."""
    adapters: Count = 3000
    """Rows of adapters that are shown, those with the largest shares of their GPUs' loads."""
    weights: Count = 24
    """Classes of adapters whose weights are shown one by one."""
    other_gpus: Annotated[int, Field(ge=0)] = 1000
    """Kinds of GPU of the catalogue, in its order, that are asked what they would save."""
    greedy_seconds: Seconds = 60.0
    """Most seconds for the plan of the greedy beside an exact one."""
    grid_seconds: Seconds = 60.0
    """Most seconds for all cells of the what-if grid together."""
    cell_seconds: Seconds = 10.0
    """Most seconds for one of its cells."""
    least_load: Factor = 0.5
    """First load of the grid, in multiples of the scenario's."""
    most_load: Factor = 2.0
    """Last load of the grid."""
    load_step: Factor = 0.05
    """Distance between two loads of the grid."""
    patience_s: tuple[Seconds, ...] = (2.0, 5.0, 10.0, 30.0)
    """Patiences of the grid in seconds, beside the scenario's own."""
