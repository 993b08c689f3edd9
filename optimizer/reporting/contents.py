"""What a report shows, as data: all figures of the page, and no word of its layout.

Times are in seconds unless a name ends in ``_ms``; shares lie between 0 and 1; null is *not known*.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from scenarios import Acceptance
from scenarios.base import FrozenModel
from twin import LatencyFigures

HOURS_PER_MONTH = 730
"""Hours of a month, a twelfth of a year of 365 days."""

Sureness = Literal["measured", "derived"]
"""How the step costs behind a plan are known: measured on that GPU, or derived for it.

Where they are not known at all, so that memory alone can be asked (`lorapack memory`), there is no plan.
"""

CellState = Literal["solved", "open", "no_plan", "not_computed"]
"""*solved*: the number is the least of the model, or the greedy's own; *open*: a plan, and a bound that is
below it; *no_plan*: there is none; *not_computed*: the time was over."""


class Reference(FrozenModel):
    """What another placer needs for the same scenario: the greedy, beside the plan."""

    method: str
    gpus: int | None
    """GPUs of its plan; null where it has none."""
    accepted: bool
    """Whether the twin accepts every GPU of it."""
    message: str
    """The outcome in one sentence."""


class Answer(FrozenModel):
    """The answer first: how many GPUs, how sure, by what criterion, what it costs."""

    status: Literal["optimal", "feasible", "infeasible", "no_plan"]
    message: str
    method: str
    objectives: tuple[str, ...]
    accepted: bool
    """Whether the twin accepts every GPU of the plan."""
    gpus: int | None
    devices: Mapping[str, int] = {}
    """GPUs of the plan by kind."""
    adapters: int
    """Adapters of the scenario, without the base model."""
    bound: float | None
    """No plan has a smaller first objective; null where nothing is proven."""
    bound_of: str
    """The first objective, of which the bound is."""
    bound_text: str = ""
    """The same in a sentence, with its unit; empty where nothing is proven."""
    no_bound: str = ""
    """Why nothing is proven; empty where something is."""
    cost_per_month: float | None = None
    """What the GPUs cost in 730 hours; null where the scenario states no price: a default is none."""
    greedy_cost_per_month: float | None = None
    cost_unit: str = ""
    """What the price is in, and where it was stated."""
    acceptance: Acceptance
    criterion: str
    """The criterion in one sentence, with its numbers."""
    sureness: Sureness
    sureness_text: str
    greedy: Reference | None = None
    """Null where the plan is the greedy's own, or the scenario has no plan by any method."""
    offered_tok_per_s: float | None = None
    served_tok_per_s: float | None = None
    survival: str = ""
    """What becomes of the plan after losses, in one sentence; empty where not asked."""
    notes: tuple[str, ...] = ()
    """What should be known besides: queues, limits that are close, releases of vLLM that were not read."""
    seconds: float


class AdapterTable(FrozenModel):
    """The adapters of a plan by columns, which all have one value for an adapter on a GPU.

    An adapter that is served in parts has one row for each GPU. Figures of an adapter are of the twin's run
    of its GPU; null where no request of it completed.
    """

    name: tuple[str, ...]
    served_name: tuple[str, ...]
    """By what name clients ask for it."""
    gpu: tuple[int, ...]
    rank: tuple[int, ...]
    """0: the base model."""
    rate: tuple[float, ...]
    """Requests per second that this GPU gets of it."""
    load_share: tuple[float, ...]
    """Its share of the GPU's offered tokens."""
    served_share: tuple[float | None, ...]
    ttft_p50_ms: tuple[float | None, ...]
    ttft_p99_ms: tuple[float | None, ...]
    itl_ms: tuple[float | None, ...]
    """Mean time per output token of its requests."""
    loads: tuple[int | None, ...]
    """Copies into a slot in the run."""
    left_out: int = 0
    """How many more rows there are, of those with the smallest share of their GPU's load."""

    @classmethod
    def empty(cls) -> AdapterTable:
        """A table without adapters, where there is no plan."""
        return cls.model_validate(dict.fromkeys(COLUMNS, ()))


COLUMNS = tuple(name for name in AdapterTable.model_fields if name != "left_out")
"""Columns of a table of adapters."""


class Tile(FrozenModel):
    """One GPU of the plan."""

    gpu: int
    device: str
    node: str | None = None
    accepted: bool | None = None
    """The twin's verdict; null where it judged nothing."""
    reasons: tuple[str, ...] = ()
    """Why it is rejected."""
    adapters: int
    max_loras: int
    max_lora_rank: int
    max_cpu_loras: int | None = None
    fill: float | None = None
    """Left-hand side over bound of the row of the conservative region that it fills most."""
    tight_row: str | None = None
    """What that row limits."""
    made_of: Mapping[str, float] = {}
    """What each sum adds to the fill, in words, the largest first."""
    offered_tok_per_s: float | None = None
    served_tok_per_s: float | None = None
    kv_cache_tokens: int | None = None
    kv_use_mean: float | None = None
    kv_use_peak: float | None = None
    late_share: float | None = None
    """Share of late requests, by the criterion *sustained*."""
    margin: float | None = None
    """Logarithm of the nearest limit over what was measured."""
    headroom: float | None = None
    """Distance to the nearest latency that is limited, as a share of the limit; null where none is."""
    first_to_suffer: str | None = None
    itl: LatencyFigures = LatencyFigures()
    ttft: LatencyFigures = LatencyFigures()
    like: int
    """Number of the GPU whose run it shares: the first one with adapters of the same classes and the same
    engine, maybe itself."""


class GPURun(FrozenModel):
    """One run of the twin of one GPU of the plan, over time and over its requests."""

    gpu: int
    seed: int
    load_factor: float
    """By what all rates are multiplied in the run, as they are where the GPU is judged."""
    start_s: tuple[float, ...]
    """Start of each part of the time series, of equal width."""
    width_s: float
    running: tuple[float, ...]
    """Requests in the batch, mean over the part; the others alike."""
    waiting: tuple[float, ...]
    kv_use: tuple[float, ...]
    slots_used: tuple[float, ...]
    """Distinct adapters in a step."""
    loads_per_min: tuple[float, ...]
    """Copies of adapters into slots."""
    offered_tok_per_s: tuple[float, ...]
    served_tok_per_s: tuple[float, ...]
    quantiles: tuple[float, ...]
    """Levels at which the latencies are told, increasing, from 0 to 1."""
    ttft_ms: tuple[float, ...]
    """Quantiles of the time to first token; empty where no request completed."""
    itl_ms: tuple[float, ...]
    e2e_ms: tuple[float, ...]


class Saving(FrozenModel):
    """One thing that could be changed."""

    name: str
    text: str
    saves: float | None
    """GPUs (or price) that the model saves, in fractions; null where not known."""


class Reasons(FrozenModel):
    """Why not fewer, and what would save."""

    why: tuple[str, ...]
    weights: Mapping[str, float] = {}
    """Dual values of the relaxed model on the optimistic region: the weight of all adapters of a class in
    GPUs (or price), the largest first."""
    other_weights: float = 0.0
    """Weight of all classes that are not named."""
    total: float | None = None
    """The sum of all: no plan is below it."""
    unit: str = "GPUs"
    """What weights and savings are in: GPUs, or the scenario's price."""
    savings: tuple[Saving, ...] = ()


class WhatIfCell(FrozenModel):
    """The model's answer at one load and one patience."""

    state: CellState
    gpus: int | None = None
    """GPUs of the model's plan; null where there is none, or none was looked for in time."""
    bound: int | None = None
    """No plan of the model has fewer GPUs; null of a greedy, which proves nothing."""


class WhatIfGrid(FrozenModel):
    """GPUs by load and patience, of exact and greedy on the linear rows; the twin was not asked.

    ``exact[p][k]`` is at ``patience_s[p]`` and ``load_factors[k]``.
    """

    load_factors: tuple[float, ...]
    patience_s: tuple[float, ...]
    """Empty under the criterion *paper*, which knows none: then the grids have one line."""
    planned_patience_s: float | None
    """The scenario's own."""
    gpus_available: int
    """How many GPUs the scenario has; the model was given as many as it wanted."""
    exact: tuple[tuple[WhatIfCell, ...], ...]
    greedy: tuple[tuple[WhatIfCell, ...], ...]
    greedy_method: str = "greedy"
    """Which greedy that is: the paper's, or one that finds plans where the paper's has none."""
    cost_of_gpu_per_month: float | None = None
    """Null where no price was stated or kinds differ."""
    command: str
    """The command that asks the twin, with {load} and {patience} where the sliders' values go."""
    missing: str = ""
    """Why patiences of the usual list are left out; empty where none is."""
    seconds: float
    complete: bool
    """Whether every cell was computed in the time that there was."""


class Origin(FrozenModel):
    """Enough to repeat it."""

    scenario_yaml: str
    """The resolved scenario."""
    scenario_sha256: str
    result_file: str | None = None
    result_sha256: str | None = None
    seed: int
    params_toml: str = ""
    """Parameters of the search that differ from their defaults, as a file for ``--params``."""
    version: str
    """Version of lorapack that solved it."""
    reported_with: dict[str, str]
    """Versions of lorapack, Python and the libraries that made the page."""
    profiles: dict[str, str]
    """By device, what engine profile, its provenance and its digest."""
    regions: dict[str, str]
    """By device, the digest of the regions that were used; empty where none were."""
    command: str
    """The command that solves it again."""


class PlanReport(FrozenModel):
    """All about one result."""

    name: str
    description: str = ""
    answer: Answer
    tiles: tuple[Tile, ...] = ()
    adapters: AdapterTable
    runs: tuple[GPURun, ...] = ()
    """One for each distinct GPU: `Tile.like` says which."""
    left_out: str = ""
    """Which runs are left out, in one sentence; empty where none is."""
    reasons: Reasons
    what_if: WhatIfGrid | None = None
    no_what_if: str = ""
    """Why there is no grid."""
    origin: Origin


class ReportContents(FrozenModel):
    """The whole page: one plan, or several beside each other."""

    report_version: Literal[1] = 1
    title: str = Field(description="Names of the scenarios.")
    made_at: str
    """Date and time in UTC, to the minute."""
    plans: tuple[PlanReport, ...]
