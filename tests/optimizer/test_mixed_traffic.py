"""Plans of mixed traffic: the base model in parts without a slot, beside entries with own arrivals."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optimizer
import twin
from optimizer.packing.model.problem import Bin, PackingOption, PackingProblem
from optimizer.result import Result
from optimizer.search.cut_loop import CutLoop, pattern_of
from optimizer.search.instance import Instance
from optimizer.search.judging import Pattern, placed_gpu
from optimizer.search.params import DEFAULTS
from optimizer.search.preparation import learned_regions, prepare
from optimizer.search.splitting import InfeasibleError
from optimizer.survival.pieces import Piece, cut_up, number_with_slot
from scenarios import AdapterKind, EngineOption, FixedLengths, Scenario, from_mapping
from twin import TwinJudge

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half an hour of requests whose rate swings."""
    rng, at, lines = np.random.default_rng(0), 0.0, ["Timestamp,Request tokens,Response tokens"]
    while at < 1800:
        at += rng.exponential(1.0 / (1.0 + 0.8 * math.sin(2 * math.pi * at / 600)))
        lines.append(f"{at:.3f},200,100")
    path = tmp_path_factory.mktemp("trace") / "swings.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def scenario_of(trace: Path, base: float = 8.0, **other: Any) -> Scenario:
    """Customers who chat, jobs in bursts, a service that is replayed, and the base model."""
    entry = {"name": "base", "rate": base} | other.pop("entry", {})
    return from_mapping(
        {
            "name": "mixed",
            "model": "llama-3.1-8b-instruct",
            "adapters": [
                {
                    "name": "chat",
                    "count": 12,
                    "rank": [8, 16],
                    "rate": [1.0, 0.5],
                    "service_levels": {"patience_s": 5},
                },
                {
                    "name": "job",
                    "count": 6,
                    "rank": 16,
                    "rate": 0.4,
                    "arrivals": {"process": "gamma", "cv": 4},
                    "service_levels": {"patience_s": 60},
                },
                {
                    "name": "replay",
                    "count": 3,
                    "rank": 8,
                    "rate": 0.5,
                    "arrivals": {"process": "trace", "file": str(trace)},
                    "service_levels": {"patience_s": 20},
                },
                entry,
            ],
            "workload": {"prompt": 250, "output": 200},
            "devices": [{"name": "H100-64GB", "count": 8}],
            "engine": {"slots": [8, 32], "max_lora_rank": 16},
            "objective": "gpus",
        }
        | other
    )


def shares(result: Result, name: str = "base") -> dict[int, float]:
    """The share of an entry's requests by GPU."""
    assert result.placement is not None
    return {gpu.gpu: gpu.share(name) for gpu in result.placement.gpus if name in gpu.adapters}


def check_plan(result: Result) -> None:
    """The twin accepts the plan, of which it says the same when it is asked again by name."""
    assert result.accepted, result.message
    assert result.placement is not None
    assert sum(shares(result).values()) == pytest.approx(1.0)
    for gpu in result.placement.gpus:
        assert gpu.max_loras <= max(1, len(set(gpu.adapters) - {"base"}))
    again = twin.validate(result.scenario, result.placement)
    assert again.accepted
    assert result.validation is not None
    for before, after in zip(result.validation.gpus, again.gpus, strict=True):
        assert before.offered_tok_per_s == pytest.approx(after.offered_tok_per_s, rel=1e-6)


# --- plans ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plan(trace: Path) -> Result:
    return optimizer.solve(scenario_of(trace), "exact", time_limit_s=30)


def test_exact_needs_no_more_gpus_than_the_greedy_and_the_twin_accepts_both(
    plan: Result, trace: Path
) -> None:
    greedy = optimizer.solve(scenario_of(trace), "greedy-fill")
    check_plan(plan)
    check_plan(greedy)
    assert plan.gpus is not None
    assert plan.bound is not None
    assert plan.bound <= plan.gpus <= (greedy.gpus or 0)


@pytest.mark.parametrize(
    "method", ["greedy-fill", "bfd", "cpsat", "milp", "patterns", "maxbackbone", "dlora"]
)
def test_every_method_serves_the_base_model(method: str, trace: Path) -> None:
    gpus = 4 if method == "dlora" else None
    result = optimizer.solve(scenario_of(trace), method, gpus=gpus, time_limit_s=10)
    assert result.placement is not None, result.message
    assert sum(shares(result).values()) == pytest.approx(1.0)
    for gpu in result.placement.gpus:
        assert gpu.max_loras <= max(1, len(set(gpu.adapters) - {"base"}))


def test_traffic_of_several_gpus_is_split_where_it_fits(trace: Path) -> None:
    result = optimizer.solve(scenario_of(trace, base=60.0), "exact", time_limit_s=30)
    check_plan(result)
    assert len(shares(result)) >= 2
    text = result.summary()
    assert "21 adapters and the base model" in " ".join(text.split())
    assert "+ base" in text or " base " in text


def test_least_replicas_of_the_base_model_are_on_gpus_of_their_own(trace: Path) -> None:
    result = optimizer.solve(scenario_of(trace, base=3.0, entry={"min_replicas": 2}), "bfd")
    check_plan(result)
    assert len(shares(result)) >= 2
    assert max(shares(result).values()) <= 0.5 + 1e-9


def test_the_base_model_stays_whole_where_nothing_may_be_split(trace: Path) -> None:
    whole = optimizer.solve(scenario_of(trace, base=3.0, allow_replicas=False), "bfd")
    check_plan(whole)
    assert len(shares(whole)) == 1
    refused = optimizer.solve(scenario_of(trace, base=60.0, allow_replicas=False), "bfd")
    assert refused.status == "infeasible"
    assert 'the base model "base" alone needs' in refused.message


def test_the_base_model_alone_is_served_by_engines_with_one_slot(trace: Path) -> None:
    alone = from_mapping(
        scenario_of(trace).model_dump(mode="json")
        | {"adapters": [{"name": "base", "rate": 40.0}], "engine": {"slots": [8]}}
    )
    result = optimizer.solve(alone, "exact", time_limit_s=20)
    check_plan(result)
    assert result.placement is not None
    assert {gpu.max_loras for gpu in result.placement.gpus} == {1}
    assert f"{result.gpus} GPUs for the base model" in " ".join(result.summary().split())


def test_a_plan_is_explained(plan: Result) -> None:
    text = str(plan.explain())
    assert "the base model at" in text
    assert "rank 0" not in text


def test_a_change_moves_no_share_of_the_base_model(plan: Result, trace: Path) -> None:
    assert plan.placement is not None
    change = optimizer.replan(scenario_of(trace, base=30.0), plan.placement, time_limit_s=20)
    check_plan(change.result)
    assert all(move.adapter != "base" for move in change.moves)


def test_a_plan_holds_when_a_gpu_is_lost(trace: Path) -> None:
    result = optimizer.solve(scenario_of(trace), "bfd", spare=1, time_limit_s=60)
    assert result.accepted, result.message
    assert sum(shares(result).values()) == pytest.approx(1.0)
    assert result.survival is not None
    assert result.survival.holds
    for case in result.survival.losses:
        assert case.placement is not None
        kept = Counter[str]()
        for gpu in case.placement.gpus:
            kept["base"] += gpu.share("base") if "base" in gpu.adapters else 0.0  # type: ignore[assignment]
        assert kept["base"] == pytest.approx(1.0)


# --- the problems --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def instance(trace: Path) -> Instance:
    scenario = scenario_of(trace, base=30.0)
    judge = TwinJudge(scenario, twin.profiles_of(scenario))
    return prepare(judge, learned_regions(judge))


def test_the_base_model_comes_in_parts_of_a_tenth_of_a_gpu(instance: Instance) -> None:
    (base,) = (c for c, one in enumerate(instance.classes) if one.rank == 0)
    assert instance.merged == {base}
    assert instance.inner.slotless is not None
    assert instance.inner.slotless.tolist() == [c == base for c in range(len(instance.classes))]
    fill = min(
        float((o.usage[:, base] / o.capacity).max()) for o in instance.inner.options if o.fits_class[base]
    )
    assert fill <= DEFAULTS.splitting.base_part
    assert instance.inner.counts[base] * fill > 0.3
    assert instance.divisible is not None  # so that the bound is of any shares


def test_entries_of_the_base_model_that_are_split_are_classes_of_their_own(trace: Path) -> None:
    scenario = scenario_of(trace, base=20.0, entry={"count": 2})
    judge = TwinJudge(scenario, twin.profiles_of(scenario))
    split = prepare(judge, learned_regions(judge))
    base = [one for one in split.classes if one.rank == 0]
    assert [set(one.names) for one in base] == [{"base-1"}, {"base-2"}]
    assert len(split.merged) == 2


def test_rows_of_own_patience_are_those_of_the_mixes(instance: Instance) -> None:
    assert len(instance.variants) == 1


def problem() -> PackingProblem:
    """Two adapters, and four parts of the base model, on engines with two slots."""
    option = PackingOption(
        "gpu",
        usage=np.array([[1.0, 0.0], [0.2, 0.2]]),
        capacity=np.array([2.0, 1.0]),
        option=EngineOption("gpu", 2, 8),
    )
    return PackingProblem(np.array([2, 4]), (option,), slotless=np.array([False, True]))


@pytest.mark.parametrize(("counts", "slots", "adapters"), [((2, 3), 2, 2), ((1, 4), 1, 1), ((0, 4), 1, 0)])
def test_slots_are_those_of_the_adapters(counts: tuple[int, int], slots: int, adapters: int) -> None:
    pattern = pattern_of(problem(), Bin(0, np.array(counts)))
    assert (pattern.option.max_loras, pattern.adapters, pattern.regime) == (slots, adapters, "resident")
    assert pattern.run_as(EngineOption("gpu", 2, 8))


def test_stated_slots_are_not_given_back() -> None:
    pattern = pattern_of(replace(problem(), fewest_slots=2), Bin(0, np.array([1, 4])))
    assert (pattern.option.max_loras, pattern.adapters, pattern.regime) == (2, 1, "resident")
    assert pattern.run_as(EngineOption("gpu", 2, 8))
    assert not pattern.run_as(EngineOption("gpu", 1, 8))
    assert placed_gpu(0, pattern, {"a": 1.0}).max_loras == 2


def test_what_is_rejected_is_cut_off_whatever_the_slots_that_are_given_back() -> None:
    loop = CutLoop(judge=None)  # type: ignore[arg-type]  # of cuts that are there already
    rejected = pattern_of(problem(), Bin(0, np.array([0, 4])))
    loop.rejected[rejected] = None  # type: ignore[assignment]
    (cut,) = loop.cuts(problem())
    assert (cut.options, cut.counts.tolist()) == ((0,), [0, 4])


def test_a_gpu_has_a_slot_for_every_adapter_and_one_at_least() -> None:
    pattern = Pattern(EngineOption("gpu", 3, 8), (2, 1), slotless=1)
    gpu = placed_gpu(0, pattern, {"a": 1.0, "b": 1.0, "base": 0.25}, {"base"})
    assert (gpu.max_loras, gpu.shares) == (2, {"base": 0.25})
    alone = placed_gpu(0, replace(pattern, option=EngineOption("gpu", 1, 8)), {"base": 1.0}, {"base"})
    assert alone.max_loras == 1


def test_an_adapter_that_fits_no_engine_is_not_called_the_base_model(trace: Path) -> None:
    scenario = scenario_of(trace, base=2.0, entry={"service_levels": {"ttft_ms": {"p99": 0.01}}})
    judge = TwinJudge(scenario, twin.profiles_of(scenario))
    with pytest.raises(InfeasibleError, match='the twin rejects the base model "base" alone'):
        prepare(judge, learned_regions(judge))


def test_lost_traffic_of_the_base_model_is_dealt_in_parts() -> None:
    lengths = FixedLengths(tokens=100)
    base = Piece("base", 0.5, AdapterKind(0, 8.0, lengths, lengths))
    adapter = Piece("a", 1.0, AdapterKind(8, 1.0, lengths, lengths))
    parts = list(cut_up([adapter, base], 4))
    assert [piece.name for piece in parts] == ["a"] + ["base"] * 4
    assert sum(piece.share for piece in parts) == pytest.approx(1.5)
    assert parts[1].kind.rate == 2.0
    assert number_with_slot(parts) == 1
