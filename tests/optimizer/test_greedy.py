"""The paper's greedy against oracles whose plans are worked out by hand, one rule at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

import optimizer
from optimizer.packing.bounds.price_bounds import continuous_bound
from optimizer.packing.heuristics.greedy import (
    GreedyGPU,
    GreedyInput,
    GreedyStuckError,
    proposed,
    proposed_lat,
    queue,
    zigzag,
)
from optimizer.packing.heuristics.oracle import RowOracle
from optimizer.packing.model.no_packing import NoPackingReason
from optimizer.packing.model.params import GreedyParams, PackingParams
from optimizer.packing.model.problem import NoGoodCut, PackingOption, PackingProblem
from scenarios import EngineOption

Answer = Callable[[np.ndarray, int, int], float]


@dataclass
class HandMade:
    """Starves above ``most`` adapters (of ``sizes`` each); remembers what it was asked."""

    most: float
    sizes: Sequence[float] = (1.0,)
    throughputs: Answer = lambda _counts, _slots, _rank: 0.0
    largest_slots: int = 10_000
    asked: list[tuple[tuple[float, ...], int, int]] = field(default_factory=list)

    def engine(self, max_loras: int, max_lora_rank: int) -> EngineOption:
        return EngineOption("gpu", max_loras, max_lora_rank)

    def fits(self, engine: EngineOption) -> bool:
        return engine.max_loras <= self.largest_slots

    def throughput(self, counts: np.ndarray, engine: EngineOption) -> float:
        return self.throughputs(counts, engine.max_loras, engine.max_lora_rank)

    def starves(self, counts: np.ndarray, engine: EngineOption) -> bool:
        self.asked.append((tuple(counts.tolist()), engine.max_loras, engine.max_lora_rank))
        return bool(counts @ np.array(self.sizes) > self.most + 1e-9)


def adapters(
    counts: Sequence[int], ranks: Sequence[int] | None = None, rates: Sequence[float] | None = None
) -> GreedyInput:
    n = len(counts)
    return GreedyInput(
        np.array(counts), np.array(ranks or [8] * n), np.array(rates or [1.0] * n, dtype=np.float64)
    )


def plain(plan: list[GreedyGPU] | None) -> list[tuple[int, int, tuple[int, ...]]]:
    """Slots, rank and counts of each GPU."""
    assert plan is not None
    return [
        (gpu.option.max_loras, gpu.option.max_lora_rank, tuple(int(n) for n in gpu.counts)) for gpu in plan
    ]


def test_zigzag_takes_the_largest_the_smallest_the_second_largest() -> None:
    given = adapters([2, 1, 3], rates=[0.5, 4.0, 0.1])
    assert zigzag([0, 1, 2], given) == [1, 2, 0, 2, 0, 2]
    assert zigzag([2], given) == [2, 2, 2]
    assert zigzag([0, 1], adapters([1, 2, 0], rates=[3.0, 1.0, 9.0])) == [0, 1, 1]


def test_rank_groups_descend_and_each_is_a_zigzag_of_its_own() -> None:
    given = adapters([1, 1, 1, 2], ranks=[8, 32, 8, 16], rates=[2.0, 0.1, 1.0, 5.0])
    assert queue(given) == [1, 3, 3, 0, 2]


def test_a_gpu_closes_at_the_last_healthy_point_and_gives_the_rest_back() -> None:
    """Healthy up to 5 with points 2, 4, 6: 4, 4, 2; slots follow the points, the tie goes to more."""
    oracle = HandMade(5)
    plan = proposed(adapters([10]), oracle, fill_points=[2, 4, 6], slot_points=[2, 4, 6])
    assert plain(plan) == [(4, 8, (4,)), (4, 8, (4,)), (2, 8, (2,))]
    assert oracle.asked[:3] == [((2.0,), 2, 8), ((4.0,), 4, 8), ((6.0,), 6, 8)]


def test_what_is_given_back_keeps_its_place_in_the_queue() -> None:
    """Rates 4 3 2 1 in zigzag: 4 1 3 2. At 4 adapters it starves, so 3 and 2 open the next GPU."""
    given = adapters([1, 1, 1, 1], rates=[4.0, 3.0, 2.0, 1.0])
    plan = proposed(given, HandMade(3, [1.0] * 4), fill_points=[2, 4], slot_points=[2, 4])
    assert plain(plan) == [(2, 8, (1, 0, 0, 1)), (2, 8, (0, 1, 1, 0))]
    more = adapters([1] * 6, rates=[6.0, 5.0, 4.0, 3.0, 2.0, 1.0])  # 6 1 5 2 4 3: 5 and 2 before 4 and 3
    plan = proposed(more, HandMade(3, [1.0] * 6), fill_points=[2, 4], slot_points=[2, 4])
    assert [counts for _, _, counts in plain(plan)] == [
        (1, 0, 0, 0, 0, 1),
        (0, 1, 0, 0, 1, 0),
        (0, 0, 1, 1, 0, 0),
    ]


def test_the_better_throughput_decides_and_only_two_options_are_compared() -> None:
    """Fewer slots serve more here, so they stay at the first option, and 6 is never asked."""
    oracle = HandMade(100, throughputs=lambda _counts, slots, _rank: -float(slots))
    plan = proposed(adapters([6]), oracle, fill_points=[2, 4, 6], slot_points=[2, 4, 6])
    assert plain(plan) == [(2, 8, (6,))]
    assert [slots for _, slots, _ in oracle.asked] == [2, 2, 2]


def test_slots_grow_by_one_option_per_point_at_most() -> None:
    """At 2 fewer slots serve more, at 4 and 6 more do: 2, then 4, then 6, one step a point."""
    oracle = HandMade(100, throughputs=lambda _counts, slots, _rank: float(slots))
    plan = proposed(adapters([6]), oracle, fill_points=[4, 5, 6], slot_points=[1, 2, 4, 6])
    assert [slots for _, slots, _ in oracle.asked] == [1, 2, 4]
    assert plain(plan) == [(4, 8, (6,))]


def test_there_may_be_more_slots_than_adapters_where_that_is_asked_for() -> None:
    """Where adapters that wait for a slot starve, 9 of them fit 16 slots and no 8."""

    class NoneWait(HandMade):
        def starves(self, counts: np.ndarray, engine: EngineOption) -> bool:
            return bool(counts.sum() > engine.max_loras) or super().starves(counts, engine)

    oracle = NoneWait(most=12, throughputs=lambda counts, slots, _: min(float(counts.sum()), slots))
    given = {"fill_points": range(1, 25), "slot_points": (8, 16, 32)}
    assert plain(proposed(adapters([24]), oracle, **given)) == [(8, 8, (8,))] * 3
    assert plain(proposed(adapters([24]), oracle, **given, spare_slots=True)) == [(16, 8, (12,))] * 2


def test_slots_never_shrink() -> None:
    """Four slots serve best at 4 adapters, two at 6; by then there are four, and six are worse."""

    def throughput(counts: np.ndarray, slots: int, _rank: int) -> float:
        return float(slots) if counts.sum() <= 4 else -float(slots)

    plan = proposed(
        adapters([6]), HandMade(100, throughputs=throughput), fill_points=[2, 4, 6], slot_points=[2, 4, 6]
    )
    assert plain(plan) == [(4, 8, (6,))]


def test_an_option_whose_memory_does_not_fit_is_dropped() -> None:
    oracle = HandMade(100, largest_slots=2)
    assert plain(proposed(adapters([6]), oracle, fill_points=[2, 4, 6], slot_points=[2, 4, 6])) == [
        (2, 8, (6,))
    ]
    with pytest.raises(GreedyStuckError):
        proposed(adapters([6]), HandMade(100, largest_slots=1), fill_points=[2], slot_points=[2])


def test_a_gpu_that_survives_its_rank_group_goes_on_with_the_next_under_its_own_rank() -> None:
    oracle = HandMade(4, [1.0, 1.0])
    plan = proposed(adapters([2, 4], ranks=[32, 8]), oracle, fill_points=[2, 4, 6], slot_points=[2, 4, 6])
    assert plain(plan) == [(4, 32, (2, 2)), (2, 8, (0, 2))]


def test_at_the_end_uncommitted_adapters_are_tested_as_if_average_ones_filled_up_to_the_point() -> None:
    """3 of sizes 3 1 1 and points 2, 4: the last is tested as 4/3 of all; 20/3 is above 6, so it goes."""
    given = adapters([1, 2], rates=[2.0, 1.0])
    oracle = HandMade(6, [3.0, 1.0])
    plan = proposed(given, oracle, fill_points=[2, 4], slot_points=[2, 4])
    assert oracle.asked[1][0] == pytest.approx((4 / 3, 8 / 3))
    assert plain(plan) == [(2, 8, (1, 1)), (2, 8, (0, 1))]
    assert plain(proposed(given, HandMade(7, [3.0, 1.0]), fill_points=[2, 4], slot_points=[2, 4])) == [
        (4, 8, (1, 2))
    ]


def test_few_adapters_on_an_empty_gpu_are_also_tested_as_they_are() -> None:
    """One adapter of size 3 would be 6 filled up to two, which starves; as it is it does not."""
    assert plain(proposed(adapters([1]), HandMade(4, [3.0]), fill_points=[2], slot_points=[2])) == [
        (2, 8, (1,))
    ]


def test_there_is_no_plan_where_an_empty_gpu_starves_or_the_gpus_are_used_up() -> None:
    with pytest.raises(
        GreedyStuckError, match=r"^even an empty GPU fails the first test, that of 2 adapters like"
    ) as stuck:
        proposed(adapters([4]), HandMade(1), fill_points=[2, 4], slot_points=[2, 4])
    why = stuck.value.why
    assert (why.reason, why.tested, why.items.tolist()) == (NoPackingReason.FIRST_TEST, 2, [2])
    with pytest.raises(GreedyStuckError) as unstarted:
        proposed(adapters([4]), HandMade(9, largest_slots=1), fill_points=[2], slot_points=[2])
    assert unstarted.value.why.reason is NoPackingReason.NO_ENGINE
    given = adapters([2, 2], ranks=[32, 8])
    with pytest.raises(GreedyStuckError, match=r"^after 1 full GPU even an empty GPU fails") as later:
        proposed(given, HandMade(2, [1.0, 2.0]), fill_points=[2], slot_points=[2])
    assert (later.value.why.full_bins, later.value.why.items.tolist()) == (1, [0, 2])
    assert proposed(adapters([4]), HandMade(2), fill_points=[2], slot_points=[2], most_gpus=1) is None
    assert proposed(adapters([4]), HandMade(2), fill_points=[2], slot_points=[2], most_gpus=2) is not None


def test_beyond_the_last_point_a_gpu_closes() -> None:
    plan = proposed(adapters([5]), HandMade(100), fill_points=[2], slot_points=[2, 4])
    assert [counts for _, _, counts in plain(plan)] == [(2,), (2,), (1,)]


def test_the_published_points_waste_what_a_point_at_every_adapter_uses() -> None:
    """31 fit: at the published points a GPU closes at 16, and 64 adapters need 4 GPUs instead of 3."""
    points = GreedyParams().test_points
    published = proposed(adapters([64]), HandMade(31), fill_points=points, slot_points=points)
    assert [counts for _, _, counts in plain(published)] == [(16,)] * 4
    sized = PackingProblem.bin_packing([1.0] * 64, 31)
    options = tuple(replace(sized.options[0], option=EngineOption("gpu", s, 8)) for s in (16, 32, 64))
    problem = replace(sized, options=options)
    assert optimizer.pack(problem, "greedy").objective == 4
    coarse = PackingParams(greedy=GreedyParams(test_points=(31, 62)))
    assert optimizer.pack(problem, "greedy", params=coarse).objective == 3
    fine = proposed(adapters([64]), HandMade(31), fill_points=range(1, 65), slot_points=points)
    assert [counts for _, _, counts in plain(fine)] == [(31,), (31,), (2,)]


def test_proposed_lat_gives_every_adapter_to_the_gpu_of_least_rate() -> None:
    """Rates 3, 4, 1, 2 in the queue: first, second, first, and on a tie the first again."""
    given = adapters([1, 1, 1, 1], ranks=[8, 16, 8, 8], rates=[4.0, 3.0, 2.0, 1.0])
    oracle = HandMade(3, [1.0] * 4)
    assert queue(given) == [1, 0, 3, 2]  # the group of rank 16 first
    assert plain(proposed_lat(given, oracle, 2)) == [(3, 16, (0, 1, 1, 1)), (1, 8, (1, 0, 0, 0))]
    for refuses in (HandMade(1, [1.0] * 4), HandMade(9, [1.0] * 4, largest_slots=1)):
        with pytest.raises(GreedyStuckError, match="starves, or does not start") as refused:
            proposed_lat(given, refuses, 2)
        assert refused.value.why.reason is NoPackingReason.BIN_OVERLOADED
        assert refused.value.why.items.tolist() == [0, 1, 1, 1]
    assert len(plain(proposed_lat(given, oracle, 9))) == 4


# --- the oracle that rows are -------------------------------------------------------------------------


def rows_problem(**changes: Any) -> PackingProblem:
    def option(slots: int, rank: int, capacity: float) -> PackingOption:
        return PackingOption(
            f"{slots} slots of rank {rank}",
            usage=np.array([[2.0, 1.0], [1.0, 1.0]]),
            capacity=np.array([capacity, float(slots)]),
            allowed=np.array([rank >= 16, True]),
            option=EngineOption("gpu", slots, rank),
        )

    options = (option(8, 8, 12.0), option(16, 8, 10.0), option(8, 16, 9.0))
    return PackingProblem(np.array([4, 12]), options, rates=np.array([2.0, 1.0]), **changes)


def test_the_row_oracle_reads_memory_starvation_and_throughput_off_the_rows() -> None:
    oracle = RowOracle(rows_problem(), "gpu")
    assert oracle.fits(oracle.engine(8, 8))
    assert oracle.fits(oracle.engine(16, 16)) is False  # no option of rank 16 has more than 8 slots
    assert oracle.option(oracle.engine(4, 8)) == 0  # the next larger stands in
    assert not oracle.starves(np.array([0.0, 8.0]), oracle.engine(8, 8))
    assert oracle.starves(np.array([0.0, 9.0]), oracle.engine(8, 8))  # more adapters than slots
    assert oracle.starves(np.array([1.0, 1.0]), oracle.engine(8, 8))  # rank 16 in slots of rank 8
    assert not oracle.starves(np.array([1.0, 7.0]), oracle.engine(8, 16))
    assert oracle.starves(np.array([2.0, 6.0]), oracle.engine(8, 16))  # load 10 above 9
    assert oracle.throughput(np.array([0.0, 8.0]), oracle.engine(8, 8)) == pytest.approx(8.0)
    assert oracle.throughput(np.array([0.0, 20.0]), oracle.engine(16, 8)) == pytest.approx(
        10.0
    )  # 20 offered, twice too much


def test_the_row_oracle_obeys_cuts() -> None:
    oracle = RowOracle(rows_problem(cuts=(NoGoodCut((0,), np.array([0, 5])),)), "gpu")
    assert not oracle.starves(np.array([0.0, 4.0]), oracle.engine(8, 8))
    assert oracle.starves(np.array([0.0, 5.0]), oracle.engine(8, 8))
    assert oracle.starves(np.array([0.0, 4.5]), oracle.engine(8, 8))  # fractions count up
    assert not oracle.starves(np.array([0.0, 5.0]), oracle.engine(16, 8))


@pytest.mark.parametrize("method", ["greedy", "greedy-fill"])
@pytest.mark.parametrize("seed", range(8))
def test_packings_of_the_greedy_pass_the_checker_and_are_never_below_the_bound(
    method: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 5))
    sizes = rng.random(n) + 0.1
    options = tuple(
        PackingOption(
            f"{slots} slots of rank {rank}",
            usage=np.array([sizes * (1 + 0.2 * k), np.ones(n)]),
            capacity=np.array([14.0, float(slots)]),
            allowed=np.arange(n) > 0 if rank == 8 else None,
            option=EngineOption("gpu", slots, rank),
        )
        for k, (slots, rank) in enumerate([(8, 8), (16, 8), (32, 8), (8, 16), (16, 16), (32, 16)])
    )
    problem = PackingProblem(rng.integers(1, 30, n), options, rates=sizes)
    result = optimizer.pack(problem, method)  # checked inside
    assert result.objective is not None
    assert result.objective >= continuous_bound(problem) - 1e-9
