"""LoRA adapters: entries of a scenario file and the classes of identical adapters behind them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, NamedTuple, TypeVar

from pydantic import Discriminator, Field, Tag

from scenarios.base import FrozenModel
from scenarios.engine import Rank, RankOrBase
from scenarios.reading.findings import Finding
from scenarios.service_levels import AdapterSLO
from scenarios.traffic.arrivals import Arrivals
from scenarios.traffic.lengths import MAX_TOKENS, Lengths
from scenarios.traffic.prompt_reuse import PromptReuse, Sessions
from scenarios.traffic.recordings import RecordedArrivals

MAX_ADAPTERS = 250_000
"""Most adapters in one scenario."""

ONE, SEVERAL, ZIPF, UNCERTAIN = "one value", "several values", "by Zipf's law", "between two values"
"""Tags of the forms that a rank or a rate may have; no key is written so, which messages rely on."""

T = TypeVar("T")

Rate = Annotated[float, Field(gt=0, le=100_000)]


class ZipfRates(FrozenModel):
    """Rates that follow Zipf's law: the k-th adapter of n gets total · k^-exponent / Σ j^-exponent."""

    zipf_total: Annotated[float, Field(gt=0, le=10_000_000)]
    """Sum of the rates in requests/s."""
    exponent: Annotated[float, Field(ge=0, le=10)] = 1.0
    """Skew; 0 is uniform."""


class UncertainRate(FrozenModel):
    """A rate that is not known: a plan must hold whether it is low or high."""

    low: Annotated[float, Field(ge=0, le=100_000)]
    """The least that it may be, in requests/s."""
    high: Rate
    """The most that it may be, in requests/s."""

    def findings(self) -> Iterator[Finding]:
        """Yield a low rate that is above the high one."""
        if self.low > self.high:
            message = f"is {self.low:g}, above high {self.high:g}"
            yield Finding(
                ("low",), message, "lower it or raise high; where the rate is known, give one number"
            )


def _form(value: object) -> str:
    """Tell how a rank or a rate is written, so that only that form's errors are reported."""
    if isinstance(value, UncertainRate) or (
        isinstance(value, Mapping) and not value.keys().isdisjoint(UncertainRate.model_fields)
    ):
        return UNCERTAIN
    if isinstance(value, Mapping | ZipfRates):
        return ZIPF
    return SEVERAL if isinstance(value, list | tuple) else ONE


def _rank_form(value: object) -> str:
    return SEVERAL if _form(value) == SEVERAL else ONE


def _dealt_form(value: object) -> str:
    """Tell how a rate in a list is written."""
    return UNCERTAIN if _form(value) == UNCERTAIN else ONE


_DealtRate = Annotated[
    Annotated[Rate, Tag(ONE)] | Annotated[UncertainRate, Tag(UNCERTAIN)], Discriminator(_dealt_form)
]

_Rates = Annotated[
    Annotated[Rate, Tag(ONE)]
    | Annotated[UncertainRate, Tag(UNCERTAIN)]
    | Annotated[ZipfRates, Tag(ZIPF)]
    | Annotated[tuple[_DealtRate, ...], Field(min_length=1), Tag(SEVERAL)],
    Discriminator(_form),
]

_Ranks = Annotated[
    Annotated[RankOrBase, Tag(ONE)] | Annotated[tuple[Rank, ...], Field(min_length=1), Tag(SEVERAL)],
    Discriminator(_rank_form),
]


class Adapter(FrozenModel):
    """One adapter, or ``count`` adapters that share an entry.

    Lists of ranks or rates are dealt round-robin: adapter k of the entry gets value k modulo the
    list's length, as in the paper's workloads.
    """

    name: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9._/@+-]*$")]
    """Name; with a count above 1 the adapters are called name-1, name-2 and so on"""
    count: Annotated[int, Field(ge=1, le=MAX_ADAPTERS)] = 1
    """How many adapters the entry stands for."""
    rank: _Ranks | None = None
    """LoRA rank, or a list of ranks to deal; absent or 0: requests of the base model, which take no slot."""
    rate: _Rates
    """Requests per second of each adapter, a list to deal, {zipf_total, exponent}, or {low, high} where it is
    not known."""
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

    def names(self) -> tuple[str, ...]:
        """Names of the entry's adapters."""
        if self.count == 1:
            return (self.name,)
        width = len(str(self.count))
        return tuple(f"{self.name}-{k:0{width}d}" for k in range(1, self.count + 1))

    def rates(self) -> tuple[float, ...]:
        """Rates of the entry's adapters in requests/s, the high ones of those that are not known."""
        return tuple(high for _, high in self._ranges())

    def low_shares(self) -> tuple[float, ...]:
        """How low the rate of each of the entry's adapters may be, as a share of `rates`; 1: it is known."""
        return tuple(low / high for low, high in self._ranges())

    def _ranges(self) -> tuple[tuple[float, float], ...]:
        """Lowest and highest rate of each of the entry's adapters in requests/s."""
        if isinstance(self.rate, ZipfRates):
            weights = [k**-self.rate.exponent for k in range(1, self.count + 1)]
            scale = self.rate.zipf_total / sum(weights)
            return tuple((scale * w, scale * w) for w in weights)
        rates = self.rate if isinstance(self.rate, tuple) else (self.rate,)
        ranges = tuple((r.low, r.high) if isinstance(r, UncertainRate) else (r, r) for r in rates)
        return _deal(ranges, self.count)

    def ranks(self) -> tuple[int, ...]:
        """Ranks of the entry's adapters; 0: the base model."""
        return _deal(0 if self.rank is None else self.rank, self.count)

    @property
    def reuse(self) -> PromptReuse | None:
        """What its prompts have in common; None where every prompt is new."""
        reuse = PromptReuse(self.system_prompt, self.sessions, self.cached_share)
        return None if reuse == PromptReuse() else reuse


def _deal(value: T | tuple[T, ...], count: int) -> tuple[T, ...]:
    values = value if isinstance(value, tuple) else (value,)
    return tuple(values[k % len(values)] for k in range(count))


class AdapterKind(NamedTuple):
    """All of an adapter but its name; adapters of one kind are exchangeable."""

    rank: int
    rate: float
    prompt: Lengths
    output: Lengths
    levels: AdapterSLO | None = None
    low_share: float = 1.0
    arrivals: Arrivals | None = None
    """Arrival process; None: the workload's."""
    reuse: PromptReuse | None = None
    """What its prompts have in common; None: nothing."""

    @property
    def is_base(self) -> bool:
        """Whether its requests are of the base model, and take no slot."""
        return self.rank == 0

    @property
    def mean_prompt_tokens(self) -> float:
        """Mean tokens of a whole prompt, what it has in common with others included."""
        prompt, output = self.prompt.mean_tokens, self.output.mean_tokens
        return prompt if self.reuse is None else self.reuse.mean_prompt_tokens(prompt, output)

    @property
    def tokens_per_s(self) -> float:
        """Tokens that it asks for in a second, of prompts and answers."""
        return self.rate * (self.mean_prompt_tokens + self.output.mean_tokens)

    @property
    def uncertain(self) -> bool:
        """Whether its rate may be lower."""
        return self.low_share < 1.0

    def scaled(self, share: float) -> AdapterKind:
        """The kind of an adapter that gets a share of the requests."""
        return self if share == 1.0 else self._replace(rate=self.rate * share)

    def at(self, *, high: bool) -> AdapterKind:
        """The kind with its rate known, at its highest or its lowest."""
        return self._replace(rate=self.rate if high else self.rate * self.low_share, low_share=1.0)


@dataclass(frozen=True)
class AdapterClass:
    """Adapters that no placer can tell apart: equal rank, rates, lengths, service levels and least replicas.

    Parameters
    ----------
    rank
        LoRA rank; 0: the base model.
    rate
        Requests per second of each adapter; the most that they may be where they are not known.
    prompt, output
        Distribution of prompt and output tokens.
    names
        The adapters' names, in the scenario's order.
    levels
        Service levels of their own, or None.
    low_share
        How low the rate may be, as a share of it; 1: it is known.
    min_replicas
        Equal parts on distinct GPUs that each is served in at least.
    arrivals
        Arrival process of their own; None: the workload's.
    reuse
        What prompts have in common; None: nothing.
    """

    rank: int
    rate: float
    prompt: Lengths
    output: Lengths
    names: tuple[str, ...]
    levels: AdapterSLO | None = None
    low_share: float = 1.0
    min_replicas: int = 1
    arrivals: Arrivals | None = None
    reuse: PromptReuse | None = None

    @property
    def count(self) -> int:
        """How many adapters the class has."""
        return len(self.names)

    @property
    def tokens_per_s(self) -> float:
        """Tokens that each of its adapters asks for in a second, of prompts and answers."""
        return self.kind.tokens_per_s

    @property
    def kind(self) -> AdapterKind:
        """What its adapters have in common."""
        return AdapterKind(
            self.rank,
            self.rate,
            self.prompt,
            self.output,
            self.levels,
            self.low_share,
            self.arrivals,
            self.reuse,
        )


def group(
    entries: Iterable[Adapter],
    prompt: Lengths | None,
    output: Lengths | None,
    arrivals: Arrivals | None = None,
) -> tuple[AdapterClass, ...]:
    """Classes of identical adapters, in order of first appearance.

    Parameters
    ----------
    entries
        Entries of a scenario.
    prompt, output
        Lengths of the adapters that name none of their own; None if all do.
    arrivals
        Arrival process of the adapters that name none of their own. Adapters of a recording that goes by
        names differ, for each has requests of its own.
    """
    classes: dict[tuple[AdapterKind, int], list[str]] = {}
    for name, kind, replicas in _expand(entries, prompt, output, arrivals):
        classes.setdefault((kind, replicas), []).append(name)
    return tuple(
        AdapterClass(
            kind.rank,
            kind.rate,
            kind.prompt,
            kind.output,
            tuple(names),
            kind.levels,
            kind.low_share,
            replicas,
            kind.arrivals,
            kind.reuse,
        )
        for (kind, replicas), names in classes.items()
    )


def _expand(
    entries: Iterable[Adapter], prompt: Lengths | None, output: Lengths | None, arrivals: Arrivals | None
) -> Iterator[tuple[str, AdapterKind, int]]:
    for entry in entries:
        p, o = entry.prompt or prompt, entry.output or output
        assert p is not None  # a scenario checks that its adapters have lengths
        assert o is not None
        figures = zip(entry.names(), entry.ranks(), entry.rates(), entry.low_shares(), strict=True)
        for name, rank, rate, low_share in figures:
            own = entry.arrivals
            if isinstance(recorded := own or arrivals, RecordedArrivals) and recorded.by_name:
                own = recorded.of(name)
            kind = AdapterKind(rank, rate, p, o, entry.service_levels, low_share, own, entry.reuse)
            yield name, kind, entry.min_replicas
