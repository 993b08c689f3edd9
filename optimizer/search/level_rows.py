"""Rows of GPUs that hold adapters with service levels of their own, beside those of all other GPUs.

A strict adapter makes its whole GPU slow to fill, and no other. So the options come in variants: rows that
hold for GPUs without such adapters, which these may not enter, and for each set of levels rows that are
learned from mixes in which some adapters have it. Where sets are such that neither implies the other, one
more variant admits all of them: its inner rows are those of all sets, its outer ones what none is below.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import learn
from learn import FeasibilityRegion, OptionRows, Regions
from optimizer.search.derived.ends import capacities, expected_of, scaled
from optimizer.search.params import DEFAULTS, SolveParams
from scenarios import UNLIMITED, AdapterSLO, Deadline, Scenario
from twin import LATENCIES, TwinJudge, limits_latencies

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RowVariant:
    """Rows of the options for GPUs with certain adapters.

    Parameters
    ----------
    regions
        Of each device.
    refused
        Levels of their own with which adapters have no place on such a GPU.
    """

    regions: Mapping[str, Regions]
    refused: frozenset[AdapterSLO] = frozenset()

    def admits(self, levels: AdapterSLO | None) -> bool:
        """Whether an adapter with these levels of its own, or without, may be on such a GPU."""
        return levels not in self.refused


def row_variants(
    judge: TwinJudge,
    regions: Mapping[str, Regions],
    *,
    deadline: Deadline = UNLIMITED,
    params: SolveParams = DEFAULTS,
) -> tuple[RowVariant, ...]:
    """The variants of a scenario's rows; the first is of GPUs without strict adapters.

    Those of levels that are not known are learned, which takes as long as the regions of a scenario.

    Parameters
    ----------
    judge
        The twin, with the scenario, its profiles and the processes to learn with.
    regions
        Of each device, without levels of single adapters.
    deadline
        When to stop learning.
    params
        Parameters.

    Raises
    ------
    Stopped
        If the deadline passes, or the work is interrupted, before all are there.
    """
    learned: dict[AdapterSLO, Mapping[str, Regions]] = {}
    for levels in level_sets(judge.scenario, params.level_rows.max_sets):
        try:
            learned[levels] = regions_of(judge, deadline, params, levels)
        except learn.BoundaryError as error:
            _log.warning("no rows for GPUs of adapters with levels of their own: %s", error)
    return variants_of(regions, learned)


def regions_of(
    judge: TwinJudge, deadline: Deadline, params: SolveParams, levels: AdapterSLO | None = None
) -> Mapping[str, Regions]:
    """The regions of each device, of GPUs without strict adapters, or with some that have levels.

    Where step costs are derived they are learned at what is expected of these, and scaled to the end that is
    judged.

    Raises
    ------
    Stopped
        If the deadline passes, or the work is interrupted, before they are there.
    """
    expected = expected_of(judge)
    regions = {
        device.name: learn.regions_for(
            judge.scenario,
            device,
            expected.profiles[device.name],
            workers=judge.workers,
            progress=judge.progress,
            deadline=deadline,
            params=params.learning,
            levels=levels,
        )
        for device in judge.scenario.devices
    }
    return _at_the_end(regions, expected, judge, deadline)


def known_regions_of(
    judge: TwinJudge, deadline: Deadline, params: SolveParams, levels: AdapterSLO | None = None
) -> Mapping[str, Regions] | None:
    """The same where none has to be learned, else None."""
    expected = expected_of(judge)
    regions: dict[str, Regions] = {}
    for device in judge.scenario.devices:
        profile = expected.profiles[device.name]
        found = learn.known_regions(judge.scenario, device, profile, params=params.learning, levels=levels)
        if found is None:
            return None
        regions[device.name] = found
    return _at_the_end(regions, expected, judge, deadline)


def _at_the_end(
    regions: Mapping[str, Regions], expected: TwinJudge, judge: TwinJudge, deadline: Deadline
) -> Mapping[str, Regions]:
    """Regions of the expected costs, scaled to the end that is judged."""
    shares = capacities(expected, judge, deadline)
    return {name: scaled(one, shares[name]) for name, one in regions.items()}


def known_variants(
    judge: TwinJudge, regions: Mapping[str, Regions], deadline: Deadline, params: SolveParams
) -> tuple[RowVariant, ...] | None:
    """The variants of a scenario's rows where none has to be learned, else None."""
    learned: dict[AdapterSLO, Mapping[str, Regions]] = {}
    for levels in level_sets(judge.scenario, params.level_rows.max_sets):
        found = known_regions_of(judge, deadline, params, levels)
        if found is None:
            return None
        learned[levels] = found
    return variants_of(regions, learned)


def variants_of(
    regions: Mapping[str, Regions], learned: Mapping[AdapterSLO, Mapping[str, Regions]]
) -> tuple[RowVariant, ...]:
    """The variants, from the regions without and with levels of single adapters."""
    sets = frozenset(learned)
    variants = [RowVariant(regions, sets)]
    for levels, own in learned.items():
        variants.append(RowVariant(own, frozenset(one for one in sets if not implies(levels, one))))
    if any(not implies(a, b) and not implies(b, a) for a, b in combinations(learned, 2)):
        variants.append(RowVariant({name: _joined([o[name] for o in learned.values()]) for name in regions}))
    return tuple(variants)


def level_sets(scenario: Scenario, most: int) -> list[AdapterSLO]:
    """Levels of single adapters that ask for more than the scenario; of many those of most adapters."""
    adapters = Counter[AdapterSLO]()
    for members in scenario.classes:
        if members.levels is not None and _asks_for_rows(members.levels, scenario):
            adapters[members.levels] += members.count
    return [levels for levels, _ in adapters.most_common(most)]


def _asks_for_rows(levels: AdapterSLO, scenario: Scenario) -> bool:
    """Whether levels ask for more than those of the scenario, and its rows do not know it.

    In mixed traffic rows are of mixes in which every kind has its own patience.
    """
    given = scenario.service_levels
    if limits_latencies(levels):
        return True
    if scenario.acceptance == "sustained":
        if scenario.mixed:
            return False
        return levels.patience_s is not None and levels.patience_s < given.patience_s
    return levels.served_share is not None and levels.served_share > given.adapter_served_share


def implies(strict: AdapterSLO, weak: AdapterSLO) -> bool:
    """Whether who meets some levels meets others, whatever those of the scenario are."""
    limits = [(code.limit_ms(strict), code.limit_ms(weak)) for code in LATENCIES]
    limits.append((strict.patience_s, weak.patience_s))
    least = (weak.served_share, strict.served_share)  # the other way round: more is stricter
    own_patience = strict.patience_s is None or weak.patience_s is not None
    return (
        own_patience
        and all(larger is None or (smaller is not None and smaller <= larger) for smaller, larger in limits)
        and (least[0] is None or (least[1] is not None and least[0] <= least[1]))
    )


# --- several sets on one GPU --------------------------------------------------------------------------


def _joined(several: Sequence[Regions]) -> Regions:
    """Regions of GPUs that hold adapters of several sets of levels."""
    inner, outer = (
        of[0].model_copy(update={"options": tuple(joined(rows) for rows in _by_option(of))})
        for of, joined in (
            ([one.inner for one in several], _all_rows),
            ([one.outer for one in several], _widest_rows),
        )
    )
    return several[0].model_copy(update={"inner": inner, "outer": outer})


def _by_option(regions: Sequence[FeasibilityRegion]) -> Iterator[list[OptionRows]]:
    """The rows of each option of several regions of equal options."""
    of_key = [{rows.key: rows for rows in region.options} for region in regions]
    yield from ([rows[key] for rows in of_key] for key in of_key[0])


def _all_rows(several: Sequence[OptionRows]) -> OptionRows:
    """All rows hold."""
    rows = tuple(dict.fromkeys(row for one in several for row in one.rows))
    return several[0].model_copy(update={"rows": rows})


def _widest_rows(several: Sequence[OptionRows]) -> OptionRows:
    """Rows that hold wherever those of one do: the least coefficients of rows that mean the same."""
    rows = []
    for alike in zip(*(one.rows for one in several), strict=False):
        if len({row.meaning for row in alike}) > 1:
            break
        shares = [[value / row.bound for value in row.coefficients] for row in alike]
        least = tuple(min(values) for values in zip(*shares, strict=True))
        rows.append(alike[0].model_copy(update={"coefficients": least, "bound": 1.0}))
    return several[0].model_copy(update={"rows": tuple(rows)})
