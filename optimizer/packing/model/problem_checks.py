"""What is wrong with a packing problem or an option of one, as far as it can be told at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from scenarios import Problem

if TYPE_CHECKING:
    from optimizer.packing.model.problem import PackingOption, PackingProblem


def option_problems(option: PackingOption) -> Iterator[Problem]:
    """What is wrong with the rows of an option."""
    where, usage, capacity = f'option "{option.name}":', option.usage, option.capacity
    if not len(usage):
        yield Problem(f"{where} usage", "has no rows", "give one of zeros where nothing limits a bin")
        return
    if usage.shape[0] != len(capacity):
        yield Problem(f"{where} usage", f"has {usage.shape[0]} rows, capacity {len(capacity)}")
    if option.fits_class.shape != (usage.shape[1],):
        yield Problem(f"{where} allowed", f"has shape {option.fits_class.shape}, not ({usage.shape[1]},)")
    if not (np.isfinite(usage).all() and np.isfinite(capacity).all()):
        yield Problem(f"{where} usage and capacity", "must be finite")
    if (usage < 0).any():
        r, c = np.argwhere(usage < 0)[0]
        remedy = "replace it by 0, which is conservative"
        yield Problem(f"{where} usage[{r}, {c}]", f"is {usage[r, c]:g}, below 0", remedy)
    if (capacity < 0).any():
        yield Problem(f"{where} capacity", f"{capacity.min():g} is below 0", "drop the option")
    if option.price == 0:
        yield Problem(f"{where} price", "is 0, must be above 0", "give what a bin costs, or 1")
    yield from _latency_problems(where, option)


def _latency_problems(where: str, option: PackingOption) -> Iterator[Problem]:
    pieces, offset = option.latency_usage, option.latency_offset
    if pieces is None or offset is None:
        if pieces is not None or offset is not None:
            yield Problem(where, "give latency_usage and latency_offset, or neither")
        return
    shape = max(1, len(offset)), option.usage.shape[1]
    if pieces.shape != shape or not len(offset):
        yield Problem(f"{where} latency_usage", f"has shape {pieces.shape}, must be {shape}")
        return
    if not (np.isfinite(pieces).all() and np.isfinite(offset).all()):
        yield Problem(f"{where} latency_usage and latency_offset", "must be finite")
    if (pieces < 0).any():
        yield Problem(f"{where} latency_usage", f"{pieces.min():g} is below 0", "replace it by 0")
    if offset.max() < 0:
        message = f"is {offset.max():g}, so a bin's latency may be below 0"
        yield Problem(f"{where} the largest latency_offset", message, "add a piece of offset 0")


def problem_problems(problem: PackingProblem) -> Iterator[Problem]:
    """What is wrong with a problem whose options are right, each by itself."""
    n = problem.n_classes
    if problem.counts.ndim != 1 or not problem.n_items or (problem.counts < 0).any():
        yield Problem("counts", "must be a list of numbers of at least 0, with at least one item")
        return
    if not problem.options:
        yield Problem("options", "is empty, there is no option", "give at least one way to open a bin")
    for option in problem.options:
        if option.usage.shape[1] != n:
            message = f"has {option.usage.shape[1]} classes, counts has {n}"
            yield Problem(f'option "{option.name}": usage', message)
    if problem.class_names and len(problem.class_names) != n:
        yield Problem("class_names", f"has {len(problem.class_names)} names for {n} classes")
    if problem.rates is not None and problem.rates.shape != (n,):
        yield Problem("rates", f"has shape {problem.rates.shape}, not ({n},)")
    yield from _dominance_problems(problem)
    for cut in problem.cuts:
        if cut.counts.shape != (n,) or not all(0 <= o < len(problem.options) for o in cut.options):
            yield Problem("a cut", "names an option that does not exist, or has other classes")
    yield from _limit_problems(problem)
    yield from _objective_problems(problem)


def _dominance_problems(problem: PackingProblem) -> Iterator[Problem]:
    dominance, n = problem.dominance, problem.n_classes
    if dominance is None:
        return
    if dominance.ndim != 2 or len(dominance) != n:
        message = f"has shape {dominance.shape}, must be ({n}, measures)"
        yield Problem("dominance", message, "give a row per class")
    elif np.isnan(dominance).any():
        c, k = np.argwhere(np.isnan(dominance))[0]
        yield Problem(f"dominance[{c}, {k}]", "is nan, must be a number", "give one")


def _limit_problems(problem: PackingProblem) -> Iterator[Problem]:
    if not isinstance(problem.device_limits, Mapping):
        message = f"is {problem.device_limits!r:.80}, must be a mapping"
        yield Problem("device_limits", message, "give a number by device")
        return
    devices = sorted({option.device for option in problem.options})
    for device in problem.device_limits:
        if device not in devices:
            remedy = f"drop it, or name one of {', '.join(devices)}"
            yield Problem("device_limits", f"names {device!r}, which no option has", remedy)


def _objective_problems(problem: PackingProblem) -> Iterator[Problem]:
    objective = problem.objective
    if objective not in ("price", "worst", "mean"):
        yield Problem("objective", f'is "{objective}", must be price, worst or mean')
    elif objective != "price":
        if problem.max_bins is None:
            yield Problem("objective", f"{objective} needs max_bins, the number of bins given")
        for option in problem.options:
            if option.latency_usage is None:
                message = f"has no latency rows, which objective {objective} needs"
                yield Problem(f'option "{option.name}"', message)
