"""From a running placement to a new one: few moves against brute force, names that stay, the loop."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import scenarios
from optimizer.cli.commands import app
from optimizer.packing import methods
from optimizer.packing.model.checker import check
from optimizer.packing.model.problem import Bin, NoGoodCut, Packing, PackingOption, PackingProblem
from optimizer.packing.model.search_state import Status
from optimizer.replanning.changes import dealt, moves_between, numbers_of, placement_with_names
from optimizer.replanning.engines import keep_engines
from optimizer.replanning.moves import MovesSolver, Running
from optimizer.replanning.replan import Mover, Nearest, replan
from optimizer.search.cut_loop import AcceptedPlan, CutLoop, pattern_of
from optimizer.search.judging import Pattern
from optimizer.search.minimize_gpus import Search
from scenarios import Deadline, EngineOption, PlacedGPU, Placement
from twin import GPUVerdict, PlacementJudge, TwinJudge, ValidationReport, profiles_of


def option(slots: int, sizes: Sequence[float], capacity: float, device: str = "gpu") -> PackingOption:
    return PackingOption(
        f"{device} with {slots} slots of rank 8, resident",
        usage=np.array([sizes, [1.0] * len(sizes)]),
        capacity=np.array([capacity, float(slots)]),
        option=EngineOption(device, slots, 8),
    )


def problem(counts: Sequence[int], *options: PackingOption, **changes: Any) -> PackingProblem:
    limits = {o.device: 99 for o in options}  # as in scenarios: no option of another device is superfluous
    return PackingProblem(np.array(counts), options, device_limits=limits, **changes)


def running(counts: Sequence[Sequence[int]], known: Sequence[int], devices: Sequence[str] = ()) -> Running:
    return Running(np.array(counts), tuple(devices or ["gpu"] * len(counts)), np.array(known))


def solve(solver: MovesSolver, one: PackingProblem) -> tuple[Packing, float]:
    result = solver(one, Deadline.after(20), 0.0)
    assert result.status is Status.OPTIMAL
    assert result.packing is not None
    assert check(one, result.packing) == []
    for b, home in zip(result.packing.bins, result.homes, strict=True):
        assert home is None or one.options[b.option].device == solver.running.devices[home]
    assert len({h for h in result.homes if h is not None}) == sum(h is not None for h in result.homes)
    assert result.objective == solver.value(one, result.packing, result.homes)
    assert result.bound == pytest.approx(result.objective, abs=1e-5)
    return result.packing, result.objective


# --- few moves ---------------------------------------------------------------------------------------


def test_nothing_moves_where_everything_still_fits() -> None:
    one = problem([3, 3], option(8, [2, 1], 6.0), budget=2.0)
    held = running([[2, 1], [1, 2]], [3, 3])
    _, moves = solve(MovesSolver(held, fresh=2), one)
    assert moves == 0


def test_one_move_repairs_a_gpu_that_is_too_full_now() -> None:
    """Sizes 3 and 1 in 6: [2, 1] is 7, so one small adapter goes over to [1, 2], which is 5."""
    one = problem([3, 3], option(8, [3, 1], 6.0), budget=2.0)
    packing, moves = solve(MovesSolver(running([[2, 1], [1, 2]], [3, 3]), fresh=1), one)
    assert moves == 1
    assert sorted(b.counts.tolist() for b in packing.bins) == [[1, 3], [2, 0]]


def test_a_gpu_is_emptied_where_one_fewer_suffices() -> None:
    one = problem([6], option(8, [1.0], 6.0), budget=1.0)
    packing, moves = solve(MovesSolver(running([[4], [2]], [6]), fresh=1), one)
    assert len(packing) == 1
    assert moves == 2


def test_new_adapters_are_no_moves() -> None:
    one = problem([6], option(8, [1.0], 6.0), budget=1.0)
    _, moves = solve(MovesSolver(running([[4]], [4]), fresh=0), one)
    assert moves == 0


def test_a_running_gpu_keeps_its_device() -> None:
    """The running GPU is a small one, so both of its adapters that fit no small GPU any more must move."""
    big, small = option(8, [4.0], 8.0, "big"), option(8, [4.0], 4.0, "small")
    one = problem([2], big, small, budget=1.0)
    packing, moves = solve(MovesSolver(running([[2]], [2], ["small"]), fresh=1), one)
    assert one.options[packing.bins[0].option].device == "big"
    assert moves == 2


def test_cuts_hold() -> None:
    one = problem([4], option(8, [1.0], 4.0), budget=2.0, cuts=(NoGoodCut((0,), np.array([3])),))
    packing, moves = solve(MovesSolver(running([[3], [1]], [4]), fresh=0), one)
    assert sorted(b.counts.tolist() for b in packing.bins) == [[2], [2]]
    assert moves == 1


def test_a_price_per_move_is_weighed_against_a_gpu() -> None:
    """Emptying the second GPU moves 2 adapters: worth it below half a GPU's price per move."""
    one = problem([6], option(8, [1.0], 6.0))
    held = running([[4], [2]], [6])
    packing, value = solve(MovesSolver(held, fresh=1, move_price=0.4), one)
    assert (len(packing), value) == (1, pytest.approx(1.8))
    packing, value = solve(MovesSolver(held, fresh=1, move_price=0.6), one)
    assert (len(packing), value) == (2, pytest.approx(2.0))


def test_only_better_packings_are_wanted() -> None:
    one = problem([6], option(8, [1.0], 6.0), budget=1.0)
    solver = MovesSolver(running([[4], [2]], [6]), fresh=1, below=2.0)
    refused = solver(one, Deadline.after(20), 0.0)
    assert refused.status is Status.INFEASIBLE
    assert refused.bound == 2.0
    solver = MovesSolver(running([[4], [2]], [6]), fresh=1, below=3.0)
    assert solve(solver, one)[1] == 2


def splits(counts: Sequence[int], bins: int) -> Iterator[list[tuple[int, ...]]]:
    """All ways to deal items of each class to bins."""
    per_class = []
    for n in counts:
        per_class.append([w for w in itertools.product(range(n + 1), repeat=bins) if sum(w) == n])
    for ways in itertools.product(*per_class):
        yield [tuple(way[g] for way in ways) for g in range(bins)]


def brute_force(one: PackingProblem, held: Running, fresh: int, move_price: float | None) -> float:
    bins, best = len(held) + fresh, float("inf")
    homes: list[int | None] = [*range(len(held)), *[None] * fresh]

    def price(g: int, counts: tuple[int, ...]) -> float:
        if not any(counts):
            return 0.0
        fits = [
            o.price
            for o in one.options
            if (homes[g] is None or held.devices[g] == o.device)
            and (o.usage @ np.array(counts) <= o.capacity + 1e-9).all()
        ]
        return min(fits, default=float("inf"))

    for contents in splits(one.counts.tolist(), bins):
        total = sum(price(g, counts) for g, counts in enumerate(contents))
        if total == float("inf") or (one.budget is not None and total > one.budget + 1e-9):
            continue
        moves = held.moves(np.array(contents), homes)
        best = min(best, moves if move_price is None else total + move_price * moves)
    return best


@pytest.mark.parametrize("seed", range(30))
def test_the_fewest_moves_are_those_of_brute_force(seed: int) -> None:
    rng = np.random.default_rng(seed)
    classes = int(rng.integers(1, 4))
    old = rng.integers(0, 3, (int(rng.integers(1, 3)), classes))
    new = rng.integers(0, 2, classes)
    counts = np.maximum(old.sum(axis=0) + new - rng.integers(0, 2, classes), 0)
    if not counts.any():
        counts[0] = 1
    known = np.minimum(old.sum(axis=0), counts)
    sizes = rng.integers(1, 5, classes).astype(float)
    options = [option(4, sizes, 6.0), option(6, sizes, 5.0, "other")]
    devices = rng.choice(["gpu", "other"], len(old)).tolist()
    move_price = None if seed % 2 else 0.3
    one = problem(counts, *options, budget=3.0 if move_price is None else None)
    held = Running(old, tuple(devices), known)
    expected = brute_force(one, held, 2, move_price)
    result = MovesSolver(held, fresh=2, move_price=move_price)
    if expected == float("inf"):
        assert result(one, Deadline.after(20), 0.0).status is Status.INFEASIBLE
    else:
        assert solve(result, one)[1] == pytest.approx(expected, abs=1e-5)


def test_nearest_homes_of_a_packing() -> None:
    one = problem([3, 3], option(8, [1, 1], 6.0))
    held = running([[0, 3], [3, 0]], [3, 3])
    packing = Packing((Bin(0, np.array([2, 1])), Bin(0, np.array([0, 1])), Bin(0, np.array([1, 1]))))
    homes = held.nearest_homes(one, packing)
    assert homes[0] == 1
    assert sorted(h for h in homes if h is not None) == [0, 1]
    assert held.moves(packing.counts(), homes) == 3


def test_of_an_adapter_that_runs_twice_and_is_wanted_once_one_stays() -> None:
    """What takes the other's place is new: it neither stays nor moves."""
    held = running([[1, 0], [1, 1]], [1, 1])
    for counts, homes, stay in (
        ([[1, 0], [1, 1]], [0, 1], 2),
        ([[1, 0], [1, 1]], [1, 0], 1),
        ([[2, 1]], [1], 2),
        ([[2, 1]], [None], 0),
    ):
        assert held.stay(np.array(counts), homes) == stay
        assert held.moves(np.array(counts), homes) == 2 - stay


def test_nearest_homes_are_of_the_same_kind() -> None:
    """The small GPU holds all of it, but a big one takes no small one's place."""
    big, small = option(8, [1.0], 8.0, "big"), option(8, [1.0], 4.0, "small")
    one, held = problem([3], big, small), running([[3], [1]], [3], ["small", "big"])
    packing = Packing((Bin(0, np.array([3])),))
    assert held.nearest_homes(one, packing) == [1]
    assert running([[3]], [3], ["small"]).nearest_homes(one, packing) == [None]


# --- names -------------------------------------------------------------------------------------------


def instance(names: Sequence[Sequence[str]], shares: Sequence[float] | None = None) -> Any:
    classes = [SimpleNamespace(names=tuple(n), rank=8) for n in names]
    scenario = SimpleNamespace(base_names=frozenset())
    return SimpleNamespace(scenario=scenario, classes=classes, shares=tuple(shares or [1.0] * len(names)))


def placed(number: int, *names: str, slots: int = 8) -> PlacedGPU:
    return PlacedGPU(gpu=number, device="gpu", max_loras=slots, max_lora_rank=8, adapters=names)


def test_names_stay_on_their_gpus_and_numbers_too() -> None:
    one = instance([["a", "b", "c"], ["d", "e"]])
    old = Placement(gpus=(placed(3, "c", "e"), placed(5, "a", "b", "d")))
    packing = Packing((Bin(0, np.array([2, 1])), Bin(0, np.array([0, 1])), Bin(0, np.array([1, 0]))))
    homes: list[int | None] = [1, 0, None]
    names = dealt(one, old, packing, homes)
    assert names == [[["a", "b"], ["d"]], [[], ["e"]], [["c"], []]]
    assert numbers_of(old, homes) == [5, 3, 0]
    new = placement_with_names(one, problem([3, 2], option(8, [1, 1], 9.0)), packing, names, [5, 3, 0])
    assert [(move.adapter, move.source, move.target) for move in moves_between(old, new)] == [("c", 3, 0)]
    assert [gpu.max_loras for gpu in new.gpus] == [3, 1, 1]


def test_pieces_of_a_hot_adapter_go_to_different_gpus() -> None:
    one = instance([["hot", "hot", "hot"], ["x"]], [1 / 3, 1.0])
    old = Placement(gpus=(placed(0, "x", "hot"),))
    packing = Packing((Bin(0, np.array([1, 1])), Bin(0, np.array([2, 0]))))
    names = dealt(one, old, packing, [0, None])
    assert names == [[["hot"], ["x"]], [["hot", "hot"], []]]
    new = placement_with_names(one, problem([3, 1], option(8, [1, 1], 9.0)), packing, names, [0, 1])
    assert new.gpus[0].shares == {"hot": pytest.approx(1 / 3)}
    assert new.gpus[1].shares == {"hot": pytest.approx(2 / 3)}
    assert moves_between(old, new) == ()  # it did not leave GPU 0


# --- the loop ----------------------------------------------------------------------------------------


def verdict(accepted: bool) -> GPUVerdict:
    return GPUVerdict(
        gpu=0, accepted=accepted, offered_tok_per_s=1.0,
        served_tok_per_s=1.0, served_share=1.0, worst_adapter=None, worst_served_share=1.0, itl_ms=1.0,
        ttft_ms=1.0, itl_p99_ms=1.0, ttft_p99_ms=1.0, kv_cache_tokens=1,
    )  # fmt: skip


def nearest(
    inner: float, outer: float, rule: Callable[[Pattern], bool], held: Running, start: Packing
) -> Nearest:
    """The search for few moves against a judge whose rule is known; sizes 3 and 2."""
    one, wide = (problem([4, 4], option(8, [3.0, 2.0], c), max_bins=6) for c in (inner, outer))
    given: Any = SimpleNamespace(inner=one, outer=wide, scenario=SimpleNamespace(seed=0))
    judge: Any = lambda patterns, _deadline=None: [verdict(rule(p)) for p in patterns]  # noqa: E731
    loop, deadline = CutLoop(judge), Deadline.after(30)
    verdicts = loop.verdicts(one, start, deadline)
    assert verdicts is not None
    assert all(v.accepted for v in verdicts)
    mover = Mover(Search(given, methods()["exact"], loop), held, None, deadline)
    found = mover.minimize_moves(mover.nearest_to(AcceptedPlan(start, verdicts, one, None)))
    assert all(rule(pattern_of(found.best.problem, b)) for b in found.best.packing.bins)
    return found


START = Packing((Bin(0, np.array([2, 2])), Bin(0, np.array([2, 2]))))


def load(pattern: Pattern) -> float:
    return float(np.dot(pattern.counts, [3, 2]))


def test_the_twins_slack_saves_moves() -> None:
    """[3, 1] and [1, 3] run: loads 11 and 9. The inner region holds 10, the twin 11: nothing moves."""
    found = nearest(10.0, 12.0, lambda p: load(p) <= 11, running([[3, 1], [1, 3]], [4, 4]), START)
    assert found.value == 0
    assert found.proven


def test_a_rejected_plan_is_cut_off_and_the_fewest_moves_are_proven() -> None:
    """The twin takes 10: [3, 1] must lose a large one and take a small one, or lose one alone: 11 - 2 = 9.

    Then the other has 11, so both swap one: a large one there, a small one back, and two adapters move.
    """
    found = nearest(10.0, 12.0, lambda p: load(p) <= 10, running([[3, 1], [1, 3]], [4, 4]), START)
    assert found.value == 2
    assert found.bound == 2
    assert found.proven


def test_a_nearer_plan_may_open_more_gpus_where_they_are_cheaper() -> None:
    """Two run on a small GPU, four are new: a huge GPU moves both, two more small ones at its price none."""
    small = option(8, [3.0], 6.0, "small")
    huge = replace(option(8, [3.0], 18.0, "huge"), price=3.0)
    one = problem([6], small, huge, max_bins=6)
    given: Any = SimpleNamespace(inner=one, outer=one, scenario=SimpleNamespace(seed=0))
    judge: Any = lambda patterns, _deadline=None: [verdict(True) for _ in patterns]  # noqa: E731
    start = AcceptedPlan(Packing((Bin(1, np.array([6])),)), (verdict(True),), one, None)
    search = Search(given, methods()["exact"], CutLoop(judge))
    mover = Mover(search, running([[2]], [2], ["small"]), None, Deadline.after(30))
    assert mover.nearest_to(start).value == 2
    found = mover.minimize_moves(mover.nearest_to(start))
    assert (found.value, found.proven) == (0, True)
    assert len(found.best.packing) == 3


def test_without_a_nearer_plan_the_start_is_kept() -> None:
    found = nearest(10.0, 10.0, lambda _: True, running([[2, 2], [2, 2]], [4, 4]), START)
    assert found.value == 0
    assert found.best is not None
    assert found.best.packing is START


def test_an_interruption_keeps_the_best_plan_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optimizer.replanning.moves.interrupted", lambda: True)
    found = nearest(10.0, 12.0, lambda _: True, running([[3, 1], [1, 3]], [4, 4]), START)
    assert found.best is not None
    assert found.best.packing is START
    assert found.value == 2
    assert not found.proven


# --- end to end --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scenario() -> scenarios.Scenario:
    return scenarios.read("paper_mixed_32", overrides=["replications=1"])


def test_replan_keeps_what_runs_well_and_takes_in_what_is_new(scenario: scenarios.Scenario) -> None:
    names = [name for entry in scenario.adapters for name in entry.names()]
    gpu = PlacedGPU(gpu=7, device="H100-64GB", max_loras=32, max_lora_rank=32, adapters=(*names[:30], "gone"))
    change = replan(scenario, Placement(gpus=(gpu,)), time_limit_s=30)
    assert change.accepted
    assert change.moves == ()
    assert change.moves_bound == 0
    assert change.added == tuple(names[30:])
    assert change.retired == ("gone",)
    assert change.result.placement is not None
    assert [g.gpu for g in change.result.placement.gpus] == [7]
    scenarios.check_placement(change.result.placement, scenario)
    text = change.summary()
    assert "0 adapters move (at least 0), 2 new, 1 retired" in text
    assert max(map(len, text.splitlines())) <= 100
    assert json.loads(change.to_json())["result"]["gpus"] == 1


def running_engine(scenario: scenarios.Scenario, slots: int, rank: int) -> Placement:
    names = tuple(name for entry in scenario.adapters for name in entry.names())
    gpu = PlacedGPU(
        gpu=0,
        device="H100-64GB",
        max_loras=slots,
        max_lora_rank=rank,  # type: ignore[arg-type]
        max_cpu_loras=max(slots, len(names)),
        adapters=names,
    )
    return Placement(gpus=(gpu,))


def judge_of(scenario: scenarios.Scenario) -> PlacementJudge:
    return PlacementJudge(TwinJudge(scenario, profiles_of(scenario)))


def kept(scenario: scenarios.Scenario, slots: int, rank: int, judge: PlacementJudge) -> Placement:
    """What becomes of a plan with 32 slots of rank 32 where an engine with others runs."""
    plan = running_engine(scenario, 32, 32)
    placement, report = keep_engines(
        plan, judge.report(plan.gpus), running_engine(scenario, slots, rank), judge
    )
    assert report.accepted
    assert report == judge_of(scenario).report(placement.gpus)
    return placement


@pytest.mark.parametrize(
    ("slots", "rank", "goes_on"),
    [(40, 32, True), (32, 64, True), (30, 32, True), (40, 16, False), (1, 32, False), (600, 64, False)],
)
def test_a_running_engine_goes_on_where_it_serves_and_the_twin_accepts_it(
    scenario: scenarios.Scenario, slots: int, rank: int, *, goes_on: bool
) -> None:
    """Too small a rank, too few slots, no memory for so many: those start with the plan's arguments."""
    gpu = kept(scenario, slots, rank, judge_of(scenario)).gpus[0]
    assert (gpu.max_loras, gpu.max_lora_rank) == ((slots, rank) if goes_on else (32, 32))


@pytest.mark.parametrize(("rank", "asked"), [(16, 0), (32, 1), (64, 1)])
def test_engines_whose_rank_is_too_low_are_not_asked_about(
    scenario: scenarios.Scenario, rank: int, asked: int
) -> None:
    seen, nothing = list[PlacedGPU](), ValidationReport(gpus=(), distinct=0)

    def report(gpus: Sequence[PlacedGPU]) -> ValidationReport:
        seen.extend(gpus)
        return nothing

    judge: Any = SimpleNamespace(judge=SimpleNamespace(scenario=scenario), report=report)
    plan = running_engine(scenario, 32, 32)
    assert keep_engines(plan, nothing, running_engine(scenario, 40, rank), judge)[0] == plan
    assert [gpu.max_lora_rank for gpu in seen] == [rank] * asked


def test_a_plan_stays_as_it_is_where_the_twin_has_no_time_for_running_engines(
    scenario: scenarios.Scenario,
) -> None:
    judge = judge_of(scenario)
    plan = running_engine(scenario, 32, 32)
    report = judge.report(plan.gpus)
    over = replace(judge, deadline=Deadline.of(0.0))
    assert keep_engines(plan, report, running_engine(scenario, 40, 32), over) == (plan, report)


def test_fewer_adapters_restart_no_engine(scenario: scenarios.Scenario) -> None:
    names = [name for entry in scenario.adapters for name in entry.names()]
    gpu = PlacedGPU(gpu=0, device="H100-64GB", max_loras=36, max_lora_rank=32, adapters=(*names, *"abcd"))
    change = replan(scenario, Placement(gpus=(gpu,)), time_limit_s=30)
    assert change.accepted
    assert change.restarted == ()
    assert change.result.placement is not None
    assert change.result.placement.gpus[0].max_loras == 36
    assert change.result.objective_values[1] == change.result.validation.gpus[0].ttft_p99_ms  # type: ignore[union-attr]


def test_the_command_writes_the_new_placement(
    scenario: scenarios.Scenario, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = tuple(name for entry in scenario.adapters for name in entry.names())
    gpu = PlacedGPU(gpu=2, device="H100-64GB", max_loras=32, max_lora_rank=32, adapters=names)
    before, after = tmp_path / "before.json", tmp_path / "after.json"
    scenarios.write_placement(Placement(gpus=(gpu,)), before)
    arguments = ["replan", "paper_mixed_32", "--from", str(before), "--placement", str(after), "--quiet"]
    with pytest.raises(SystemExit) as stop:
        app([*arguments, "--set", "replications=1", "--json", str(tmp_path / "change.json")])
    assert stop.value.code == 0
    assert "0 adapters move" in capsys.readouterr().out
    assert scenarios.read_placement(after).gpus[0].gpu == 2
    assert json.loads((tmp_path / "change.json").read_text())["moves"] == []
    assert scenarios.read_placement(tmp_path / "change.json") == scenarios.read_placement(after)


def test_wrong_input_is_refused(scenario: scenarios.Scenario) -> None:
    gpu = PlacedGPU(gpu=0, device="TPU", max_loras=8, max_lora_rank=8, adapters=("a",))
    with pytest.raises(scenarios.ScenarioError, match=r'gpus\[0\].device is "TPU".*choose from H100-64GB'):
        replan(scenario, Placement(gpus=(gpu,)))
    fine = gpu.model_copy(update={"device": "H100-64GB"})
    with pytest.raises(scenarios.ScenarioError, match="move_price is -1"):
        replan(scenario, Placement(gpus=(fine,)), move_price=-1.0)


def test_arguments_of_a_wrong_type_are_named(scenario: scenarios.Scenario) -> None:
    with pytest.raises(scenarios.ScenarioError, match="placement is of type NoneType"):
        replan(scenario, None)  # type: ignore[arg-type]
    with pytest.raises(scenarios.ScenarioError, match="move_price is '1'; give a price above 0"):
        replan(scenario, scenarios.Placement(gpus=(placed(0, "a"),)), move_price="1")  # type: ignore[arg-type]


@pytest.mark.slow
def test_plans_of_few_moves_that_do_not_exist_end_no_process() -> None:
    """CP-SAT's interleaved searches ended it where a relaxation refutes the model on loading.

    In a process of its own, as nothing is left of the one that it happens to.
    """
    code = (
        "import optimizer, scenarios\n"
        "running = scenarios.read('mixed_ranks', ['acceptance=paper', 'replications=1'])\n"
        "running = optimizer.solve(running, workers=2)\n"
        "hotter = scenarios.override(running.scenario, 'adapters[0].rate=0.5')\n"
        "for workers in (1, 2):\n"
        "    change = optimizer.replan(hotter, running.placement, workers=workers)\n"
        "    print(len(change.moves), change.result.gpus)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    one, two = done.stdout.splitlines()
    assert one == two
