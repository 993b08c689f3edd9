"""Pictures of comparisons and plans: what is in their axes, and what is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import optimizer
import scenarios
import twin
from scenarios.plots import PlotError
from scenarios.plots.figures import ACCEPTED, BEST, REJECTED

Spec = tuple[str, int | None, bool, float | None]
"""Method, GPUs, whether the twin accepts, mean TTFT in ms."""

SPECS: dict[str, list[Spec]] = {
    "small": [("greedy", 4, True, 120.0), ("exact", 3, True, 20_500.0), ("random", 90, False, 5.0)],
    "large": [("greedy", 8, True, 800.0), ("exact", 6, True, 110_000.0), ("bfd", None, False, None)],
}


@pytest.fixture(scope="module")
def plan() -> optimizer.Result:
    """A plan of three GPUs, the twin's verdict on it, and no search."""
    scenario = scenarios.read(
        "paper_high_32", overrides=["acceptance=paper", "replications=1", "workload.duration_s=60"]
    )
    return optimizer.solve(scenario, method="aibrix-least-adapters", gpus=3)


def result_of(plan: optimizer.Result, scenario: str, spec: Spec, **changes: object) -> Any:
    """A result with the figures that a picture shows."""
    method, gpus, accepted, ttft = spec
    assert plan.validation is not None
    verdict = plan.validation.gpus[0].model_copy(update={"accepted": accepted, "ttft_ms": ttft})
    return plan.model_copy(
        update={
            "scenario": plan.scenario.model_copy(update={"name": scenario}),
            "method": method,
            "gpus": gpus,
            "bound": 3.0 if (scenario, method) == ("small", "exact") else None,
            "status": "no_plan" if gpus is None else "feasible",
            "validation": None if gpus is None else plan.validation.model_copy(update={"gpus": (verdict,)}),
            **changes,
        }
    )


@pytest.fixture
def comparison(plan: optimizer.Result) -> optimizer.Comparison:
    return optimizer.Comparison(
        tuple(result_of(plan, name, spec) for name, specs in SPECS.items() for spec in specs)
    )


def bars(axes: Axes) -> list[tuple[float, str]]:
    """Length and colour of each bar."""
    found = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    return [(bar.get_width(), to_hex(bar)) for bar in found]


def to_hex(bar: Rectangle) -> str:
    from matplotlib.colors import to_hex as named

    return named(bar.get_facecolor())


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for one in figure.legends for text in one.get_texts()]


def names(axes: Axes) -> list[str]:
    return [label.get_text() for label in axes.get_yticklabels()]


def test_bars_of_all_scenarios_have_one_scale(comparison: optimizer.Comparison) -> None:
    small, _, large, _ = comparison.plot().axes
    assert small.get_xlim() == large.get_xlim()
    assert bars(small) == [(4, ACCEPTED), (3, BEST), (15, REJECTED)]  # cut off at 2.5 times the fewest, 6
    assert bars(large) == [(8, ACCEPTED), (6, BEST)]
    assert (names(small), names(large)) == (["greedy", "exact", "random"], ["greedy", "exact", "bfd"])
    assert (small.get_title(loc="left"), large.get_title(loc="left")) == ("small", "large")


def test_numbers_are_those_of_the_plans_and_the_fewest_are_bold(comparison: optimizer.Comparison) -> None:
    small, _, large, _ = comparison.plot().axes
    assert texts(small) == ["4", "3", "90"]
    assert texts(large) == ["8", "6", "no plan"]
    assert [text.get_fontweight() for text in small.texts] == ["normal", "bold", "normal"]
    assert [label.get_fontweight() for label in small.get_yticklabels()] == ["normal", "bold", "normal"]


def test_ticks_are_whole_gpus_within_the_bars(comparison: optimizer.Comparison) -> None:
    figure = comparison.plot()
    ticks = figure.axes[0].get_xticks()
    assert list(ticks) == [0, 5, 10, 15]
    one = optimizer.Comparison(comparison.results[1:2]).plot().axes[0]
    assert list(one.get_xticks()) == [0, 1, 2, 3]


def test_latency_stands_beside_the_bars(comparison: optimizer.Comparison) -> None:
    _, small, _, large = comparison.plot().axes
    assert texts(small) == ["120 ms", "20.5 s", "5 ms"]
    assert texts(large) == ["800 ms", "110 s"]
    assert (small.get_xscale(), small.get_xlim()) == ("log", large.get_xlim())
    low, high = small.get_xlim()
    assert low < 5
    assert high > 110_000
    assert [label.get_text() for label in large.get_xticklabels()] == [
        "10 ms",
        "100 ms",
        "1 s",
        "10 s",
        "100 s",
    ]


def test_the_legend_has_what_is_drawn_only(comparison: optimizer.Comparison) -> None:
    assert legend(comparison.plot()) == [
        "fewest GPUs, accepted by the twin", "accepted by the twin", "not accepted", "proven bound",
        "// bar cut off at 15 GPUs",
    ]  # fmt: skip
    assert legend(optimizer.Comparison(comparison.results[4:]).plot()) == [
        "fewest GPUs, accepted by the twin"
    ]
    assert legend(optimizer.Comparison(comparison.results[5:]).plot()) == []


def test_a_bound_of_another_objective_is_no_number_of_gpus(plan: optimizer.Result) -> None:
    latency = result_of(plan, "small", SPECS["small"][1], objectives=("latency",), bound=2.0)
    assert legend(optimizer.Comparison((latency,)).plot()) == ["fewest GPUs, accepted by the twin"]


def test_title_and_origin_are_told(comparison: optimizer.Comparison, plan: optimizer.Result) -> None:
    figure = comparison.plot()
    assert figure.get_suptitle() == "GPUs and latency by method"
    assert figure.get_supxlabel() == f"lorapack {plan.version}, seed {plan.seed}"
    other = comparison.results[0].model_copy(update={"seed": 7})
    both = optimizer.Comparison((other, *comparison.results[1:]))
    assert both.plot().get_supxlabel().endswith(f"seeds 7, {plan.seed}")
    assert optimizer.Comparison(comparison.results[5:]).plot().get_suptitle() == "GPUs by method"


def test_nothing_leaves_the_picture(comparison: optimizer.Comparison) -> None:
    longest = max(optimizer.BASELINES, key=len)
    results = [result.model_copy(update={"method": longest}) for result in comparison.results]
    figure = optimizer.Comparison(tuple(results)).plot()
    figure.draw_without_rendering()
    whole = figure.bbox
    for axes in figure.axes:
        for text in (*axes.texts, *axes.get_yticklabels(), *axes.get_xticklabels(), axes.title):
            box = text.get_window_extent()
            assert box.x0 >= whole.x0 - 1
            assert box.x1 <= whole.x1 + 1
    left, right, *_ = figure.axes
    edge = max(text.get_window_extent().x1 for text in left.texts)
    assert edge <= right.get_window_extent().x0


def test_axes_of_the_caller_are_drawn_in(comparison: optimizer.Comparison) -> None:
    figure = Figure()
    given = figure.subplots(2, 1)
    assert comparison.plot(ax=given) is figure
    assert bars(given[0])[1] == (3, BEST)
    assert texts(given[0])[1] == "3   TTFT 20.5 s"
    assert len(figure.axes) == 2
    assert figure.legends == []
    assert given[0].get_legend_handles_labels()[1].count("proven bound") == 1
    single = Figure().subplots()
    assert optimizer.Comparison(comparison.results[:3]).plot(ax=single) is single.figure


def test_axes_must_be_as_many_as_scenarios(comparison: optimizer.Comparison) -> None:
    with pytest.raises(PlotError, match="1 axes were given for 2 scenarios; give one for each"):
        comparison.plot(ax=Figure().subplots())


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_pictures_are_written(
    comparison: optimizer.Comparison, plan: optimizer.Result, tmp_path: Path, ending: str
) -> None:
    for name, drawn in (("comparison", comparison), ("plan", plan)):
        path = tmp_path / f"{name}.{ending}"
        assert isinstance(drawn.plot(path), Figure)
        assert path.stat().st_size > 2000


def test_bad_paths_are_named_and_nothing_is_left(
    comparison: optimizer.Comparison, plan: optimizer.Result, tmp_path: Path
) -> None:
    for drawn in (comparison, plan):
        with pytest.raises(PlotError, match=r"picture.doc cannot be drawn.*use a .png"):
            drawn.plot(tmp_path / "picture.doc")
        with pytest.raises(scenarios.OutputFileError, match="nowhere"):
            drawn.plot(tmp_path / "nowhere" / "picture.png")
    assert list(tmp_path.iterdir()) == []


def test_a_plan_shows_load_adapters_and_latency_of_every_gpu(plan: optimizer.Result) -> None:
    frame, figure = plan.to_frame(), plan.plot()
    load, adapters, latency = figure.axes
    assert names(load) == ["GPU 0", "GPU 1", "GPU 2"]
    lengths = [length for length, _ in bars(load)]
    assert lengths[::2] == pytest.approx(list(frame["served_tok_per_s"]))
    assert lengths[1::2] == pytest.approx(list(frame["offered_tok_per_s"]))
    assert [length for length, _ in bars(adapters)] == list(frame["adapters"])
    assert texts(adapters)[0] == f"{frame['adapters'][0]}, rank {frame['max_lora_rank'][0]}"
    assert len(texts(latency)) == 3
    share = frame["served_tok_per_s"][0] / frame["offered_tok_per_s"][0]
    assert texts(load)[0] == f"{share:.1%}"


def with_verdicts(plan: optimizer.Result, *verdicts: dict[str, object]) -> optimizer.Result:
    """The plan, with some changes of the first GPUs' verdicts."""
    assert plan.validation is not None
    gpus = list(plan.validation.gpus)
    gpus = [gpu.model_copy(update={"accepted": True}) for gpu in gpus]
    for k, changes in enumerate(verdicts):
        gpus[k] = gpus[k].model_copy(update=changes)
    validation = plan.validation.model_copy(update={"gpus": tuple(gpus)})
    return plan_of(plan, validation=validation)


def plan_of(plan: optimizer.Result, **changes: object) -> optimizer.Result:
    """The result with some values changed, and with no frame kept from before."""
    return optimizer.Result.model_construct(**{**dict(plan), **changes})


def test_the_verdict_is_in_title_colour_and_legend(plan: optimizer.Result) -> None:
    good = with_verdicts(plan).plot()
    assert (
        good.get_suptitle().replace("\n", " ")
        == "paper_high_32, aibrix-least-adapters: 3 GPUs, accepted by the twin (paper)"
    )
    assert legend(good) == ["served, accepted by the twin", "offered"]
    bad = with_verdicts(plan, {"accepted": False}).plot()
    assert (
        bad.get_suptitle().replace("\n", " ")
        == "paper_high_32, aibrix-least-adapters: 3 GPUs, 1 REJECTED by the twin (paper)"
    )
    assert legend(bad) == ["served, accepted by the twin", "served, rejected by the twin", "offered"]
    assert [color for _, color in bars(bad.axes[1])] == [REJECTED, BEST, BEST]


def test_a_gpu_that_does_not_start_is_drawn_too(plan: optimizer.Result) -> None:
    assert plan.placement is not None
    larger = {"max_loras": 384, "max_cpu_loras": 384, "max_lora_rank": 256}
    slots = [gpu.model_copy(update=larger) for gpu in plan.placement.gpus[:1]]
    placement = plan.placement.model_copy(update={"gpus": (*slots, *plan.placement.gpus[1:])})
    failing = twin.validate(plan.scenario, placement)
    figure = plan_of(plan, placement=placement, validation=failing).plot()
    load, _, latency = figure.axes
    assert texts(load)[0] == "does not start"
    assert len(texts(latency)) == 2
    assert bars(load)[0] == (0, REJECTED)


def test_a_plan_without_verdict_and_a_result_without_plan_are_drawn(plan: optimizer.Result) -> None:
    unjudged = plan_of(plan, validation=None).plot()
    assert unjudged.get_suptitle().endswith("3 GPUs, not judged by the twin")
    assert [axes.get_xlabel() for axes in unjudged.axes] == ["adapters"]
    without = plan_of(plan, validation=None, placement=None, status="no_plan")
    assert without.plot().get_suptitle() == "paper_high_32, aibrix-least-adapters: no plan"


def test_a_plan_is_drawn_in_axes_of_the_caller(plan: optimizer.Result) -> None:
    axes = Figure().subplots()
    assert plan.plot(ax=axes) is axes.figure
    assert axes.get_xlabel() == "tokens per second"
    assert names(axes) == ["GPU 0", "GPU 1", "GPU 2"]
