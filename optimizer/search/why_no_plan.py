"""Why a search holds no plan that the twin accepts, though one may exist, and what finds one."""

from __future__ import annotations

import numpy as np

from optimizer.no_plan import NoPlan, NoPlanReason
from optimizer.packing.model.no_packing import NoPacking, NoPackingReason
from optimizer.packing.model.problem import IntArray
from optimizer.packing.model.search_state import PackingResult, StopReason
from optimizer.search.instance import Instance
from optimizer.search.minimize_gpus import Search
from scenarios import AdapterClass, Deadline, interrupted
from scenarios.text.formatting import choice, counted

MOST_NAMED = 3
"""Adapters that a sentence names."""

MORE_OF_A_KIND = "give more GPUs of a kind (devices[].count)"
"""The advice where GPUs of several kinds are limited apart."""

_OTHERS = ("bfd", "exact")
"""Methods that are named where one has no plan: the quick one with arbitrary fill, and the strongest."""


def why_no_plan(search: Search, last: PackingResult | None, deadline: Deadline) -> NoPlan:
    """Why there is no plan.

    Parameters
    ----------
    search
        What was solved, by which placer, and what the twin rejected on the way.
    last
        What the placer said last; None if it was not asked.
    deadline
        When the search was to stop.
    """
    if interrupted():
        why = "interrupted before the twin had accepted a plan"
        return NoPlan(reason=NoPlanReason.INTERRUPTED, why=why)
    exact, packed = search.placer.exact, last is not None and last.packing is not None
    if not exact and last is not None and last.no_packing is not None:
        return _refused(search, last.no_packing)
    unsolved = last is not None and not packed and last.stop_reason is StopReason.TIME_LIMIT
    if deadline.reached or unsolved:
        return _out_of_time(search)
    if exact:
        return _none_found(search)
    return _rejected_by_twin(search) if packed else _too_few_gpus(search)


def first_test(
    tested: int, adapters: tuple[str, ...], full_gpus: int, beside: str = "", *, starts: bool = True
) -> NoPlan:
    """No plan of the published greedy: its smallest test is more than an empty GPU takes.

    Parameters
    ----------
    tested
        Adapters of the test.
    adapters
        Some of them.
    full_gpus
        GPUs that were full by then.
    beside
        What else plays a part, in words; empty if nothing.
    starts
        Whether an engine with the fewest slots starts.
    """
    after = f"after {counted(full_gpus, 'full GPU')} " if full_gpus else ""
    like = f": {_such_as(adapters)}" if adapters else ""
    if not starts:
        why = f"no plan: {after}no engine with the fewest slots starts for the next adapters in line{like}"
        remedies: tuple[str, ...] = ("exact chooses slots freely",)
        return NoPlan(reason=NoPlanReason.NO_ENGINE, why=why, remedies=remedies, adapters=adapters)
    return NoPlan(
        reason=NoPlanReason.FIRST_TEST,
        why=f"no plan: {after}its smallest test point, {counted(tested, 'adapter')}, already starves an "
        f"empty GPU{like}{beside}; neither more GPUs nor more time helps",
        remedies=("greedy-fill or exact tests every number",),
        adapters=adapters,
    )


def hottest(classes: tuple[AdapterClass, ...], items: IntArray) -> tuple[str, ...]:
    """Names of some adapters of the classes that there are items of, the most requests first."""
    present = sorted(map(int, np.flatnonzero(items)), key=lambda c: (-classes[c].rate, c))
    return tuple(dict.fromkeys(name for c in present for name in classes[c].names[: int(items[c])]))[
        :MOST_NAMED
    ]


def _such_as(adapters: tuple[str, ...]) -> str:
    quoted = [f'"{name}"' for name in adapters]
    return f"adapters such as {choice(quoted, 'and')}"


def _refused(search: Search, no_packing: NoPacking) -> NoPlan:
    """What the placer itself says."""
    instance, reason, name = search.instance, no_packing.reason, search.placer.name
    adapters = hottest(instance.classes, no_packing.items)
    if reason in (NoPackingReason.FIRST_TEST, NoPackingReason.NO_ENGINE):
        starts = reason is NoPackingReason.FIRST_TEST
        beside = _without_rejected(search)
        return first_test(no_packing.tested, adapters, no_packing.full_bins, beside, starts=starts)
    if reason is NoPackingReason.FITS_NO_BIN:
        return NoPlan(
            reason=NoPlanReason.OUTSIDE_INNER_REGION,
            why=f"no plan of {name}: the conservative (inner) region, in which it plans, has no GPU for "
            f"{_such_as(adapters)}, even alone",
            remedies=("exact looks beyond that region",),
            adapters=adapters,
        )
    if reason is NoPackingReason.ONE_KIND:
        return NoPlan(
            reason=NoPlanReason.TOO_FEW_GPUS,
            why=f"no plan: {name} uses GPUs of one kind only, and there are too few of each",
            remedies=(MORE_OF_A_KIND, _try_others(search)),
        )
    number = int(no_packing.items.sum())
    return NoPlan(
        reason=NoPlanReason.GPU_OVERLOADED,
        why=f"no plan of {name} on {counted(most_gpus(instance), 'GPU')}: one that it deals "
        f"{counted(number, 'adapter')}, {_such_as(adapters)}, starves or does not start by the conservative "
        "(inner) region, and it knows no other deal",
        remedies=(*_more_gpus(instance), "try spread or exact"),
        adapters=adapters,
    )


def _without_rejected(search: Search) -> str:
    """That contents which the twin rejected are excluded; empty if there are none."""
    cuts = len(search.loop.rejected)
    return f" (with {counted(cuts, 'GPU content')} excluded that the twin rejected)" if cuts else ""


def _out_of_time(search: Search) -> NoPlan:
    cuts, rounds = len(search.loop.rejected), search.loop.rounds
    why = "stopped by the time limit without a plan that the twin accepts"
    why += f", which rejected {counted(cuts, 'GPU content')} in {counted(rounds, 'round')}" if cuts else ""
    others = (_try_others(search),) if cuts and not search.placer.exact else ()
    return NoPlan(reason=NoPlanReason.TIME_LIMIT, why=why, remedies=("raise it", *others))


def _none_found(search: Search) -> NoPlan:
    gpus = counted(most_gpus(search.instance), "GPU")
    return NoPlan(
        reason=NoPlanReason.NONE_FOUND,
        why=f"no plan on at most {gpus} that the twin accepts, and no proof that there is none",
        remedies=(*_more_gpus(search.instance), "loosen service_levels"),
    )


def _rejected_by_twin(search: Search) -> NoPlan:
    gpus = counted(most_gpus(search.instance), "GPU")
    return NoPlan(
        reason=NoPlanReason.REJECTED_BY_TWIN,
        why=f"the twin rejects every plan of {search.placer.name} on at most {gpus}",
        remedies=(*_more_gpus(search.instance), _try_others(search)),
    )


def _too_few_gpus(search: Search) -> NoPlan:
    instance, devices = search.instance, search.instance.scenario.devices
    gpus, more = counted(most_gpus(instance), "GPU"), _more_gpus(instance)
    if not more and len(devices) > 1:  # as many as adapters, but too few of some kind
        kinds = choice([f"{device.count:,} {device.name}" for device in devices], "and")
        gpus, more = f"the GPUs there are ({kinds})", (MORE_OF_A_KIND,)
    return NoPlan(
        reason=NoPlanReason.TOO_FEW_GPUS,
        why=f"no plan of {search.placer.name} fits {gpus}{_without_rejected(search)}",
        remedies=(*more, _try_others(search)),
    )


def _try_others(search: Search) -> str:
    return f"try {choice([name for name in _OTHERS if name != search.placer.name])}"


def most_gpus(instance: Instance) -> int:
    """GPUs that a plan may use: no more than there are adapters."""
    limit = instance.inner.max_bins
    return instance.inner.n_items if limit is None else min(limit, instance.inner.n_items)


def _more_gpus(instance: Instance) -> tuple[str, ...]:
    """The advice to give more GPUs; none where every adapter could have one of its own."""
    if most_gpus(instance) == instance.inner.n_items:
        return ()
    exist = sum(device.count for device in instance.scenario.devices)
    return (f"give more GPUs ({'--gpus' if most_gpus(instance) < exist else 'devices[].count'})",)
