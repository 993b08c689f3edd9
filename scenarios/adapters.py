"""LoRA adapters: entries of a scenario file and the classes of identical adapters behind them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, NamedTuple, TypeVar

from pydantic import Discriminator, Field, Tag

from scenarios.base import FrozenModel
from scenarios.engine import Rank
from scenarios.lengths import Lengths
from scenarios.service_levels import AdapterSLO

MAX_ADAPTERS = 250_000
"""Most adapters in one scenario."""

ONE, SEVERAL, ZIPF = "one value", "several values", "by Zipf's law"
"""Tags of the forms that a rank or a rate may have; no key is written so, which messages rely on."""

T = TypeVar("T")

Rate = Annotated[float, Field(gt=0, le=100_000)]


class ZipfRates(FrozenModel):
    """Rates that follow Zipf's law: the k-th adapter of n gets total · k^-exponent / Σ j^-exponent."""

    zipf_total: Annotated[float, Field(gt=0, le=10_000_000)]
    """Sum of the rates in requests/s."""
    exponent: Annotated[float, Field(ge=0, le=10)] = 1.0
    """Skew; 0 is uniform."""


def _form(value: object) -> str:
    """Tell how a rank or a rate is written, so that only that form's errors are reported."""
    if isinstance(value, Mapping | ZipfRates):
        return ZIPF
    return SEVERAL if isinstance(value, list | tuple) else ONE


def _rank_form(value: object) -> str:
    return SEVERAL if _form(value) == SEVERAL else ONE


_Rates = Annotated[
    Annotated[Rate, Tag(ONE)]
    | Annotated[ZipfRates, Tag(ZIPF)]
    | Annotated[tuple[Rate, ...], Field(min_length=1), Tag(SEVERAL)],
    Discriminator(_form),
]

_Ranks = Annotated[
    Annotated[Rank, Tag(ONE)] | Annotated[tuple[Rank, ...], Field(min_length=1), Tag(SEVERAL)],
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
    rank: _Ranks
    """LoRA rank, or a list of ranks to deal."""
    rate: _Rates
    """Requests per second of each adapter, a list to deal, or {zipf_total, exponent}."""
    prompt: Lengths | None = None
    """Prompt tokens; absent: the workload's."""
    output: Lengths | None = None
    """Output tokens; absent: the workload's."""
    service_levels: AdapterSLO | None = None
    """What these adapters must get, beside the scenario's service levels."""

    def names(self) -> tuple[str, ...]:
        """Names of the entry's adapters."""
        if self.count == 1:
            return (self.name,)
        width = len(str(self.count))
        return tuple(f"{self.name}-{k:0{width}d}" for k in range(1, self.count + 1))

    def rates(self) -> tuple[float, ...]:
        """Rates of the entry's adapters in requests/s."""
        if isinstance(self.rate, ZipfRates):
            weights = [k**-self.rate.exponent for k in range(1, self.count + 1)]
            scale = self.rate.zipf_total / sum(weights)
            return tuple(scale * w for w in weights)
        return _deal(self.rate, self.count)

    def ranks(self) -> tuple[int, ...]:
        """Ranks of the entry's adapters."""
        return _deal(self.rank, self.count)


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

    def scaled(self, share: float) -> AdapterKind:
        """The kind of an adapter that gets a share of the requests."""
        return self if share == 1.0 else self._replace(rate=self.rate * share)


@dataclass(frozen=True)
class AdapterClass:
    """Adapters that no placer can tell apart: equal rank, rate, lengths and service levels.

    Parameters
    ----------
    rank
        LoRA rank.
    rate
        Requests per second of each adapter.
    prompt, output
        Distribution of prompt and output tokens.
    names
        The adapters' names, in the scenario's order.
    levels
        Service levels of their own, or None.
    """

    rank: int
    rate: float
    prompt: Lengths
    output: Lengths
    names: tuple[str, ...]
    levels: AdapterSLO | None = None

    @property
    def count(self) -> int:
        """How many adapters the class has."""
        return len(self.names)

    @property
    def tokens_per_s(self) -> float:
        """Tokens that each of its adapters asks for in a second, of prompts and answers."""
        return self.rate * (self.prompt.mean_tokens + self.output.mean_tokens)

    @property
    def kind(self) -> AdapterKind:
        """What its adapters have in common."""
        return AdapterKind(self.rank, self.rate, self.prompt, self.output, self.levels)


def group(
    entries: Iterable[Adapter], prompt: Lengths | None, output: Lengths | None
) -> tuple[AdapterClass, ...]:
    """Classes of identical adapters, in order of first appearance.

    Parameters
    ----------
    entries
        Entries of a scenario.
    prompt, output
        Lengths of the adapters that name none of their own; None if all do.
    """
    classes: dict[AdapterKind, list[str]] = {}
    for name, kind in _expand(entries, prompt, output):
        classes.setdefault(kind, []).append(name)
    return tuple(
        AdapterClass(kind.rank, kind.rate, kind.prompt, kind.output, tuple(names), kind.levels)
        for kind, names in classes.items()
    )


def _expand(
    entries: Iterable[Adapter], prompt: Lengths | None, output: Lengths | None
) -> Iterator[tuple[str, AdapterKind]]:
    for entry in entries:
        p, o = entry.prompt or prompt, entry.output or output
        assert p is not None  # a scenario checks that its adapters have lengths
        assert o is not None
        for name, rank, rate in zip(entry.names(), entry.ranks(), entry.rates(), strict=True):
            yield name, AdapterKind(rank, rate, p, o, entry.service_levels)
