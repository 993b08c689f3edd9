"""Linear feasibility regions: for each option of an engine, rows Σ_i φ_k(i) ≤ b on additive features.

Two regions come from the same twin runs: an *inner* one, conservative, which the placers fill, and an
*outer* one, optimistic, which bounds use. Beside them stand convex, piecewise-linear upper estimates
of the latencies, so that an exact placer can minimise them.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from learn.features import ADDITIVE, BoolArray, FloatArray, Regime
from scenarios import LorapackError
from scenarios.errors import cause_of
from scenarios.plots import Span, draw_spans
from scenarios.reading.error_messages import sentences
from scenarios.reading.syntax.json_text import json_value
from scenarios.result_view import ResultView
from scenarios.text.tables import Part, table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMAT = 6
"""Version of the JSON form of regions, and of how they are made."""

READABLE = (5, FORMAT)
"""Versions that are read: those of 5 have no floors of latencies, and nothing else is missing."""

BEYOND_SLOTS = 1 / 8
"""Adapters beyond the slots, as a share of the slots, up to which rows of shared slots may let in too little.

The twin's boundary falls too steeply there for rows over sums. By *sustained*, alike adapters of
`mixed_ranks`, one more than slots, bore 1.01, 1.06, 1.12 and 1.18 times what the outer rows let in (16, 32,
64 and 128 slots of rank 8); an eighth more than slots, 0.99, 0.97, 0.93 and 1.00 times."""

Quality = Literal["itl_ms", "ttft_ms"]
"""Latencies that are estimated."""

Floored = Literal["itl_ms", "ttft_ms", "ttft_p99_ms"]
"""Latencies that have floors."""

DIGEST = "sha256"
"""Name of the digest in a file of regions."""


class RegionError(LorapackError, ValueError):
    """A region cannot be read, or was asked for an option that it does not have."""


class _Plain(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Row(_Plain):
    """One linear constraint: Σ_k coefficients[k] · (sum of feature k over the GPU) ≤ bound."""

    meaning: str = Field(description="What the row limits.")
    coefficients: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        description="One per feature of the region; share of a GPU per unit."
    )
    bound: float = Field(gt=0, description="Right-hand side.")


class Domain(_Plain):
    """What the twin runs behind a region covered; outside it the rows are extrapolated."""

    max_adapters: int = Field(ge=1, description="Most adapters on a GPU.")
    min_rate: float = Field(ge=0, description="Smallest rate of an adapter in requests/s.")
    max_rate: float = Field(gt=0, description="Largest rate of an adapter in requests/s.")


class OptionErrors(_Plain):
    """How the rows of one option err on twin runs that did not shape its bounds."""

    n_starved: int = Field(ge=0, description="Starved points judged.")
    n_accepted: int = Field(ge=0, description="Accepted points judged.")
    false_feasible: float = Field(ge=0, le=1, description="Share of the starved points inside the rows.")
    false_infeasible: float = Field(ge=0, le=1, description="Share of the accepted points outside the rows.")
    mean_usage: float = Field(ge=0, description="Mean of the largest row usage at the twin's own boundary.")


class _RegimeOption(_Plain):
    """A kind of GPU with a number of slots and a rank that they are padded to, in one of the two regimes."""

    device: str
    max_loras: int = Field(ge=1)
    max_lora_rank: int = Field(ge=1)
    regime: Regime

    @property
    def key(self) -> tuple[int, int, Regime]:
        """Slots, max rank and regime."""
        return self.max_loras, self.max_lora_rank, self.regime


class OptionRows(_RegimeOption):
    """The rows of one option.

    An option may appear twice: *resident* rows for GPUs with a slot for every adapter, *shared* rows for
    those whose adapters wait for slots. A GPU is feasible when it is inside either.

    The methods take ``sums``: feature sums of GPUs, shape (K,) or (m, K), columns as in the region's
    ``features``.
    """

    kv_cache_tokens: int = Field(ge=0, description="KV cache that the rows were made with.")
    rows: tuple[Row, ...] = Field(min_length=1)
    domain: Domain
    errors: OptionErrors | None = None

    @property
    def numbers(self) -> tuple[int, int, int]:
        """Slots, max rank and KV cache tokens: all that the rows depend on."""
        return self.max_loras, self.max_lora_rank, self.kv_cache_tokens

    @property
    def coefficients(self) -> FloatArray:
        """Coefficients, shape (rows, K)."""
        return np.array([row.coefficients for row in self.rows])

    @property
    def bounds(self) -> FloatArray:
        """Right-hand sides, shape (rows,)."""
        return np.array([row.bound for row in self.rows])

    def slack(self, sums: FloatArray) -> FloatArray:
        """Bound minus left-hand side of every row, shape (rows,) or (m, rows); negative is violated."""
        return self.bounds - np.asarray(sums, dtype=np.float64) @ self.coefficients.T

    def contains(self, sums: FloatArray) -> BoolArray:
        """Whether every row holds, shape () or (m,)."""
        return np.asarray(np.all(self.slack(sums) >= -1e-12, axis=-1), dtype=np.bool_)

    def fills(self, sums: FloatArray) -> FloatArray:
        """Left-hand side over bound of every row, shape (rows,) or (m, rows)."""
        return np.asarray(np.asarray(sums, dtype=np.float64) @ self.coefficients.T / self.bounds)

    def fill(self, sums: FloatArray) -> FloatArray:
        """The largest of them, shape () or (m,); 1 is the boundary."""
        return np.asarray(self.fills(sums).max(axis=-1))


class FeasibilityRegion(_Plain):
    """Rows for every option of one device under one engine, workload and profile."""

    kind: Literal["inner", "outer"]
    features: tuple[str, ...] = Field(description="Columns of the rows.")
    options: tuple[OptionRows, ...]

    def __repr__(self) -> str:
        return f"<FeasibilityRegion: {self.kind}, {len({o.numbers for o in self.options})} options>"

    def __str__(self) -> str:
        return repr(self)

    @model_validator(mode="after")
    def _consistent(self) -> FeasibilityRegion:
        if self.features != ADDITIVE:
            raise ValueError(f"features {list(self.features)} are not this version's {list(ADDITIVE)}")
        if any(len(row.coefficients) != len(self.features) for o in self.options for row in o.rows):
            raise ValueError("a row has not one coefficient for each feature")
        if len(set(self.keys)) < len(self.options):
            raise ValueError("an option appears twice in the same regime")
        return self

    @property
    def keys(self) -> list[tuple[int, int, Regime]]:
        """Slots, max rank and regime of the options in their order."""
        return [o.key for o in self.options]

    def of(self, max_loras: int, max_lora_rank: int) -> tuple[OptionRows, ...]:
        """The rows of both regimes of one option.

        Raises
        ------
        RegionError
            If the region has no such option.
        """
        engine = (max_loras, max_lora_rank)
        matching = tuple(o for o in self.options if (o.max_loras, o.max_lora_rank) == engine)
        if not matching:
            have = ", ".join(dict.fromkeys(f"{o.max_loras}x{o.max_lora_rank}" for o in self.options))
            raise RegionError(
                f"the region has no option with {max_loras} slots of rank {max_lora_rank}; "
                f"it has {have or 'none'}"
            )
        return matching

    @property
    def bounding(self) -> FeasibilityRegion:
        """An outer region as bounds need it: wide enough, too, where adapters are a few more than slots.

        There other options of the rank, with up to twice the slots, hold a slot for each of them, so that the
        region of all options lets in enough. Where there is no such option, the resident rows let in as many
        adapters as `BEYOND_SLOTS` says.
        """
        slots: dict[int, set[int]] = {}
        for one in self.options:
            slots.setdefault(one.max_lora_rank, set()).add(one.max_loras)

        def widened(one: OptionRows) -> OptionRows:
            n = one.max_loras
            if one.regime != "resident" or any(n < more <= 2 * n for more in slots[one.max_lora_rank]):
                return one
            return one.model_copy(update={"rows": tuple(map(_beyond_slots, one.rows))})

        return self.model_copy(update={"options": tuple(map(widened, self.options))})

    def contains(self, max_loras: int, max_lora_rank: int, sums: FloatArray) -> BoolArray:
        """Whether GPUs with this option and these sums, shape (K,) or (m, K), are inside."""
        inside = [rows.contains(sums) for rows in self.of(max_loras, max_lora_rank)]
        return np.asarray(np.any(inside, axis=0), dtype=np.bool_)

    def fill(self, max_loras: int, max_lora_rank: int, sums: FloatArray) -> FloatArray:
        """How full GPUs are under the regime that has most room, shape () or (m,); 1 is the boundary."""
        shares = [rows.fill(sums) for rows in self.of(max_loras, max_lora_rank)]
        return np.asarray(np.min(shares, axis=0))


def _beyond_slots(row: Row) -> Row:
    """A row of resident adapters; where it counts them, it lets in a few more than slots."""
    if any(c != (name == "count") for c, name in zip(row.coefficients, ADDITIVE, strict=True)):
        return row
    return row.model_copy(update={"bound": row.bound + math.ceil(row.bound * BEYOND_SLOTS)})


class Plane(_Plain):
    """One affine piece: intercept + Σ_k coefficients[k] · (sum of feature k over the GPU)."""

    intercept: float
    coefficients: tuple[Annotated[float, Field(ge=0)], ...]


class OptionLatency(_RegimeOption):
    """Convex upper estimates of one option's mean latencies: the largest of a few planes, in ms."""

    itl_ms: tuple[Plane, ...] = Field(min_length=1)
    ttft_ms: tuple[Plane, ...] = Field(min_length=1)

    def estimate(self, sums: FloatArray, quality: Quality = "itl_ms") -> FloatArray:
        """Estimated mean latency in ms inside the inner region, for sums of shape (K,) or (m, K)."""
        planes = self.itl_ms if quality == "itl_ms" else self.ttft_ms
        slopes = np.array([plane.coefficients for plane in planes])
        values: FloatArray = (
            np.asarray(sums, dtype=np.float64) @ slopes.T + np.array([plane.intercept for plane in planes])
        ).max(axis=-1)
        return values


class LatencyFloor(_Plain):
    """What a latency of an accepted GPU is at least: a constant and so many of the least steps, in ms."""

    latency: Floored
    regime: Regime
    base_ms: float = Field(ge=0, description="The constant.")
    steps: float = Field(ge=0, description="How many of the least steps that the GPU's adapters lead to.")
    runs: int = Field(ge=1, description="Accepted runs that it was held against and that did not shape it.")
    below: float = Field(ge=0, le=1, description="Share of them that lies below.")


class Provenance(_Plain):
    """Where a region comes from, so that the same command makes the same numbers again."""

    command: str = Field(description="What makes the region again.")
    space: dict[str, Any] = Field(description="Profile, engine, workload and options that were sampled.")
    plan: dict[str, Any] = Field(description="How much was sampled, and the seed.")
    runs: int = Field(ge=0, description="Twin runs.")
    boundaries: int = Field(ge=0, description="Compositions whose boundary was bracketed.")
    inner_confidence: dict[str, float] = Field(
        description="Share of the boundaries outside the inner region, by regime."
    )
    outer_confidence: float = Field(description="Share of the boundaries inside the outer region.")
    note: str = Field(default="", description="What a reader should know.")
    params: dict[str, Any] = Field(
        default_factory=dict, description="Parameters of learning that are not their defaults."
    )

    @model_serializer(mode="wrap")
    def _without_defaults(self, content: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without parameters that are all defaults, as files were before there were any."""
        values: dict[str, Any] = content(self)
        return values if self.params else {name: v for name, v in values.items() if name != "params"}


class Regions(ResultView, _Plain):
    """Everything that the placers read of one device: both regions and the latency estimates.

    ``plot`` draws between which loads the regions of each option end, as shares of the twin's own boundary.
    """

    format: int = FORMAT
    units: dict[str, str]
    provenance: Provenance
    inner: FeasibilityRegion
    outer: FeasibilityRegion
    latency: tuple[OptionLatency, ...]
    floors: tuple[LatencyFloor, ...] = Field(default=(), description="Without one, nothing bounds a latency.")

    @model_serializer(mode="wrap")
    def _without_no_floors(self, content: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without floors if there are none, as in files of format 5."""
        values: dict[str, Any] = content(self)
        return values if self.floors else {name: v for name, v in values.items() if name != "floors"}

    @model_validator(mode="after")
    def _consistent(self) -> Regions:
        if self.format not in READABLE:
            raise ValueError(f"format {self.format} is not this version's {FORMAT}")
        if (self.inner.kind, self.outer.kind) != ("inner", "outer"):
            raise ValueError(f"the inner region is of kind {self.inner.kind}, the outer {self.outer.kind}")
        estimated = [o.key for o in self.latency]
        if not sorted(self.inner.keys) == sorted(self.outer.keys) == sorted(estimated):
            raise ValueError("inner region, outer region and latency estimates have different options")
        if len({(floor.latency, floor.regime) for floor in self.floors}) < len(self.floors):
            raise ValueError("a latency has two floors in the same regime")
        planes = [plane for o in self.latency for plane in (*o.itl_ms, *o.ttft_ms)]
        if any(len(plane.coefficients) != len(ADDITIVE) for plane in planes):
            raise ValueError("a plane has not one coefficient for each feature")
        return self

    def __repr__(self) -> str:
        devices = ", ".join(sorted({option.device for option in self.latency}))
        options = len({(o.max_loras, o.max_lora_rank) for o in self.latency})
        return f"<Regions: {devices}, {options} options, from {self.provenance.runs:,} twin runs>"

    def __str__(self) -> str:
        return repr(self)

    def _draw(self, ax: Axes | None) -> Figure:
        outer = {rows.key: rows.errors for rows in self.outer.options}
        spans = [_span(rows, outer[rows.key]) for rows in self.inner.options]
        return draw_spans(
            ax, repr(self).strip("<>"), spans, "load over that of the twin's own boundary, in the mean",
            band="from the edge of the inner region to that of the outer", good="", bad="",
        )  # fmt: skip

    def _shown(self) -> Iterable[Part]:
        columns = (
            ">slots", ">rank", "adapters", ">KV cache tokens", ">rows", ">starved inside", ">accepted outside"
        )  # fmt: skip
        return [repr(self).strip("<>"), table(columns, map(_option_cells, self.inner.options))]

    def restricted(self, options: Sequence[tuple[int, int]]) -> Regions:
        """The same regions with these (slots, max rank) options only, in the order given.

        Raises
        ------
        RegionError
            If one of them is missing.
        """
        inner, outer = (
            region.model_copy(update={"options": tuple(rows for key in options for rows in region.of(*key))})
            for region in (self.inner, self.outer)
        )
        kept = set(options)
        latency = tuple(o for o in self.latency if (o.max_loras, o.max_lora_rank) in kept)
        return self.model_copy(update={"inner": inner, "outer": outer, "latency": latency})

    def option_latency(
        self, max_loras: int, max_lora_rank: int, regime: Regime = "resident"
    ) -> OptionLatency:
        """Latency estimates of one option.

        Raises
        ------
        RegionError
            If there are none.
        """
        for option in self.latency:
            if option.key == (max_loras, max_lora_rank, regime):
                return option
        raise RegionError(
            f"no latency estimates for {max_loras} slots of rank {max_lora_rank}, adapters {regime}"
        )

    def to_json(self) -> str:
        """JSON text, one row or plane per line, with a digest of its content."""
        document = self.model_dump(mode="json")
        return _lines({DIGEST: _digest(document), **document}) + "\n"


def _span(inner: OptionRows, outer: OptionErrors | None) -> Span:
    """Where the regions of an option end, in the mean over the boundaries that the twin found."""
    name = f"{inner.max_loras} slots of rank {inner.max_lora_rank}, {inner.regime}"
    if inner.errors is None or outer is None or not inner.errors.mean_usage or not outer.mean_usage:
        return Span(name, None, None, None, True, "not tested")
    low, high = 1 / inner.errors.mean_usage, 1 / outer.mean_usage
    return Span(name, None, low, high, True, "")


def _option_cells(rows: OptionRows) -> list[object]:
    """An option of the inner region, with how it errs."""
    errors = rows.errors
    shares = [None, None] if errors is None else [errors.false_feasible, errors.false_infeasible]
    said = [None if share is None else f"{share:.1%}" for share in shares]
    return [
        rows.max_loras,
        rows.max_lora_rank,
        rows.regime,
        f"{rows.kv_cache_tokens:,}",
        len(rows.rows),
        *said,
    ]


def read_regions(path: str | Path) -> Regions:
    """Read regions from a JSON file.

    Raises
    ------
    RegionError
        If the file is unreadable, no JSON, not of this version's form, or not what was written.
    """
    path = Path(path)
    try:
        return regions_of(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RegionError(
            f"{path}: no usable regions ({cause_of(error)}); delete the file to make it again"
        ) from error


def regions_of(text: str) -> Regions:
    """The regions of a JSON text.

    Raises
    ------
    ValueError
        If it is no JSON, not of this version's form, or not what was written; on one line.
    """
    document = json_value(text)
    if not isinstance(document, dict):
        raise ValueError("it holds no mapping")
    digest = document.pop(DIGEST, None)
    try:
        regions = Regions.model_validate(document)
    except ValidationError as error:
        raise ValueError(sentences(error, Regions, document, most=1)[0]) from error
    if digest != _digest(document):
        raise ValueError("its content is not what was written")
    return regions


def _digest(document: dict[str, Any]) -> str:
    """Digest of the content of regions, however it is laid out."""
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


ONE_LINE = 300
"""Most characters of a row, a plane or any other object that is written on one line."""


def _lines(value: object, indent: int = 0) -> str:
    """JSON with every object that fits on one line, and every list of numbers or texts."""
    pad = " " * indent
    flat = json.dumps(value, ensure_ascii=False)
    if isinstance(value, dict) and (len(flat) > ONE_LINE or not _shallow(value)):
        body = ",\n".join(f"{pad} {json.dumps(k)}: {_lines(v, indent + 1)}" for k, v in value.items())
        return f"{{\n{body}\n{pad}}}"
    if isinstance(value, list) and any(isinstance(v, dict | list) for v in value):
        body = ",\n".join(f"{pad} {_lines(v, indent + 1)}" for v in value)
        return f"[\n{body}\n{pad}]"
    return flat


def _shallow(value: dict[str, object]) -> bool:
    """Whether an object holds scalars and lists of scalars only."""
    parts = [v for v in value.values() if isinstance(v, dict | list)]
    return all(isinstance(v, list) and not any(isinstance(w, dict | list) for w in v) for v in parts)
