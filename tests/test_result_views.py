"""Every result can be drawn, and is worth looking at in a notebook, whatever its names are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

import learn
import optimizer
import scenarios
import twin
from optimizer.replanning.changes import Move
from scenarios.plots import PlotError
from scenarios.result_view import ResultView

HOSTILE = "$\\frac$ <script>alert(1)</script>\x1b[31m\u202e & name " + "w" * 40
QUICK = ["acceptance=paper", "replications=1", "workload.duration_s=60"]


@pytest.fixture(scope="module")
def result() -> optimizer.Result:
    """A plan of several GPUs, some of which the twin rejects, under a hostile name."""
    scenario = scenarios.read("paper_high_32", overrides=QUICK)
    found = optimizer.solve(scenario, method="aibrix-least-adapters", gpus=3)
    return found.model_copy(update={"scenario": scenario.model_copy(update={"name": HOSTILE})})


def grown(result: optimizer.Result, gpus: int = 3) -> optimizer.GrowthReport:
    assert result.validation is not None
    verdicts = [result.validation.gpus[k % 3] for k in range(gpus)]
    factors = [None, 0.8, 1.4]
    return optimizer.GrowthReport(
        acceptance="paper",
        gpus=tuple(
            verdict.model_copy(update={"gpu": k, "growth_factor": factors[k % 3], "first_to_suffer": HOSTILE})
            for k, verdict in enumerate(verdicts)
        ),
    )


def survived(result: optimizer.Result) -> optimizer.Survival:
    cases = [
        optimizer.LossCase(
            lost=(0,), alike=((1,), (2,)), placement=result.placement, validation=result.validation
        ),
        optimizer.LossCase(lost=(3,), why_not=HOSTILE),
    ]
    return optimizer.Survival(spare="1", recovery="live", acceptance="paper", losses=tuple(cases))


def drifted() -> optimizer.DriftReport:
    rows = [
        optimizer.DriftRow.of(0, "requests/s", 2.0, 3.0, (1.5, 2.5), HOSTILE),
        optimizer.DriftRow.of(None, HOSTILE, 2.0, 0.01, (1.5, None), HOSTILE, HOSTILE),
        optimizer.DriftRow.of(2, "tokens", 2.0, 2.0, (None, 2.5), HOSTILE),
    ]
    return optimizer.DriftReport(rows=tuple(rows), seconds={0: 1.0}, criterion=HOSTILE, notes=(HOSTILE,))


def checked() -> optimizer.CheckReport:
    figures = [
        optimizer.CheckedFigure(name="ttft_mean_ms", foretold=100.0, low=80.0, high=120.0, measured=95.0),
        optimizer.CheckedFigure(
            name="itl_mean_ms", foretold=10.0, low=9.0, high=11.0, measured=1e4, differs="worse"
        ),
        optimizer.CheckedFigure(name="late_share", foretold=0.1, high=0.2, measured=None),
        optimizer.CheckedFigure(name="failed_share", foretold=0.0, measured=3.0),
    ]
    gpu = optimizer.CheckedGPU(
        gpu=0,
        url="http://127.0.0.1:1",
        server={},
        requests=9,
        completed=9,
        figures=tuple(figures),
        faults=(HOSTILE,),
    )
    return optimizer.CheckReport(
        scenario=HOSTILE, criterion=HOSTILE, gpus=(gpu,), planned_seconds=60.0, seed=0, prompt_seed=0
    )


def foretold() -> twin.FidelityReport:
    measured = pd.DataFrame(
        {"run_id": ["a", "b"], "model": [HOSTILE] * 2, "total_throughput": [10.0, 0.0],
         "itl_mean_ms": [9.0, 8.0], "ttft_mean_ms": [99.0, 98.0], "status": ["ok"] * 2,
         "starved": [True, False]}
    )  # fmt: skip
    predictions = pd.DataFrame(
        {"run_id": ["a", "b"], "predicted_total_throughput": [11.0, 9.0], "predicted_itl_ms": [9.0, 7.0],
         "predicted_tpot_ms": [9.0, 7.0], "predicted_ttft_ms": [90.0, 99.0],
         "predicted_starved": [True, True], "predicted_starts": [True, True], "wall_s": [0.1, 0.1]}
    )  # fmt: skip
    return twin.FidelityReport(measured, predictions)


def simulated(result: optimizer.Result) -> twin.SimulationResult:
    scenario = result.scenario
    device = scenario.devices[0]
    return twin.simulate(
        twin.GPULoad.from_classes(scenario.classes),
        scenario.workload,
        scenario.engine,
        twin.profiles_of(scenario)[device.name],
        gpu_memory_gib=device.memory_gib,
        seed=0,
    )


def regions_of(result: optimizer.Result) -> learn.Regions:
    """Those that are shipped: of runs of an hour."""
    whole = scenarios.read("paper_high_32").workload
    scenario = result.scenario.model_copy(update={"workload": whole})
    device = scenario.devices[0]
    return learn.regions_for(scenario, device, twin.profiles_of(scenario)[device.name])


@pytest.fixture(scope="module")
def views(result: optimizer.Result) -> dict[str, ResultView]:
    """One of each kind that needs no search of minutes."""
    assert result.validation is not None
    assert result.placement is not None
    names = result.placement.gpus[0].adapters
    moves = (Move(adapter=names[0], source=1, target=0), Move(adapter=HOSTILE, source=7, target=1))
    change = optimizer.Change(result=result, moves=moves, added=names[1:3], closed=(7,), restarted=(0,))
    found: list[ResultView] = [
        result,
        result.validation,
        result.validation.gpus[0],
        result.explain(),
        optimizer.Comparison((result, result)),
        grown(result),
        survived(result),
        change,
        optimizer.Rollout(peak_gpus=3, why_not=HOSTILE),
        drifted(),
        checked(),
        foretold(),
        simulated(result),
        regions_of(result),
        twin.ask_memory("llama-3.1-8b-instruct", device="L4", max_loras=300, max_lora_rank=64),
    ]
    return {type(one).__name__: one for one in found}


def public_views() -> Iterator[type]:
    for package in (scenarios, twin, learn, optimizer):
        for name in dir(package):
            value = getattr(package, name)
            if isinstance(value, type) and any(hasattr(value, verb) for verb in ("summary", "parts", "plot")):
                yield value


def test_every_public_result_is_drawn_and_shown_in_one_manner() -> None:
    found = set(public_views())
    assert len(found) >= 18
    assert {kind.__name__ for kind in found if not issubclass(kind, ResultView)} == set()
    own = {kind.__name__ for kind in found if {"plot", "_repr_html_"} & vars(kind).keys()}
    assert not own, "has a second way to be drawn or shown"


def cut_off(figure: Figure) -> list[float]:
    """By how many inches what is drawn leaves each side of the figure; none where it does not."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    drawn, (width, height) = figure.get_tightbbox(renderer), figure.get_size_inches()
    over = [-drawn.x0, -drawn.y0, drawn.x1 - width, drawn.y1 - height]
    return over if max(over) > 0.02 else []


def test_nothing_is_cut_off_and_nothing_is_mathematics(views: dict[str, ResultView]) -> None:
    assert len(views) == 15
    for name, view in views.items():
        figure = view.plot()
        assert not cut_off(figure), name
        texts = [text for text in figure.findobj(Text) if "$" in text.get_text()]
        assert not [text.get_text() for text in texts if text.get_parse_math()], name
        assert not [text for text in figure.findobj(Text) if "\x1b" in text.get_text()], name


def test_a_picture_is_drawn_in_the_axes_of_the_caller(views: dict[str, ResultView]) -> None:
    for name, view in views.items():
        axes = Figure().subplots()
        assert view.plot(ax=axes) is axes.figure, name
        assert axes.has_data() or name == "Rollout", name
        assert not axes.figure.legends, name


@pytest.mark.parametrize("gpus", [0, 1, 64])
def test_rows_are_drawn_however_many_there_are(gpus: int, result: optimizer.Result) -> None:
    figure = grown(result, gpus).plot()
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [f"GPU {k}" for k in range(gpus)]
    heights = [label.get_window_extent().height for label in axes.get_yticklabels()]
    assert not cut_off(figure)
    row = axes.get_window_extent().height / max(1, gpus)
    assert all(height < row for height in heights), "rows overlap"


def test_a_picture_of_no_known_format_is_refused_before_it_is_drawn(
    views: dict[str, ResultView], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = views["GrowthReport"]
    monkeypatch.setattr(type(view), "_draw", lambda *_: pytest.fail("it was drawn"))
    with pytest.raises(PlotError, match=r"use a \.png, \.svg or \.pdf file"):
        view.plot(tmp_path / "picture.doc")


def test_a_picture_is_written_in_the_format_of_its_file(views: dict[str, ResultView], tmp_path: Path) -> None:
    starts = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}
    for ending, start in starts.items():
        views["Survival"].plot(tmp_path / f"picture.{ending}")
        assert (tmp_path / f"picture.{ending}").read_bytes().startswith(start)


class Page(HTMLParser):
    """Tags of a page, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert not [name for name, _ in attrs if name not in ("style",)]
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_notebook_shows_a_headline_and_a_table_and_runs_nothing(views: dict[str, ResultView]) -> None:
    allowed = {"p", "b", "br", "span", "table", "caption", "thead", "tbody", "tr", "th", "td"}
    for name, view in views.items():
        page = Page()
        page.feed(view._repr_html_())
        assert set(page.tags) <= allowed, name
        assert page.tags[:2] == ["p", "b"], name
        assert "table" in page.tags or name == "Rollout", name
        assert not re.search("[\x00-\x08\x1b\u202e\ue000]", page.text), name


def test_what_is_rejected_stands_out_in_a_notebook(views: dict[str, ResultView]) -> None:
    html = views["ValidationReport"]._repr_html_()
    assert re.search(r'<span style="color: #[0-9a-f]{6}">REJECTED</span>', html)
    assert "served" in html


def test_a_long_table_is_cut_in_a_notebook_and_says_so(result: optimizer.Result) -> None:
    html = grown(result, 500)._repr_html_()
    assert html.count("<tr>") == 201
    assert "and 300 more" in html
