"""Classes of identical adapters, which no placer can tell apart."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from scenarios.adapters import Adapter
from scenarios.service_levels import AdapterSLO
from scenarios.traffic.arrivals import Arrivals
from scenarios.traffic.lengths import Lengths
from scenarios.traffic.prompt_reuse import PromptReuse
from scenarios.traffic.recordings import RecordedArrivals


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
    """Adapters that no placer can tell apart: equal rank, rates, traffic, service levels and least replicas.

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
