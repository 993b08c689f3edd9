"""The paper's greedy placements: Proposed, ProposedFast and ProposedLat (arXiv 2602.24044).

Proposed: adapters in rank groups, largest rank first, inside a group zigzag by rate (largest, smallest,
second largest, ...). The current GPU fills up; whenever its number of adapters reaches a test point, the
model predicts its throughput for two slot options, the current one and the next larger, as far as their
memory fits; the better is kept (ties: more slots), and the model says whether the GPU starves. If not, the
adapters so far are committed; if so, those added since the last point go back to the queue and the GPU is
closed. An open GPU goes on with the next rank group. At the end a GPU with uncommitted adapters is tested
as if average adapters filled it up to the next point. Slots start below the first option, and never exceed
the adapters at a test point. ProposedFast is the same with a faster oracle.

Where an empty GPU starves at the first test point, the published method has no plan; this one says so.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from optimizer.packing.heuristics.first_fit import offer
from optimizer.packing.heuristics.oracle import Oracle, RowOracle
from optimizer.packing.model.no_packing import NoPacking, NoPackingReason
from optimizer.packing.model.problem import Bin, FloatArray, IntArray, PackingProblem
from optimizer.packing.model.search_state import SearchState
from scenarios import AdapterClass, EngineOption, LorapackError
from scenarios.text.formatting import counted


class GreedyStuckError(LorapackError):
    """The oracle refuses what the method has no other plan for: its first test, or the GPUs of its deal.

    Parameters
    ----------
    why
        What is refused, and the adapters of that GPU.
    message
        The same in words.
    """

    def __init__(self, why: NoPacking, message: str) -> None:
        super().__init__(message)
        self.why = why


@dataclass(frozen=True, eq=False)
class GreedyGPU:
    """One GPU of a greedy plan: its engine and how many adapters of each class it serves."""

    option: EngineOption
    counts: IntArray


@dataclass(frozen=True, eq=False)
class GreedyInput:
    """What the greedy knows of the adapters, per class.

    Parameters
    ----------
    counts
        Adapters, shape (n_classes,).
    ranks
        LoRA rank, shape (n_classes,).
    rates
        Requests/s of one adapter, shape (n_classes,).
    """

    counts: IntArray
    ranks: IntArray
    rates: FloatArray

    @staticmethod
    def of(classes: Sequence[AdapterClass]) -> GreedyInput:
        """The greedy's view of a scenario's classes."""
        ranks, rates = [c.rank for c in classes], [c.rate for c in classes]
        return GreedyInput(np.array([c.count for c in classes]), np.array(ranks), np.array(rates))


def zigzag(classes: Sequence[int], adapters: GreedyInput) -> list[int]:
    """The adapters of some classes, as class indices: largest rate, smallest, second largest, ..."""
    ranked = sorted(classes, key=lambda c: (-adapters.rates[c], c))
    line = [c for c in ranked for _ in range(int(adapters.counts[c]))]
    mixed = [0] * len(line)
    half = (len(line) + 1) // 2
    mixed[0::2] = line[:half]
    mixed[1::2] = line[half:][::-1]
    return mixed


def queue(adapters: GreedyInput) -> list[int]:
    """All adapters in the greedy's order: rank groups, largest rank first, each zigzag by rate."""
    line: list[int] = []
    for rank in sorted({int(r) for r in adapters.ranks[adapters.counts > 0]}, reverse=True):
        line += zigzag([int(c) for c in np.flatnonzero(adapters.ranks == rank)], adapters)
    return line


class _OpenGPU:
    """A GPU while it is being filled."""

    def __init__(self, rank: int, n_classes: int) -> None:
        self.rank = rank
        self.slots = 0
        self.starts = True  # whether some engine of the last test did
        self.counts = np.zeros(n_classes, dtype=np.int64)
        self.committed = np.zeros(n_classes, dtype=np.int64)
        self.pending: list[int] = []
        self.total = self.committed_total = 0

    def add(self, c: int) -> None:
        self.counts[c] += 1
        self.pending.append(c)
        self.total += 1

    def test(self, oracle: Oracle, slots: Sequence[int], adapters: float, *, spare_slots: bool) -> bool:
        """Choose between two slot options for so many adapters like those here, by the better's health.

        Parameters
        ----------
        spare_slots
            Whether there may be more slots than adapters, where there are more adapters than slots.
        """
        # Average adapters fill the GPU up to the point, where the queue ended before it.
        counts: FloatArray = self.counts * np.float64(adapters / self.total)
        larger = [s for s in slots if s > self.slots][:1]
        if self.slots and larger and larger[0] > round(adapters):
            larger = larger if spare_slots and round(adapters) > self.slots else []
        choice = [oracle.engine(s, self.rank) for s in ([self.slots] if self.slots else []) + larger]
        engines = [engine for engine in choice if oracle.fits(engine)]
        self.starts = bool(engines)
        if not engines:
            return False
        chosen = engines[0]
        if len(engines) > 1:
            chosen = max(engines, key=lambda engine: (oracle.throughput(counts, engine), engine.max_loras))
        if oracle.starves(counts, chosen):
            return False
        self.slots = chosen.max_loras
        return True

    def commit(self) -> None:
        self.committed, self.committed_total = self.counts.copy(), self.total
        self.pending = []

    def closed(self, oracle: Oracle) -> GreedyGPU:
        return GreedyGPU(oracle.engine(self.slots, self.rank), self.committed)


def proposed(
    adapters: GreedyInput,
    oracle: Oracle,
    *,
    fill_points: Sequence[int],
    slot_points: Sequence[int],
    most_gpus: int | None = None,
    spare_slots: bool = False,
    late: Callable[[], bool] = lambda: False,
) -> list[GreedyGPU] | None:
    """The paper's Proposed (with a small-tree oracle ProposedFast).

    Parameters
    ----------
    adapters
        The adapters by class.
    oracle
        The model of one GPU.
    fill_points
        Numbers of adapters at which a GPU is tested; ``range(1, n + 1)`` fills arbitrarily.
    slot_points
        Slot options.
    most_gpus
        Most GPUs; None: no limit.
    spare_slots
        Whether a GPU may have more slots than adapters; as published it has not. Where adapters that wait
        for a slot are not accepted, no number of adapters between two slot options fits otherwise.
    late
        Asked before every test: whether to stop.

    Returns
    -------
    list of GreedyGPU, or None
        None if the GPUs do not suffice, or it was to stop.

    Raises
    ------
    GreedyStuckError
        If an empty GPU starves at its first test, or no engine of it starts.
    """
    points, slots = sorted(set(fill_points)), sorted(set(slot_points))
    line = queue(adapters)[::-1]
    done: list[GreedyGPU] = []
    gpu: _OpenGPU | None = None
    while line or (gpu is not None and gpu.pending):
        if late():
            return None
        if gpu is None:
            if most_gpus is not None and len(done) >= most_gpus:
                return None
            gpu = _OpenGPU(int(adapters.ranks[line[-1]]), len(adapters.counts))
        place = bisect_right(points, gpu.committed_total)
        goal = points[place] if place < len(points) else None
        while goal is not None and line and gpu.total < goal:
            gpu.add(line.pop())
        if goal is not None and _healthy(gpu, oracle, slots, goal, spare_slots=spare_slots):
            gpu.commit()
            continue
        if not gpu.committed_total:
            reason = NoPackingReason.FIRST_TEST if gpu.starts else NoPackingReason.NO_ENGINE
            why = NoPacking(reason, gpu.counts, goal or gpu.total, len(done))
            raise GreedyStuckError(why, _why_stuck(gpu, goal, len(done)))
        line += gpu.pending[::-1]
        done.append(gpu.closed(oracle))
        gpu = None
    return done if gpu is None else [*done, gpu.closed(oracle)]


def _why_stuck(gpu: _OpenGPU, goal: int | None, full: int) -> str:
    """What keeps an empty GPU from its first test point, in words."""
    before = f"after {counted(full, 'full GPU')} " if full else ""
    return (
        f"{before}even an empty GPU fails the first test, that of {goal} adapters like the next "
        f"{gpu.total} in line (rank {gpu.rank} and below); smaller numbers are not tested, so neither more "
        "GPUs nor more time helps"
    )


def _healthy(gpu: _OpenGPU, oracle: Oracle, slots: Sequence[int], goal: int, *, spare_slots: bool) -> bool:
    """Test a GPU at a test point, or, when the queue ran out, as if average adapters filled it up to one.

    A GPU without anything committed is then also tested as it is: there is nowhere to give back to.
    """
    if gpu.test(oracle, slots, goal, spare_slots=spare_slots):
        return True
    if gpu.total == goal or gpu.committed_total:
        return False
    return gpu.test(oracle, slots, gpu.total, spare_slots=spare_slots)


def proposed_lat(adapters: GreedyInput, oracle: Oracle, gpus: int) -> list[GreedyGPU]:
    """The paper's ProposedLat: every adapter to the GPU of least rate, slots = adapters, then checked.

    Raises
    ------
    GreedyStuckError
        If the oracle says that a GPU starves or does not start.
    """
    load = np.zeros(gpus)
    counts = np.zeros((gpus, len(adapters.counts)), dtype=np.int64)
    for c in queue(adapters):
        g = int(load.argmin())
        load[g] += adapters.rates[c]
        counts[g, c] += 1
    plan = [
        GreedyGPU(oracle.engine(int(row.sum()), int(adapters.ranks[row > 0].max())), row)
        for row in counts
        if row.any()
    ]
    for gpu in plan:
        if not oracle.fits(gpu.option) or oracle.starves(gpu.counts.astype(np.float64), gpu.option):
            message = f"a GPU with {gpu.counts.sum()} adapters of equal load starves, or does not start"
            raise GreedyStuckError(NoPacking(NoPackingReason.BIN_OVERLOADED, gpu.counts), message)
    return plan


def greedy_input(problem: PackingProblem, oracle: RowOracle) -> GreedyInput:
    """Ranks and rates of a problem's classes: the rank is the least that an option admits."""
    ranks = np.full(problem.n_classes, np.iinfo(np.int64).max)
    for option in problem.options:
        if option.device == oracle.device:
            ranks = np.where(option.fits_class, np.minimum(ranks, option.option.max_lora_rank), ranks)
    return GreedyInput(problem.counts, ranks, oracle.rates)


def place_greedy(run: SearchState) -> None:
    """`greedy`: the paper's Proposed, with the problem's rows as oracle; one device kind at a time."""
    _place(run, run.params.greedy.test_points)


def place_greedy_fill(run: SearchState) -> None:
    """`greedy-fill`: Proposed with a test point at every adapter, and slots for those between two options."""
    _place(run, range(1, run.problem.n_items + 1), spare_slots=True)


def _place(run: SearchState, fill_points: Sequence[int], *, spare_slots: bool = False) -> None:
    problem = run.problem

    def plan(device: str, oracle: RowOracle) -> list[GreedyGPU] | None:
        slots = [o.option.max_loras for o in problem.options if o.device == device]
        limits = [n for n in (problem.max_bins, problem.device_limits.get(device)) if n is not None]
        return proposed(
            greedy_input(problem, oracle),
            oracle,
            fill_points=fill_points,
            slot_points=slots,
            most_gpus=min(limits, default=None),
            spare_slots=spare_slots,
            late=lambda: run.out_of_time,
        )

    _offer_plans(run, plan)


def place_proposed_lat(run: SearchState) -> None:
    """`greedy-lat`: the paper's ProposedLat on the number of bins given."""
    problem = run.problem
    most = problem.max_bins
    assert most is not None

    def plan(device: str, oracle: RowOracle) -> list[GreedyGPU] | None:
        gpus = min(most, problem.device_limits.get(device, most))
        return proposed_lat(greedy_input(problem, oracle), oracle, gpus) if gpus else None

    _offer_plans(run, plan)


def _offer_plans(run: SearchState, plan: Callable[[str, RowOracle], list[GreedyGPU] | None]) -> None:
    """Offer the plan on each kind of GPU; where the oracles refuse all kinds, say why."""
    oracles = {o.device: RowOracle(run.problem, o.device) for o in run.problem.options}
    stuck: list[GreedyStuckError] = []
    for device, oracle in oracles.items():
        try:
            gpus = plan(device, oracle)
        except GreedyStuckError as error:
            stuck.append(error)
            continue
        if gpus is not None:
            _offer(run, oracle, gpus)
    if len(stuck) == len(oracles):  # else another kind of GPU might do, with more of them
        run.message, run.no_packing = str(stuck[0]), stuck[0].why
    elif len(oracles) > 1 and run.packing is None and not run.out_of_time:
        run.no_packing = NoPacking(NoPackingReason.ONE_KIND, run.problem.counts)


def _offer(run: SearchState, oracle: RowOracle, plan: Sequence[GreedyGPU]) -> None:
    """Offer a plan as a packing, if it keeps the limits on options and the budget."""
    problem = run.problem
    options = [oracle.option(gpu.option) for gpu in plan]
    bins = [Bin(o, gpu.counts) for o, gpu in zip(options, plan, strict=True) if o is not None]
    used = np.bincount([b.option for b in bins], minlength=len(problem.options))
    if all(o.limit is None or n <= o.limit for o, n in zip(problem.options, used, strict=True)):
        offer(run, bins)
