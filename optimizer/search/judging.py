"""The twin as judge of patterns: what a placer puts on a GPU, counted by class."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from scenarios import UNLIMITED, AdapterKind, Deadline, EngineOption, PlacedGPU
from scenarios.engine import Regime
from twin import GPUContent, GPUVerdict, TwinJudge, ValidationReport


@dataclass(frozen=True)
class Pattern:
    """Content and configuration of one GPU.

    Parameters
    ----------
    option
        How the GPU is run.
    counts
        Adapters of each class.
    items
        Which adapters they are, ascending, where those of a class are only alike; empty: any.
    load
        Factor on the rates of all of them.
    slotless
        How many of what is counted are parts of the base model's traffic, which take no slot.
    fewest_slots
        Fewest slots of an engine.
    """

    option: EngineOption
    counts: tuple[int, ...]
    items: tuple[int, ...] = ()
    load: float = 1.0
    slotless: int = 0
    fewest_slots: int = 1

    @property
    def adapters(self) -> int:
        """How many of what is counted take a slot."""
        return sum(self.counts) - self.slotless

    @property
    def regime(self) -> Regime:
        """Whether there is a slot for every adapter."""
        return "shared" if self.adapters > self.option.max_loras else "resident"

    def run_as(self, option: EngineOption) -> bool:
        """Whether the GPU would be run as it is if an option were chosen for it: slots given back count."""
        return self.option.max_loras == option.trimmed(self.adapters, self.fewest_slots).max_loras


def placed_gpu(
    number: int, pattern: Pattern, shares: Mapping[str, float], base: Container[str] = ()
) -> PlacedGPU:
    """One GPU of a placement: the pattern's engine, with the named adapters and their shares.

    An adapter that is there in several pieces needs one slot only, and the base model, whose names are given,
    none.
    """
    adapters = sum(name not in base for name in shares)
    return PlacedGPU(
        gpu=number,
        device=pattern.option.device,
        max_loras=pattern.option.trimmed(adapters, pattern.fewest_slots).max_loras,
        max_lora_rank=pattern.option.max_lora_rank,  # type: ignore[arg-type]  # options hold vLLM's ranks
        adapters=tuple(shares),
        shares={name: share for name, share in shares.items() if share < 1 - 1e-9},
    )


@dataclass(frozen=True)
class PatternJudge:
    """The twin as judge of patterns.

    Parameters
    ----------
    judge
        The twin, which remembers what it was asked.
    kinds
        Kind of the adapters of each class that patterns count.
    kind_of_item
        Kind of an adapter that a pattern names by its number.
    merged
        Classes whose items are parts of one whole, so that those of a GPU are one share of it.
    """

    judge: TwinJudge
    kinds: tuple[AdapterKind, ...]
    kind_of_item: Callable[[int], AdapterKind] | None = None
    merged: frozenset[int] = frozenset()

    def __call__(self, patterns: Sequence[Pattern], deadline: Deadline = UNLIMITED) -> list[GPUVerdict]:
        """Verdict of each pattern, in order, on adapters 0, 1, 2 and so on.

        Raises
        ------
        Stopped
            If the deadline passes, or the work is interrupted, before there are all.
        """
        return self.judge([self._content(pattern) for pattern in patterns], deadline)

    def screening(self) -> PatternJudge:
        """The same with one short run for each verdict, which tell which of two patterns is better."""
        return replace(self, judge=self.judge.screening())

    def requests(self, pattern: Pattern) -> float:
        """Requests that are simulated for a verdict on a pattern, on average."""
        return self.judge.requests(self._content(pattern))

    def _content(self, pattern: Pattern) -> GPUContent:
        if pattern.items and self.kind_of_item is not None:
            return GPUContent.of(pattern.option, map(self.kind_of_item, pattern.items)).scaled(pattern.load)
        held = tuple(
            (kind.scaled(n), 1) if c in self.merged else (kind, n)
            for c, (kind, n) in enumerate(zip(self.kinds, pattern.counts, strict=True))
            if n
        )
        return GPUContent(pattern.option, held).scaled(pattern.load)


def named(verdict: GPUVerdict, number: int, names: Iterable[str]) -> GPUVerdict:
    """A verdict on adapters 0, 1, 2 and so on, for a GPU of a number and adapters of these names."""
    return verdict.of(number, {f"{k}": name for k, name in enumerate(names)})


def report_on(
    patterns: Sequence[Pattern],
    verdicts: Sequence[GPUVerdict],
    numbers: Iterable[int],
    contents: Iterable[Iterable[Iterable[str]]],
    merged: Container[int] = (),
) -> ValidationReport:
    """The verdicts on patterns under the numbers of their GPUs, whose adapters' names are given by class.

    Of classes that are ``merged`` a GPU has one share, whatever the number of its parts.
    """
    gpus = [
        named(verdict, number, chain.from_iterable(_once(parts, merged)))
        for verdict, number, parts in zip(verdicts, numbers, contents, strict=True)
    ]
    return ValidationReport(gpus=tuple(gpus), distinct=len(set(patterns)))


def _once(parts: Iterable[Iterable[str]], merged: Container[int]) -> Iterator[Iterable[str]]:
    """Names by class, each once in a class whose items are parts of one whole."""
    for c, names in enumerate(parts):
        yield dict.fromkeys(names) if c in merged else names
