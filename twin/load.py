"""The adapters of one GPU."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from scenarios import AdapterClass, AdapterSLO, Arrivals, Lengths, PromptReuse, RecordedArrivals
from twin.engine.requests import FloatArray, IntArray
from twin.violations import AdapterFigure, Criterion, Violation

T = TypeVar("T")


@dataclass(frozen=True)
class GPULoad:
    """The adapters that one GPU serves.

    Parameters
    ----------
    names
        The adapters' names.
    rank
        LoRA ranks, shape (n,); 0: the base model, which takes no slot.
    rate
        Requests per second that are routed to this GPU, shape (n,).
    prompt, output
        Distribution of each adapter's prompt and output tokens.
    levels
        Service levels of each adapter's own, None where it has none; empty: none has.
    arrivals
        Arrival process of each adapter's own, None where it is the workload's; empty: all are.
    reuse
        What prompts of each adapter have in common, None where nothing; empty: none have.
    """

    names: tuple[str, ...]
    rank: IntArray
    rate: FloatArray
    prompt: tuple[Lengths, ...]
    output: tuple[Lengths, ...]
    levels: tuple[AdapterSLO | None, ...] = ()
    arrivals: tuple[Arrivals | None, ...] = ()
    reuse: tuple[PromptReuse | None, ...] = ()

    def __repr__(self) -> str:
        return f"<GPULoad: {len(self.names):,} adapters, {self.rate.sum():.4g} requests/s>"

    def groups(self) -> list[tuple[AdapterSLO, IntArray]]:
        """Adapters with service levels of their own, by kind (`kind_of`), in order of first appearance."""
        found: dict[object, list[int]] = {}
        if any(self.levels):
            for k, kind in enumerate(self.kind_of()):
                if self.levels[k] is not None:
                    found.setdefault(kind, []).append(k)
        return [(self.levels[ks[0]], np.array(ks, dtype=np.int32)) for ks in found.values()]  # type: ignore[misc]

    def scaled(self, factor: float) -> GPULoad:
        """The same adapters with so many times the requests."""
        return self if factor == 1.0 else replace(self, rate=self.rate * factor)

    def processes(self, of_workload: Arrivals) -> tuple[Arrivals, ...]:
        """The distinct arrival processes of the adapters, of which some have the workload's."""
        objects = {id(own): own for own in self.arrivals}  # models take long to hash
        return tuple(dict.fromkeys(played(own or of_workload) for own in objects.values())) or (
            played(of_workload),
        )

    def chosen(self, adapters: IntArray) -> GPULoad:
        """Some of the adapters, by number."""
        if len(adapters) == len(self.names):
            return self

        def of(values: tuple[T, ...]) -> tuple[T, ...]:
            return tuple(values[k] for k in adapters) if values else values

        return GPULoad(
            names=of(self.names),
            rank=self.rank[adapters],
            rate=self.rate[adapters],
            prompt=of(self.prompt),
            output=of(self.output),
            levels=of(self.levels),
            arrivals=of(self.arrivals),
            reuse=of(self.reuse),
        )

    def kind_of(self) -> IntArray:
        """Number of each adapter's kind, from 0; alike are those that differ in nothing but the name."""
        lengths: dict[Lengths, int] = {}
        # Models take long to hash, and most adapters share theirs.
        objects = {id(one): one for one in (*self.prompt, *self.output)}
        seen = {key: lengths.setdefault(one, len(lengths)) for key, one in objects.items()}
        prompt, output = ([seen[id(one)] for one in of] for of in (self.prompt, self.output))
        own = [_numbered(of, len(self.rank)) for of in (self.levels, self.arrivals, self.reuse)]
        columns = np.stack([self.rank.astype(np.float64), self.rate, prompt, output, *own])
        return np.unique(columns, axis=1, return_inverse=True)[1].reshape(-1).astype(np.int32)

    def above_rank(self, max_lora_rank: int) -> Violation | None:
        """The adapters whose rank is too high for slots of this one; None if there are none."""
        above = np.flatnonzero(self.rank > max_lora_rank)
        if not len(above):
            return None
        return Violation(
            code=Criterion.MAX_LORA_RANK,
            value=int(self.rank.max()),
            limit=max_lora_rank,
            adapters=tuple(
                AdapterFigure(name=self.names[k], value=int(self.rank[k]), limit=max_lora_rank) for k in above
            ),
        )

    @staticmethod
    def from_classes(classes: Sequence[AdapterClass], counts: Sequence[int] | None = None) -> GPULoad:
        """The first ``counts[c]`` adapters of each class; absent: all of them."""
        numbers = [c.count for c in classes] if counts is None else list(counts)
        chosen = [(c, name) for c, n in zip(classes, numbers, strict=True) for name in c.names[:n]]
        return GPULoad(
            names=tuple(name for _, name in chosen),
            rank=np.array([c.rank for c, _ in chosen], dtype=np.int32),
            rate=np.array([c.rate for c, _ in chosen], dtype=np.float64),
            prompt=tuple(c.prompt for c, _ in chosen),
            output=tuple(c.output for c, _ in chosen),
            levels=tuple(c.levels for c, _ in chosen),
            arrivals=tuple(c.arrivals for c, _ in chosen),
            reuse=tuple(c.reuse for c, _ in chosen),
        )


def played(arrivals: Arrivals) -> Arrivals:
    """What is drawn together: of a recording all names, so that they rise and fall as they did."""
    return arrivals.recording if isinstance(arrivals, RecordedArrivals) else arrivals


def _numbered(own: Sequence[Hashable], n: int) -> list[int]:
    """A number for what each of n adapters has of its own, equal ones by the same; empty: none has any."""
    numbers: dict[Hashable, int] = {}
    return [numbers.setdefault(one, len(numbers)) for one in own] or [0] * n
