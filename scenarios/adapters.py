"""LoRA adapters: entries of a scenario file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from scenarios.base import FrozenModel
from scenarios.engine import Rank, RankOrBase
from scenarios.export_settings import Plain
from scenarios.reading.findings import Finding
from scenarios.reading.text_patterns import ADAPTER_NAME
from scenarios.service_levels import AdapterSLO
from scenarios.traffic.arrivals import Arrivals, ClosedLoopArrivals
from scenarios.traffic.lengths import MAX_TOKENS, Lengths
from scenarios.traffic.prompt_reuse import PromptReuse, Sessions
from scenarios.traffic.rates import ONE, SEVERAL, Rates, deal, form_of, rate_ranges
from scenarios.traffic.recordings import RecordedArrivals

MAX_ADAPTERS = 1_000_000
"""Most adapters in one scenario."""

NAME_IN_SOURCE = "{name}"
"""What stands for an adapter's name in the source of an entry."""


def _rank_form(value: object) -> str:
    return SEVERAL if form_of(value) == SEVERAL else ONE


_Ranks = Annotated[
    Annotated[RankOrBase, Tag(ONE)] | Annotated[tuple[Rank, ...], Field(min_length=1), Tag(SEVERAL)],
    Discriminator(_rank_form),
]


def _has_users(arrivals: object) -> bool:
    """Tell whether arrivals, as they are written or made, are those of users in a closed loop."""
    process = arrivals.get("process") if isinstance(arrivals, Mapping) else arrivals
    return isinstance(process, ClosedLoopArrivals) or process == "closed_loop"


_OF_USERS: Final = object()
"""Stands for no rate where users say it."""


def _given(rate: object) -> object:
    """A rate as it is given; none is refused at once, so that it is told beside all else that is empty."""
    if rate is None:
        raise Finding((), "is empty", "give it a value: only closed_loop has none").error()
    return None if rate is _OF_USERS else rate


def _say_when_rates_are_needed(schema: dict[str, Any]) -> None:
    """Have a JSON schema ask for a rate, or for users in its place."""
    schema["required"].remove("rate")
    users = {"properties": {"process": {"const": "closed_loop"}}, "required": ["process"]}
    schema["anyOf"] = [
        {"required": ["rate"]},
        {"properties": {"arrivals": {"type": "object", **users}}, "required": ["arrivals"]},
    ]


class Adapter(FrozenModel, json_schema_extra=_say_when_rates_are_needed):
    """One adapter, or ``count`` adapters that share an entry.

    Lists of ranks or rates are dealt round-robin: adapter k of the entry gets value k modulo the
    list's length, as in the paper's workloads.
    """

    name: Annotated[str, Field(min_length=1, max_length=200, pattern=ADAPTER_NAME)]
    """Name; with a count above 1 the adapters are called name-1, name-2 and so on"""
    count: Annotated[int, Field(ge=1, le=MAX_ADAPTERS)] = 1
    """How many adapters the entry stands for."""
    rank: _Ranks = 0
    """LoRA rank, or a list of ranks to deal; absent or 0: requests of the base model, which take no slot."""
    rate: Annotated[Rates | None, BeforeValidator(_given)]
    """Requests per second of each adapter, a list to deal, {zipf_total, exponent}, or {low, high} where it is
    not known; not of closed_loop, whose users say it."""
    prompt: Lengths | None = None
    """Prompt tokens; absent: the workload's."""
    output: Lengths | None = None
    """Output tokens; absent: the workload's."""
    arrivals: Arrivals | None = None
    """Arrival process; absent: the workload's."""
    system_prompt: Annotated[int, Field(ge=0, le=MAX_TOKENS)] = 0
    """Tokens that every prompt of an adapter begins with, before those of prompt."""
    sessions: Sessions | None = None
    """Conversations, whose prompts grow by what was said before; absent: every request stands alone."""
    cached_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of every prompt that is found in the prefix cache, where that was measured."""
    service_levels: AdapterSLO | None = None
    """What these adapters must get, beside the scenario's service levels."""
    min_replicas: Annotated[int, Field(ge=1, le=64)] = 1
    """Equal parts, on GPUs of their own, that each adapter is served in at least; more where it is hotter."""
    source: Plain | None = None
    """Folder or address of the weights, for a deployment; ``{name}`` in it stands for an adapter's name."""
    served_name: Plain | None = None
    """Name by which clients ask for it; absent: its own."""

    @model_validator(mode="before")
    @classmethod
    def _rate_of_users(cls, values: Any) -> Any:
        """Take no rate for the rate of users; of all others it is missing."""
        if isinstance(values, Mapping) and values.get("rate") is None and _has_users(values.get("arrivals")):
            return {**values, "rate": _OF_USERS}
        return values

    def findings(self) -> Iterator[Finding]:
        """Yield a rate that users say already, or nothing says, and conversations that nobody starts."""
        loop = isinstance(self.arrivals, ClosedLoopArrivals)
        if loop and self.rate is not None:
            message = "is given, and the users of closed_loop say it too: users / think_s"
            yield Finding(("rate",), message, "remove it, or choose other arrivals")
        if self.sessions is not None and isinstance(self.arrivals, ClosedLoopArrivals | RecordedArrivals):
            message = f"are given, and arrivals are {self.arrivals.process}, which start no conversations"
            yield Finding(("sessions",), message, "remove them, or choose other arrivals")
        if self.count > 1:
            yield from self._shared_texts()

    def _shared_texts(self) -> Iterator[Finding]:
        """Yield a source or a served name that several adapters would share."""
        if self.source is not None and NAME_IN_SOURCE not in self.source:
            message = f"is one for {self.count:,} adapters"
            yield Finding(("source",), message, f"write {NAME_IN_SOURCE} where each one's name belongs")
        if self.served_name is not None:
            message = f"is one for {self.count:,} adapters"
            yield Finding(("served_name",), message, "give each adapter an entry of its own, or leave it out")

    def written(self, values: Any) -> Any:
        """Without the rate that users have none of."""
        return {name: value for name, value in values.items() if name != "rate" or value is not None}

    def names(self) -> tuple[str, ...]:
        """Names of the entry's adapters."""
        if self.count == 1:
            return (self.name,)
        width = len(str(self.count))
        return tuple(f"{self.name}-{k:0{width}d}" for k in range(1, self.count + 1))

    def source_of(self, name: str) -> str | None:
        """Where the weights of the adapter of this name are."""
        return None if self.source is None else self.source.replace(NAME_IN_SOURCE, name)

    def rates(self) -> tuple[float, ...]:
        """Rates of the entry's adapters in requests/s, the high ones of those that are not known."""
        return tuple(high for _, high in self._ranges())

    def low_shares(self) -> tuple[float, ...]:
        """How low the rate of each of the entry's adapters may be, as a share of `rates`; 1: it is known."""
        return tuple(low / high for low, high in self._ranges())

    def _ranges(self) -> tuple[tuple[float, float], ...]:
        """Lowest and highest rate of each of the entry's adapters in requests/s."""
        if isinstance(self.arrivals, ClosedLoopArrivals):
            return ((self.arrivals.rate, self.arrivals.rate),) * self.count
        assert self.rate is not None  # as its findings say
        return rate_ranges(self.rate, self.count)

    def ranks(self) -> tuple[int, ...]:
        """Ranks of the entry's adapters; 0: the base model."""
        return deal(self.rank, self.count)

    @property
    def reuse(self) -> PromptReuse | None:
        """What its prompts have in common; None where every prompt is new."""
        reuse = PromptReuse(self.system_prompt, self.sessions, self.cached_share)
        return None if reuse == PromptReuse() else reuse
