"""What solve, compare, replan and explain print, by width; as a script it rewrites the golden files."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from typer.testing import CliRunner

import optimizer
import scenarios
from optimizer.cli.commands import app
from optimizer.cli.streams import show
from optimizer.comparison import Comparison
from optimizer.explanation.explain import Explanation, TightRow
from optimizer.explanation.sensitivity import WhatIf
from optimizer.growth import GrowthReport
from optimizer.replanning.changes import Change, Move
from optimizer.result_text import objective_text
from optimizer.search.why_no_plan import first_test
from scenarios import PlacedGPU, Placement
from scenarios.text.tables import marked, render
from twin import AdapterLatency, Corner, Criterion, GPUVerdict, SustainedFigures, ValidationReport, Violation
from twin.gpu_table import headroom

GOLDEN = Path(__file__).parents[1] / "golden" / "tables"
WIDTHS = (60, 80, 100)
OPTIMAL = "optimal: no plan of the optimistic (outer) region needs fewer GPUs, and the twin accepts it"
LIMITED = ("service_levels.ttft_ms.p99=2000", "service_levels.itl_ms.mean=110")
PAPER = "acceptance=paper"


def verdict(gpu: int, *, late_share: float = 0.0004, **changes: Any) -> GPUVerdict:
    """A verdict of the criterion *sustained* with made-up figures."""
    fields: dict[str, Any] = {
        "gpu": gpu, "accepted": True, "offered_tok_per_s": 14_764.25, "served_tok_per_s": 14_762.5,
        "served_share": 0.9998, "worst_adapter": "hot-01", "worst_served_share": 0.997, "itl_ms": 56.3,
        "ttft_ms": 133.2, "itl_p99_ms": 130.0, "ttft_p50_ms": 102.1, "ttft_p99_ms": 304.3,
        "kv_cache_tokens": 250_000, "replications": 3,
        "first_to_suffer": "hot-01",
        "margins": {Criterion.LATE_SHARE: 1 - late_share / 0.01, Criterion.GROWTH: 0.9},
        "sustained": SustainedFigures(headroom=0.05, due=60_000, late_share=late_share),
    }  # fmt: skip
    return GPUVerdict(**(fields | changes))


def close(gpu: int) -> GPUVerdict:
    """Accepted, but other seeds might decide otherwise."""
    figures = SustainedFigures(
        headroom=0.05, due=60_000, late_share=0.0096, late_share_low=0.007, late_share_high=0.0122, close=True
    )
    return verdict(gpu, sustained=figures, itl_ms=99.4, ttft_ms=812.5, ttft_p50_ms=170.0, ttft_p99_ms=9_640.0)


def falling_behind(gpu: int) -> GPUVerdict:
    """A GPU with more load than it can do."""
    late = Violation(code=Criterion.LATE_SHARE, value=0.9231, limit=0.01, patience_s=10.0)
    growth = Violation(code=Criterion.GROWTH, value=4_812.0, limit=826.2)
    return verdict(
        gpu, late_share=0.9231, accepted=False, violations=(late, growth), served_tok_per_s=11_050.75,
        itl_ms=124.5, ttft_ms=875_020.0, ttft_p50_ms=864_000.0, ttft_p99_ms=1_790_000.0,
    )  # fmt: skip


def verdict_by_paper(
    gpu: int, *, itl_ms: float, ttft_ms: float, margins: dict[Criterion, float] | None = None
) -> GPUVerdict:
    """A verdict of the criterion *paper* with made-up figures."""
    return GPUVerdict(
        gpu=gpu, accepted=True, offered_tok_per_s=14_764.25, served_tok_per_s=14_236.5, served_share=0.964,
        worst_adapter="hot-01", worst_served_share=0.977, itl_ms=itl_ms, ttft_ms=ttft_ms, itl_p99_ms=130.0,
        ttft_p50_ms=ttft_ms / 2, ttft_p99_ms=90_000.0, kv_cache_tokens=250_000, replications=3,
        margins={Criterion.SERVED_SHARE: 0.071, Criterion.ADAPTER_SERVED_SHARE: 0.085, **(margins or {})},
    )  # fmt: skip


def starving(gpu: int) -> GPUVerdict:
    """A rejection by *paper* with made-up figures."""
    missed = Violation(code=Criterion.SERVED_SHARE, value=0.627, limit=0.9)
    return verdict_by_paper(gpu, itl_ms=21.5, ttft_ms=75_020.0).model_copy(
        update={
            "accepted": False,
            "violations": (missed,),
            "worst_served_share": 0.001,
            "margins": {Criterion.SERVED_SHARE: -0.303, Criterion.ADAPTER_SERVED_SHARE: -0.999},
        }
    )


def placement(*parts: int) -> Placement:
    """The adapters of mixed_ranks in their order, so many on each GPU."""
    names = [name for entry in scenario().adapters for name in entry.names()]
    gpus, taken = [], 0
    for number, size in enumerate(parts):
        gpus.append(
            PlacedGPU(
                gpu=number, device="H100-64GB", max_loras=size, max_lora_rank=32,
                adapters=tuple(names[taken : taken + size]),
            )
        )  # fmt: skip
        taken += size
    return Placement(gpus=tuple(gpus))


@cache
def scenario(*overrides: str) -> scenarios.Scenario:
    return scenarios.read("mixed_ranks", overrides=overrides)


def made(**changes: Any) -> optimizer.Result:
    """A result as an exact search gives it, with made-up figures."""
    verdicts = (verdict(0), close(1))
    fields: dict[str, Any] = {
        "status": "optimal", "stop_reason": "proven", "method": "exact", "objectives": ("gpus",),
        "message": OPTIMAL,
        "objective": 2.0, "objective_values": (2.0,), "bound": 2.0, "gap": 0.0,
        "gpus": 2,
        "placement": placement(38, 58), "validation": ValidationReport(gpus=verdicts, distinct=2),
        "iterations": 1, "cuts": 0, "seconds": 137.25, "preparation_seconds": 136.0, "seed": 0,
        "version": "1", "scenario": scenario(),
    }  # fmt: skip
    return optimizer.Result(**(fields | changes))


def made_by_paper(**changes: Any) -> optimizer.Result:
    """The same under the criterion *paper*, with a GPU on which requests queue."""
    verdicts = (
        verdict_by_paper(0, itl_ms=106.3, ttft_ms=47_305.0),
        verdict_by_paper(1, itl_ms=99.4, ttft_ms=774.1),
    )
    fields = {"validation": ValidationReport(gpus=verdicts, distinct=2), "scenario": scenario(PAPER)}
    return made(**(fields | changes))


def limited() -> optimizer.Result:
    """A result under service levels, one of them met by a hair."""
    itl, ttft = Criterion.ITL_MEAN, Criterion.TTFT_P99
    verdicts = (
        verdict(0, itl_ms=106.7, ttft_p99_ms=1_000.0, margins={itl: 0.03, ttft: 0.5}),
        verdict(1, itl_ms=55.0, ttft_p99_ms=1_500.0, margins={itl: 0.5, ttft: 0.25}),
    )
    return made(validation=ValidationReport(gpus=verdicts, distinct=2), scenario=scenario(*LIMITED))


def rejected() -> optimizer.Result:
    """A baseline's plan that the twin rejects."""
    return made(**_REJECTED, validation=ValidationReport(gpus=(verdict(0), falling_behind(1)), distinct=2))


def rejected_by_paper() -> optimizer.Result:
    """The same under the criterion *paper*."""
    verdicts = (verdict_by_paper(0, itl_ms=20.0, ttft_ms=30.0), starving(1))
    message = "the twin rejects 1 of 2 GPUs: 1 adapter starves"
    return made_by_paper(
        **(_REJECTED | {"message": message}), validation=ValidationReport(gpus=verdicts, distinct=2)
    )


_REJECTED: dict[str, Any] = {
    "status": "feasible", "stop_reason": "finished", "method": "random", "bound": None, "gap": None,
    "message": "the twin rejects 1 of 2 GPUs: 1 GPU falls behind", "preparation_seconds": 0.0, "seconds": 2.5,
}  # fmt: skip


def planless() -> optimizer.Result:
    """A search without a plan."""
    return made(
        status="no_plan", stop_reason="finished", method="greedy", bound=None, gap=None,
        message=STUCK.sentence, no_plan=STUCK, objective=None, objective_values=(None,),
        gpus=None, placement=None, validation=None, seconds=0.25, preparation_seconds=0.0,
    )  # fmt: skip


STUCK = first_test(8, ("hot-01", "hot-03"), 2)
"""Why the published greedy may have no plan."""


def change() -> Change:
    moves = [Move(adapter=f"hot-{k:02d}", source=0, target=1) for k in (1, 2, 3, 7)]
    moves.append(Move(adapter="warm-01", source=1, target=0))
    return Change(
        result=made(method="replan"), moves=tuple(moves), moves_bound=4, added=("new-1",),
        retired=("old-1", "old-2", "old-3"), opened=(1,), closed=(2, 3), restarted=(0,),
    )  # fmt: skip


def explanation_by_paper() -> Explanation:
    """The same of a plan that the criterion *paper* judged."""
    rows = tuple(row.model_copy(update={"late_share": None}) for row in explanation().gpus)
    return explanation().model_copy(update={"gpus": rows, "headline": made_by_paper().headline})


def explanation() -> Explanation:
    rows = (
        TightRow(
            gpu=0, row="a slot for every adapter", fill=1.02, parts={"count": 1.0}, second_row="work",
            second_fill=0.97, worst_served_share=0.977, late_share=0.0004, margin=3.217,
            first_to_suffer="hot-01",
        ),
        TightRow(
            gpu=1, row="work and slots in use", fill=0.96,
            parts={"rate": 0.77, "count": 0.06, "active_256s": 0.04}, second_row="work", second_fill=0.91,
            worst_served_share=1.0, late_share=0.0096, margin=0.004,
        ),
    )  # fmt: skip
    why = "inside the conservative region no GPU holds adapters of more weight than 1, and all weigh 1.74"
    saves = WhatIf(
        name="one more slot", saves=0.01, text="one more slot on every GPU saves at most 0.01 of 1.74"
    )
    return Explanation(headline=made().headline, gpus=rows, arguments=(), why=(why,), what_ifs=(saves,))


def cornered() -> optimizer.Result:
    """A plan for uncertain rates, and the corners at which its GPUs fare worst."""
    drawn = Corner(kind="drawn", number=7, high=("hot-01", "hot-03"))
    late = Violation(code=Criterion.LATE_SHARE, value=0.0131, limit=0.01, patience_s=10.0)
    missed = {"corner": drawn, "accepted": False, "violations": (late,), "late_share": 0.0131}
    verdicts = (verdict(0, corner=Corner(kind="high")), verdict(1, **missed))
    uncertain = scenario("adapters[0].rate={low: 0.5, high: 2}")
    return made(**_REJECTED, validation=ValidationReport(gpus=verdicts, distinct=2), scenario=uncertain)


def growth() -> GrowthReport:
    """How much load a plan could have, one of whose GPUs is rejected and one starts no engine."""
    known = grown().gpus
    factors = (known[0], known[1].model_copy(update={"accepted": False, "growth_factor": 0.84}), known[2])
    return GrowthReport(acceptance="sustained", gpus=factors)


PRINTED: dict[str, Callable[[], str]] = {
    "solve": lambda: made().summary(),
    "solve_paper": lambda: made_by_paper().summary(),
    "solve_rejected": lambda: rejected().summary(),
    "solve_service_levels": lambda: limited().summary(),
    "solve_uncertain": lambda: cornered().summary(),
    "growth": lambda: growth().summary(),
    "compare": lambda: Comparison((made(), rejected(), planless(), limited())).summary(),
    "compare_paper": lambda: Comparison((made_by_paper(), rejected_by_paper())).summary(),
    "compare_plans": lambda: Comparison((made(), rejected(), planless(), limited())).summary(plans=True),
    "replan": lambda: change().summary(),
    "explain": lambda: explanation().summary(),
    "explain_paper": lambda: explanation_by_paper().summary(),
    "validate_growth": lambda: grown().summary(placement(38, 57, 1), scenario()),
    "devices": lambda: CliRunner().invoke(app, ["devices"]).stdout.removesuffix("\n"),
    "device": lambda: CliRunner().invoke(app, ["devices", "h100 nvl"]).stdout.removesuffix("\n"),
    "scenarios_list": lambda: CliRunner().invoke(app, ["scenarios", "list"]).stdout.removesuffix("\n"),
}


def grown() -> ValidationReport:
    """Verdicts with how many times their load the GPUs could have; one engine does not start."""
    missing = Violation(code=Criterion.OOM_CUDA, remedy="fewer slots")
    unstarted = verdict(
        2, accepted=False, violations=(missing,), served_tok_per_s=0.0, itl_ms=None, ttft_ms=None,
        ttft_p99_ms=None, margins={}, sustained=SustainedFigures(headroom=0.05, due=0, not_judged=3),
    )  # fmt: skip
    factors = zip((verdict(0), close(1), unstarted), (1.31, 1.004, None), strict=True)
    grown = tuple(one.model_copy(update={"growth_factor": factor}) for one, factor in factors)
    return ValidationReport(gpus=grown, distinct=3)


def golden_files() -> dict[str, tuple[str, int]]:
    """Names of the golden files, with what is printed and in how many columns."""
    return {f"{name}_{width}.txt": (name, width) for name in PRINTED for width in WIDTHS}


@pytest.mark.parametrize("file", sorted(golden_files()))
def test_what_is_printed_is_golden(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, width = golden_files()[file]
    monkeypatch.setenv("COLUMNS", str(width))
    text = PRINTED[name]()
    assert max(map(len, text.splitlines())) <= width
    assert text + "\n" == (GOLDEN / file).read_text(encoding="utf-8")


def test_colours_change_no_word() -> None:
    for result in (made(), made_by_paper(), limited(), rejected(), rejected_by_paper()):
        coloured = render(*result.parts(), colour=True)
        assert strip(coloured) == result.summary()
        assert "\x1b" not in result.summary()
    assert "\x1b[31mREJECTED" in render(*rejected().parts(), colour=True)
    assert "\x1b[32maccepted" in render(*limited().parts(), colour=True)
    assert "\x1b[33m3%" in render(*limited().parts(), colour=True)  # close to its limit
    assert "\x1b[33m0.96%" in render(*made().parts(), colour=True)  # other seeds might decide otherwise
    assert "\x1b[31m92.31%" in render(*rejected().parts(), colour=True)


def strip(text: str) -> str:
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    return "\n".join(line.rstrip() for line in plain.split("\n"))


@pytest.mark.parametrize(
    ("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_only_a_terminal_that_wants_it_gets_colours(
    environment: dict[str, str],
    coloured: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pty = pytest.importorskip("pty")
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in {"TERM": "xterm", **environment}.items():
        monkeypatch.setenv(name, value)
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", terminal)
        show(marked("x", "bad"))
    assert (b"\x1b[31m" in os.read(ours, 1000)) == coloured
    os.close(ours)
    show(marked("x", "bad"))
    assert capsys.readouterr().out == "x\n"


def queueing(ttft_ms: float, **changes: Any) -> ValidationReport:
    return ValidationReport(gpus=(verdict(0, ttft_ms=ttft_ms, **changes),), distinct=1)


def test_who_queues_is_told_unless_a_service_level_limits_it() -> None:
    paper = made_by_paper().summary()
    assert "note: requests queue, as no service level limits that" in paper
    assert "47.3 s" in paper
    sustained = " ".join(made(validation=queueing(4_200.0)).summary().split())
    assert "note: requests queue: mean TTFT of a GPU is up to 4.2 s" in sustained
    assert "patience_s" in sustained
    slow = limited().model_copy(update={"validation": made_by_paper().validation})
    for result in (made(), made(validation=queueing(2_900.0)), slow, planless()):
        assert "requests queue" not in result.summary()


def test_a_rejected_gpu_says_why_and_not_that_requests_queue() -> None:
    assert "requests queue" not in rejected().summary()
    assert "GPU 1 rejected: 92.4 % of the requests wait" in rejected().summary()


def test_a_limited_latency_is_shown_with_its_value_and_headroom() -> None:
    text = limited().summary()
    for said in ("ITL mean ms", "TTFT p99 ms", "headroom", "106.7", "1,000", "3%", "TTFT p99 2,000 ms"):
        assert said in text
    assert "headroom" in Comparison((limited(),)).summary().split("exact:")[0]
    for result in (made(), made_by_paper()):
        assert "headroom" not in result.summary()


def test_a_latency_of_single_entries_is_shown_with_its_headroom() -> None:
    """Of the adapters that are nearest to their limit; a GPU without such adapters has no figure."""
    itl, e2e = Criterion.ITL_P90, Criterion.E2E_MEAN
    own = (
        AdapterLatency(code=itl, value=24.0, limit=25.0, adapter="a", size=2),
        AdapterLatency(code=itl, value=26.5, limit=50.0, adapter="b", size=1),
        AdapterLatency(code=e2e, value=6_300.0, limit=9_000.0, adapter="a", size=2),
    )
    verdicts = (verdict(0, adapter_latencies=own), verdict(1))
    result = made(validation=ValidationReport(gpus=verdicts, distinct=2))
    text = " ".join(result.summary().split())
    for said in ("entry ITL p90 ms", "entry E2E mean ms", "24", "6,300", "4%"):
        assert said in text
    assert "limits of single entries: ITL p90 25 or 50 ms and E2E mean 9,000 ms; headroom" in text
    assert "26.5" not in text
    assert "4%" in Comparison((result,)).summary().split("exact:")[0]
    unmeasured = own[0].model_copy(update={"value": None})
    assert headroom(verdict(0, adapter_latencies=(unmeasured,)), {}) is None
    assert headroom(verdict(0), {}) == math.inf


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("gpus", 1.0, "1 GPU"),
        ("cost", 12.4, "cost 12.4 per hour"),
        ("latency", 46.0386, "latency 46.04 ms"),
        ("worst_ttft", 1234.5, "worst_ttft 1,234 ms"),
        ("balance", 0.5941, "balance 59.4% of a GPU"),
    ],
)
def test_an_objective_is_named_with_its_unit(name: str, value: float, said: str) -> None:
    assert objective_text(name, value) == said


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"objectives": ("latency",), "objective": 46.04, "no_bound": "no floors were learned"},
            "latency 46.04 ms, no bound: no floors were learned",
        ),
        (
            {"objectives": ("balance",), "objective": 0.5, "no_bound": "it is a share"},
            "balance 50.0% of a GPU, no bound: it is a share",
        ),
        ({"objectives": ("latency",), "objective": 46.0, "method": "bfd"}, "no bound: bfd proves none"),
        (
            {"objectives": ("latency",), "objective": 40.0, "bound": 31.2345, "gap": 0.219},
            "latency 40 ms, bound 31.23 ms, gap 21.9%",
        ),
        (
            {
                "objectives": ("gpus", "latency"),
                "objective_values": (2.0, 46.04),
                "objective_bounds": (2.0, 39.1),
            },
            "; then latency 46.04 ms (bound 39.1 ms)",
        ),
        ({"objectives": ("latency",), "objective": 46.0}, "latency 46 ms, no bound: none was looked for"),
        ({"method": "bfd"}, "no bound: bfd proves none, exact does"),
        ({"method": "random"}, "no bound: random proves none, exact does"),
        ({"method": "replan"}, "no bound: the search ended before one was proven"),
        ({}, "no bound: the search ended before one was proven"),
        ({"objectives": ("gpus", "latency"), "objective_values": (2.0, 46.04)}, "; then latency 46.04 ms"),
        ({"stop_reason": "time_limit"}, "search 1.2 s, stopped by the time limit"),
        ({"stop_reason": "gap_limit"}, "stopped at the gap limit"),
        ({"stop_reason": "interrupted"}, "search 1.2 s, interrupted"),
        ({"iterations": 2, "cuts": 1}, "2 rounds, 1 cut,"),
        ({"preparation_seconds": 1.9}, "search 135.3 s"),
    ],
)
def test_the_outcome_is_told_in_words(changes: dict[str, Any], said: str) -> None:
    result = made(**({"bound": None, "gap": None} | changes))
    assert said in result.headline
    assert ("before the search" in result.summary()) == (result.preparation_seconds > 2)


def test_shares_and_devices_are_told() -> None:
    gpus = tuple(
        PlacedGPU(
            gpu=k, device=device, max_loras=1, max_lora_rank=8, adapters=("hot-01",), shares={"hot-01": share}
        )
        for k, (device, share) in enumerate((("H100-64GB", 0.25), ("L40S", 0.75)))
    )
    text = made(placement=Placement(gpus=gpus)).summary()
    assert "GPU 0  1 adapter: hot-01 (25%)" in text
    assert "device" in text
    assert "96 adapters on" not in text
    assert "96 adapters on H100-64GB" in made().summary()


def test_representations_fit_a_line() -> None:
    comparison = Comparison((made(), planless()))
    assert repr(made()) == "<Result: mixed_ranks, exact, optimal, 2 GPUs, accepted>"
    assert repr(planless()) == "<Result: mixed_ranks, greedy, no_plan>"
    assert repr(rejected()) == "<Result: mixed_ranks, random, feasible, 2 GPUs, rejected>"
    assert repr(comparison) == "<Comparison: 2 results of 2 methods on 1 scenario>"
    assert repr(change()) == "<Change: 5 moves; <Result: mixed_ranks, replan, optimal, 2 GPUs, accepted>>"
    assert repr(explanation()) == "<Explanation: 2 GPUs, 1 reason, 1 what-if>"
    assert repr(rejected().validation) == "<ValidationReport: REJECTED: 1 of 2 GPUs>"


@pytest.mark.parametrize("made_thing", [made, change, explanation, scenario, lambda: made().validation])
def test_completion_shows_no_name_of_pydantic(made_thing: Callable[[], object]) -> None:
    thing = made_thing()
    names = {name for name in dir(thing) if not name.startswith("__")}
    assert not names & set(dir(BaseModel))
    assert set(type(thing).model_fields) <= names  # type: ignore[attr-defined]
    for name in names:
        assert hasattr(thing, name)


def test_many_plans_are_shown_on_request_and_what_went_wrong_always() -> None:
    stopped = made(method="milp", stop_reason="time_limit")
    few = Comparison((made(), rejected()))
    well = made(validation=ValidationReport(gpus=(verdict(0), verdict(1)), distinct=2))
    many = Comparison((well, rejected(), planless(), stopped))
    assert few.summary() == few.summary(plans=True)
    assert "GPU 1 rejected" in few.summary()
    cut = verdict(0, cut_requests=5)
    noted = made(method="bfd", validation=ValidationReport(gpus=(cut,), distinct=1))
    many = Comparison((*many.results, noted))
    text = many.summary()
    assert "bfd: optimal" in text
    assert text.count("note: 5 simulated") == 1
    assert "GPU 1 rejected" in many.summary(plans=True)
    assert "GPU 1 rejected" not in text
    assert "exact: optimal" not in text
    for said in (
        "random: the twin rejects 1 of 2",
        "greedy: no plan: after 2 full GPUs",
        "milp: optimal",
        "--plans",
    ):
        assert said in text


def test_gpus_that_other_seeds_might_judge_otherwise_are_named() -> None:
    gpus = (verdict(0), *(close(k) for k in range(1, 6)))
    assert not ValidationReport(gpus=gpus[:1], distinct=1).notes
    for count, said in (
        (1, "GPU 1 is so close"),
        (2, "GPUs 1 and 2 are"),
        (5, "GPUs 1, 2, 3 and 2 more are"),
    ):
        (note,) = ValidationReport(gpus=gpus[: count + 1], distinct=2).notes
        assert note.startswith(said)


@pytest.mark.parametrize(
    ("one", "of", "said"),
    [
        (made, verdict, "late requests 0.04%"),
        (made_by_paper, verdict_by_paper, "worst adapter served 97.7%"),
    ],
)
def test_large_plans_are_compared_in_a_sentence(
    one: Callable[..., optimizer.Result], of: Callable[..., GPUVerdict], said: str
) -> None:
    many = placement(*[4] * 24)
    verdicts = tuple(of(k, itl_ms=20.0 + k, ttft_ms=30.0) for k in range(24))
    large = one(gpus=24, placement=many, validation=ValidationReport(gpus=verdicts, distinct=24))
    text = " ".join(Comparison((large,)).summary().split())
    assert f"its 24 GPUs: 4 adapters each, mean ITL 20 to 43 ms, mean TTFT 30 ms, {said}" in text
    assert "GPU 23" not in text
    assert "GPU 23" in large.summary()


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for written, (shown, columns) in golden_files().items():
        os.environ["COLUMNS"] = str(columns)
        (GOLDEN / written).write_text(PRINTED[shown]() + "\n", encoding="utf-8")
