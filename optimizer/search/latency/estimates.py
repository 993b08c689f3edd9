"""What the latency of a GPU will be, learned from the GPUs that were rated so far.

The linear rows say how full a GPU is under each way to run it, and within one scenario the latency is nearly
a function of that, steep towards 1. What of the load it is that fills the GPU shifts the curve a little: the
principal components of what an item takes of all rows say it. On GPUs not yet rated the error is 0.5 to 1 %
in the median, which is enough to tell what the twin should be asked next.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from optimizer.packing.model.problem import FloatArray, IntArray, PackingProblem
from optimizer.search.latency.screening import Rating

RIDGE = 1e-3
"""Weight of the squared coefficients of standardised features, per sample."""

LEAST_SAMPLES = 8
"""Rated GPUs from which on the curve is fitted; before, fuller is slower."""

COMPONENTS = 4
"""Principal components of what items take of the rows."""

OF_OPTION = 6
"""Features that differ between options."""

STEEP = 5.0
"""Slope of ln(latency) in the fill beyond the fullest GPU that was rated."""


@dataclass(frozen=True, eq=False)
class Measures:
    """Sums over the items of a GPU, from which follows how full it is under each option.

    Parameters
    ----------
    per_item
        What an item of each class adds: to every row of every option its share, to every option whether it is
        barred from it, to the principal components, and one item that takes a slot; shape (n_classes,
        n_measures).
    options, rows
        How many there are, and how many rows each has.
    slots, rank
        Of each option, the rank as its binary logarithm, shape (n_options,).
    """

    per_item: FloatArray
    options: int
    rows: int
    slots: IntArray
    rank: FloatArray

    @classmethod
    def of(cls, problem: PackingProblem) -> Measures:
        """Of a problem's options."""
        options, m = problem.options, max(len(o.capacity) for o in problem.options)
        shares = np.zeros((len(options), m, problem.n_classes))
        for k, o in enumerate(options):
            full = np.where(o.capacity > 0, o.capacity, 1.0)
            shares[k, : len(o.capacity)] = np.where(o.fits_class, o.usage / full[:, None], 0.0)
        flat = shares.reshape(-1, problem.n_classes)
        components = np.linalg.svd(flat, full_matrices=False)[2][:COMPONENTS]
        barred = np.array([~o.fits_class for o in options], dtype=np.float64)
        slots = np.ones(problem.n_classes)
        if problem.slotless is not None:
            slots[problem.slotless] = 0.0
        return cls(
            np.ascontiguousarray(np.vstack([flat, barred, components, slots]).T),
            len(options),
            m,
            np.array([o.option.max_loras for o in options]),
            np.log2(np.maximum([o.option.max_lora_rank for o in options], 1.0)),
        )

    def __call__(self, counts: IntArray) -> FloatArray:
        """The sums of some items, shape (n_measures,)."""
        held = np.flatnonzero(counts)
        return np.asarray((counts[held, None] * self.per_item[held]).sum(axis=0))

    def fill(self, sums: FloatArray) -> FloatArray:
        """Fill of every option, infinite where an item may not enter: (k, n_measures) to (k, n_options)."""
        edge = self.options * self.rows
        fill = sums[:, :edge].reshape(-1, self.options, self.rows).max(axis=2)
        return np.where(sums[:, edge : edge + self.options] > 0.5, np.inf, fill)

    def of_content(self, sums: FloatArray) -> FloatArray:
        """What matters of a content whatever the option: items, components, and their squares."""
        parts = sums[:, self.options * (self.rows + 1) :]
        return np.hstack([parts, parts[:, :-1] ** 2])

    def of_option(self, sums: FloatArray, fill: FloatArray) -> FloatArray:
        """What matters of a content under each option, shape (k, n_options, 6)."""
        shared = (sums[:, -1:] > self.slots).astype(np.float64)
        rank = np.broadcast_to(self.rank, fill.shape)
        return np.stack([fill, fill**2, fill**4, fill**8, rank, shared], axis=2)


@dataclass
class LatencyCurve:
    """Learns ln(latency) of GPUs by ridge regression.

    Parameters
    ----------
    measures
        What is known of a content.
    """

    measures: Measures
    _x: list[FloatArray] = field(default_factory=list, repr=False)
    _y: list[float] = field(default_factory=list, repr=False)
    _fit: tuple[FloatArray, FloatArray, float] | None = field(default=None, repr=False)

    def hear(self, option: int, counts: IntArray, rating: Rating) -> None:
        """Take in what was rated; what is rejected says nothing of latencies."""
        if not rating.accepted or rating.latency <= 0:
            return
        sums = self.measures(counts)[None, :]
        of_option = self.measures.of_option(sums, self.measures.fill(sums))[0, option]
        self._x.append(np.concatenate([of_option, self.measures.of_content(sums)[0]]))
        self._y.append(float(np.log(rating.latency)))
        self._fit = None

    def __call__(self, sums: FloatArray) -> FloatArray:
        """Estimated ln(latency) under every option, infinite where an item may not enter.

        Parameters
        ----------
        sums
            Of contents, shape (k, n_measures).

        Returns
        -------
        numpy.ndarray
            Shape (k, n_options).
        """
        fill = self.measures.fill(sums)
        if len(self._y) < LEAST_SAMPLES:
            return fill
        if self._fit is None:
            self._fit = self._fitted()
        of_option, of_content, most = self._fit
        within = np.minimum(np.where(np.isfinite(fill), fill, most), most)
        estimate = (self.measures.of_option(sums, within) * of_option).sum(axis=2)
        shift = of_content[0] + (self.measures.of_content(sums) * of_content[1:]).sum(axis=1)
        return np.asarray(estimate + shift[:, None] + STEEP * (fill - within))

    def _fitted(self) -> tuple[FloatArray, FloatArray, float]:
        """Slopes of what matters under an option, those of the content after a constant, and the fullest."""
        x, y = np.array(self._x), np.array(self._y)
        center, scale = x.mean(axis=0), x.std(axis=0)
        scale = np.where(scale > 1e-12 * (1.0 + np.abs(center)), scale, np.inf)
        z = (x - center) / scale
        slopes = np.linalg.solve(z.T @ z + RIDGE * len(z) * np.eye(z.shape[1]), z.T @ (y - y.mean())) / scale
        of_content = np.concatenate([[y.mean() - center @ slopes], slopes[OF_OPTION:]])
        return slopes[:OF_OPTION], of_content, float(x[:, 0].max())
