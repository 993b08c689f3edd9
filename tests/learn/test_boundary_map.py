"""Where the regions of one option end over alike adapters, and what the twin says on both sides."""

from __future__ import annotations

import pytest
from matplotlib.figure import Figure

import learn
import scenarios
from scenarios import ScenarioError


@pytest.fixture(scope="module")
def found() -> learn.BoundaryMap:
    scenario = scenarios.read("paper_mixed_32", ["acceptance=paper", "replications=1"])
    return learn.boundary_map(scenario, 32, 16, [8, 48])


def test_the_outer_region_ends_beyond_the_inner_one(found: learn.BoundaryMap) -> None:
    assert [edge.adapters for edge in found.edges] == [8, 48]
    assert all(0 < edge.inner < edge.outer for edge in found.edges)
    few, many = found.edges
    assert many.outer < few.inner, "48 adapters wait for 32 slots"


def test_the_twin_is_asked_on_both_sides_and_agrees_far_from_the_edges(found: learn.BoundaryMap) -> None:
    for edge in found.edges:
        runs = [run for run in found.runs if run.adapters == edge.adapters]
        assert [run.rate for run in runs] == sorted(run.rate for run in runs)
        assert runs[0].rate < edge.inner < edge.outer < runs[-1].rate
        assert [run.accepted for run in runs] in ([True, True, False], [True, False, False])


def test_a_map_is_drawn_and_shown(found: learn.BoundaryMap) -> None:
    axes = Figure().subplots()
    assert found.plot(ax=axes) is axes.figure
    labels = axes.get_legend_handles_labels()[1]
    assert {"inner region: safe below", "outer region: hopeless above", "twin: accepted"} <= set(labels)
    assert "<table>" in found._repr_html_()
    assert "verdicts" in repr(found)


def test_adapters_that_no_slot_takes_are_refused() -> None:
    scenario = scenarios.read("paper_mixed_32", ["adapters[0].rank=32"])
    with pytest.raises(ScenarioError, match="take a rank that an adapter fits in"):
        learn.boundary_map(scenario, 32, 16, [8])
