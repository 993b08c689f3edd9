"""What verdicts teach: the inner rows corrected near the contents that the twin has judged.

The relative error of a learned row is one Gaussian prior over (option, class): a part that all classes of an
option share, and a part that classes share the more the more alike they use the options; both are the nearer
between two options the nearer their slots and ranks. Its standard deviation is the width of the region
between the inner and the outer rows. A lesson says what the usage of one content is at its own boundary, a
linear measurement of these errors, so the posterior mean is a Bayesian linear regression (Rasmussen and
Williams, Gaussian Processes for Machine Learning, 2006, chapter 2; the update of a Kalman filter, Kalman
1960). The corrected rows agree with the twin near what it has judged and go back to the learned ones as less
is shared. They stay linear, so every placer works with them.

They are estimates. No bound is drawn from them; bounds rest on the outer rows and on no-good cuts alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from optimizer.packing.model.problem import FloatArray, PackingOption, PackingProblem
from optimizer.search.judging import Pattern
from optimizer.search.params import TeachingParams
from twin import LoadGrowth


@dataclass(frozen=True)
class Lesson:
    """What the twin has said of one content.

    Parameters
    ----------
    pattern
        The content and how its GPU is run.
    growth
        How far its load may grow, or must shrink, until the verdict changes.
    """

    pattern: Pattern
    growth: LoadGrowth

    @property
    def target(self) -> float:
        """What the content takes of a GPU, were the rows right: 1 at its own boundary."""
        return math.exp(-self.growth.log)


@dataclass(frozen=True, eq=False)
class _Measured:
    """One lesson as a measurement of the errors of an option's row.

    Parameters
    ----------
    option
        The option.
    shares
        What each class has of all that the content takes, shape (n_classes,).
    related
        Covariance of the errors of each class with the content's, shape (n_classes,).
    residual, noise
        Relative error of the row on the content, and its standard deviation.
    """

    option: int
    shares: FloatArray
    related: FloatArray
    residual: float
    noise: float


@dataclass(frozen=True, eq=False)
class Corrections:
    """The learned rows of a scenario, and how lessons change them.

    Parameters
    ----------
    inner, outer
        The problems on the conservative and on the optimistic region; their options are joined by key.
    params
        The prior.
    """

    inner: PackingProblem
    outer: PackingProblem
    params: TeachingParams
    _known: dict[tuple[Lesson, int, int], _Measured | None] = field(default_factory=dict, repr=False)
    _placings: dict[Pattern, tuple[int | None, frozenset[int]]] = field(default_factory=dict, repr=False)

    def rows(self, lessons: Sequence[Lesson], optimism: float) -> tuple[PackingOption, ...]:
        """The inner options as the lessons have them.

        Parameters
        ----------
        lessons
            What the twin has said.
        optimism
            Standard deviations of what is still uncertain by which the rows are wider than is likely;
            without lessons, 1 gives the outer rows. They are never wider than those.
        """
        return tuple(self._corrected(k, lessons, optimism) for k in range(len(self.inner.options)))

    def problem(
        self, problem: PackingProblem, lessons: Sequence[Lesson], optimism: float = 0.0
    ) -> PackingProblem:
        """A problem on the inner options (at whatever prices and limits) on the corrected ones."""
        if not lessons and optimism == 0.0:
            return problem
        corrected = self.rows(lessons, optimism)
        options = tuple(
            replace(option, usage=rows.usage) for option, rows in zip(problem.options, corrected, strict=True)
        )
        return replace(problem, options=options)

    @cached_property
    def _usage(self) -> list[FloatArray]:
        """Shares of a GPU that one item takes of each row of each inner option."""
        return [_shares(option) for option in self.inner.options]

    @cached_property
    def _widest(self) -> list[FloatArray]:
        """The same of the outer option of the same key, as far as it has the row; else of the inner one."""
        outer = {option.key: _shares(option) for option in self.outer.options}
        widest = []
        for option, usage in zip(self.inner.options, self._usage, strict=True):
            known = outer[option.key]
            widest.append(np.vstack([np.minimum(known, usage[: len(known)]), usage[len(known) :]]))
        return widest

    @cached_property
    def _width(self) -> list[FloatArray]:
        """Relative width between inner and outer, by row: 0 for rows that are rules and not learned."""
        widths = []
        for usage, widest in zip(self._usage, self._widest, strict=True):
            total = usage @ self.inner.counts
            gap = (usage - widest) @ self.inner.counts
            widths.append(np.where(gap > 1e-9 * total, gap / np.maximum(total, 1e-300), 0.0))
        return widths

    @cached_property
    def _kernel(self) -> FloatArray:
        """Correlation of the errors of two classes, shape (n_classes, n_classes)."""
        logs = np.log(np.maximum(np.vstack(self._usage), 1e-12))
        apart = np.abs(logs[:, :, None] - logs[:, None, :]).mean(axis=0) if logs.shape[1] <= 64 else None
        if apart is None:  # many classes: by their mean alone, as a whole table of rows would not fit
            mean = logs.mean(axis=0)
            apart = np.abs(mean[:, None] - mean[None, :])
        common = self.params.common_share
        return np.asarray(common + (1 - common) * np.exp(-apart / self.params.class_distance))

    def _corrected(self, index: int, lessons: Sequence[Lesson], optimism: float) -> PackingOption:
        option, learned = self.inner.options[index], np.flatnonzero(self._width[index])
        shares = self._usage[index].copy()
        for r in learned:
            error, deviation = self._posterior(index, int(r), self._measured(index, int(r), lessons))
            shares[r] = np.maximum(shares[r] * (1 + error - optimism * deviation), self._widest[index][r])
        if len(learned):
            self._keep_out(index, shares, [one for one in lessons if index in self._placing(one.pattern)[1]])
        usage = option.usage.copy()
        for r in learned:
            # What fits a GPU alone goes on to do so; where the twin rejects it, that is a cut's to say.
            alone = np.where(self._usage[index][r] <= 1, np.minimum(shares[r], 1.0), shares[r])
            usage[r] = alone * option.capacity[r]
        return replace(option, usage=usage)

    def _keep_out(self, index: int, shares: FloatArray, lessons: Sequence[Lesson]) -> None:
        """Raise the fullest rows of contents that the twin rejects, and that would be inside, to the target.

        A linear row cannot be right for all, and an optimistic one is not even right on average. And an
        option for more adapters than slots is also given fewer, of which its own rows know little.
        """
        learned = self._width[index] > 0
        for _ in range(self.params.passes):
            inside: dict[int, list[_Measured]] = {}
            for lesson in lessons:
                counts = np.array(lesson.pattern.counts)
                fills = np.where(learned, shares @ counts, 0.0)
                r = int(np.argmax(fills))
                missing = lesson.target / float(fills[r]) - 1 if fills[r] > 0 else 0.0
                if lesson.growth.log < 0 and missing > 1e-6:
                    content = shares[r] * counts / fills[r]
                    seen = _Measured(index, content, self._kernel @ content, missing, lesson.growth.error)
                    inside.setdefault(r, []).append(seen)
            for r, held in inside.items():
                error, _ = self._posterior(index, r, held)
                shares[r] *= 1 + np.maximum(error, 0.0)
            if not inside:
                return

    @cached_property
    def _usual(self) -> list[list[tuple[FloatArray, float]]]:
        """By option and row: shares of the classes in the usual content, and the variance of its error."""
        usual = []
        for usage in self._usage:
            shares = usage * self.inner.counts
            shares = shares / np.maximum(shares.sum(axis=1, keepdims=True), 1e-300)
            variances = ((shares @ self._kernel) * shares).sum(axis=1)
            usual.append(list(zip(shares, variances.tolist(), strict=True)))
        return usual

    @cached_property
    def _nearness(self) -> FloatArray:
        """Correlation of the errors of two options: it falls with the distance of their slots and ranks."""
        engines = [option.option for option in self.inner.options]
        at = np.log([[e.max_loras, max(e.max_lora_rank, 1)] for e in engines])
        apart = np.abs(at[:, None, :] - at[None, :, :]).sum(axis=2)
        return np.asarray(np.exp(-apart / self.params.option_distance))

    def _posterior(self, option: int, row: int, seen: Sequence[_Measured]) -> tuple[FloatArray, float]:
        """Relative error of a row by class, and the standard deviation that is left for the usual content."""
        width = float(self._width[option][row])
        usual, variance = self._usual[option][row]
        if not seen:
            return np.zeros(self.inner.n_classes), width * math.sqrt(variance)
        at = [m.option for m in seen]
        related = np.array([m.related for m in seen])
        widths = np.array([self._width[m.option][row] for m in seen])
        noise, residual = (
            np.array([m.noise for m in seen]) / widths,
            np.array([m.residual for m in seen]) / widths,
        )
        gram = self._nearness[np.ix_(at, at)] * (related @ np.array([m.shares for m in seen]).T)
        cross = self._nearness[option, at][:, None] * related
        solved = np.linalg.solve(gram + np.diag(noise**2), np.column_stack([residual, cross @ usual]))
        left = variance - float((cross @ usual) @ solved[:, 1])
        return width * (solved[:, 0] @ cross), width * math.sqrt(max(left, 0.0))

    def _measured(self, option: int, row: int, lessons: Sequence[Lesson]) -> list[_Measured]:
        """What lessons say of a row of an option, those of other options of its kind included."""
        homes = [(self._placing(lesson.pattern)[0], lesson) for lesson in lessons]
        seen = [
            self._remembered(lesson, home, row)
            for home, lesson in homes
            if home is not None and self._akin(home, option)
        ]
        return [one for one in seen if one is not None]

    def _remembered(self, lesson: Lesson, option: int, row: int) -> _Measured | None:
        key = lesson, option, row
        if key not in self._known:
            self._known[key] = self._measurement(option, row, lesson)
        return self._known[key]

    def _measurement(self, option: int, row: int, lesson: Lesson) -> _Measured | None:
        """What a lesson says of a row: of the fullest what it is, of others only that they are too full."""
        counts, width = np.array(lesson.pattern.counts), self._width[option]
        fills = np.where(width > 0, self._usage[option] @ counts, 0.0)
        if row >= len(width) or fills[row] <= 0 or fills[row] < min(fills.max(), lesson.target):
            return None
        content = self._usage[option][row] * counts / fills[row]
        noise = math.hypot(lesson.growth.error, self.params.row_noise)
        return _Measured(
            option, content, self._kernel @ content, lesson.target / float(fills[row]) - 1, noise
        )

    def _placing(self, pattern: Pattern) -> tuple[int | None, frozenset[int]]:
        """The options that would run a content as the judged GPU did, and of these the one made for it.

        It is the one of the content's regime with the fewest slots, of the first variant that admits the
        content; None if there is none.
        """
        if pattern in self._placings:
            return self._placings[pattern]
        judged, options = pattern.option, self.inner.options
        held = np.array(pattern.counts) > 0
        placed = frozenset(
            k
            for k, engine in enumerate(option.option for option in options)
            if (engine.device, engine.max_lora_rank) == (judged.device, judged.max_lora_rank)
            and pattern.run_as(engine)
            and options[k].fits_class[held].all()
        )
        homes = (k for k in placed if options[k].regime == pattern.regime)
        order = [(options[k].variant, options[k].option.max_loras, k) for k in homes]
        home = min(order)[-1] if order else None
        self._placings[pattern] = home, placed
        return home, placed

    def _akin(self, one: int, other: int) -> bool:
        """Whether the errors of two options have something to do with each other."""
        a, b = self.inner.options[one], self.inner.options[other]
        return (a.device, a.regime, a.variant) == (b.device, b.regime, b.variant)


def _shares(option: PackingOption) -> FloatArray:
    full = np.where(option.capacity > 0, option.capacity, 1.0)
    return np.asarray(option.usage / full[:, None], dtype=np.float64)
