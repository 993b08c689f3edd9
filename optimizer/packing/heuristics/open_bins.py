"""Bins opened one after the other, each under the option that suits what it holds, within all limits."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from optimizer.packing.heuristics.first_fit import BinFiller, holds
from optimizer.packing.model.options import BinLimits
from optimizer.packing.model.problem import IntArray


class OpenBins(BinLimits):
    """Opens bins of a problem within its limits on options, devices, number and price.

    Parameters
    ----------
    filler
        The problem.
    options
        Options to choose from; None: all.
    """

    def __init__(self, filler: BinFiller, options: Sequence[int] | None = None) -> None:
        super().__init__(filler.problem)
        self.filler, self.problem = filler, filler.problem
        self.options = range(len(self.problem.options)) if options is None else options
        self.left = float("inf") if self.problem.budget is None else self.problem.budget

    def take(self, option: int, bins: int = 1) -> None:
        """Open bins."""
        super().take(option, bins)
        self.left -= bins * self.problem.options[option].price

    def may(self, option: int, reserve: float = 0.0) -> bool:
        """Whether a bin of the option may be opened, with some money left."""
        price = self.problem.options[option].price
        return self.available(option) > 0 and price + reserve <= self.left + 1e-9 * price

    def holding(self, counts: IntArray) -> list[int]:
        """Options that hold the items."""
        return [o for o in self.options if holds(self.filler, o, counts)]

    def fastest(self, counts: IntArray, reserve: float = 0.0) -> int | None:
        """The option of least latency, among equals the cheapest, that holds the items and may be opened."""
        return self._least(counts, lambda latency, price: (latency, price), reserve=reserve)

    def cheapest(self, counts: IntArray, slowest: float) -> int | None:
        """The cheapest option that holds the items, may be opened, and is not slower than that."""
        return self._least(counts, lambda latency, price: (price, latency), slowest=slowest * (1 + 1e-9))

    def _least(
        self,
        counts: IntArray,
        key: Callable[[float, float], tuple[float, float]],
        reserve: float = 0.0,
        slowest: float = float("inf"),
    ) -> int | None:
        best, least = None, (float("inf"), float("inf"))
        for o in self.options:
            option = self.problem.options[o]
            latency = option.latency(counts)
            value = key(latency, option.price)
            # Whether a bin holds its items is asked last: it takes longest.
            if (
                latency <= slowest
                and value < least
                and self.may(o, reserve)
                and holds(self.filler, o, counts)
            ):
                best, least = o, value
        return best
