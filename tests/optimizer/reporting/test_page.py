"""The page of a report without a browser: what stands in the file, and that texts from outside stay text."""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
import re
import sys
from collections import Counter
from html.parser import HTMLParser
from importlib import import_module
from importlib.resources import files

import pytest

from optimizer.reporting.contents import AdapterTable, Answer, ReportContents, WhatIfCell
from optimizer.reporting.page import headlines, render_page
from optimizer.reporting.page.charts import charts
from optimizer.reporting.page.treemap import MOST_CELLS, STEPS, rank_steps, treemap
from tests.hostile_texts import HOSTILE_TEXTS
from tests.optimizer.reporting.page_contents import MARKUP, plan_report, report_contents, what_if_grid

LIMIT_BYTES = 3_000_000


class Elements(HTMLParser):
    """Elements of a page, how often each, with their attributes and the text of scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()
        self.attributes: list[tuple[str, str | None]] = []
        self.scripts: list[str] = []
        self._in_script = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names[tag] += 1
        self.attributes += attrs
        self._in_script = tag == "script"
        if self._in_script:
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._in_script = self._in_script and tag != "script"

    def handle_data(self, data: str) -> None:
        if self._in_script:
            self.scripts[-1] += data


def unpacked(script: str) -> str:
    return gzip.decompress(base64.b64decode(script, validate=True)).decode()


def page_data(page: str) -> dict:
    return json.loads(unpacked(Elements(page).scripts[0]))


@pytest.fixture(scope="module")
def small() -> str:
    return render_page(report_contents([plan_report(24, 3, grid=what_if_grid(3))]))


@pytest.mark.parametrize("text", [*HOSTILE_TEXTS, *MARKUP])
def test_texts_from_outside_add_no_element_and_no_attribute(small: str, text: str) -> None:
    names = [f"{text}{k}" for k in range(24)]
    plan = plan_report(24, 3, names=names, text=text, name=text, method=text, grid=what_if_grid(3))
    page = render_page(report_contents([plan], title=text))
    plain, hostile = Elements(small), Elements(page)
    assert hostile.names == plain.names
    assert {name for name, _ in hostile.attributes} == {name for name, _ in plain.attributes}
    assert len(hostile.scripts) == 3
    assert page_data(page)["plans"][0]["adapters"]["name"] == names


def test_what_a_browser_would_hide_is_shown() -> None:
    plan = plan_report(3, 1, names=["a\u202eb", "c\x00d", "e\ud800f"])
    page = render_page(report_contents([plan]))
    assert page_data(page)["plans"][0]["adapters"]["name"] == ["a\\u202eb", "c\\x00d", "e\\ud800f"]
    page.encode("utf-8")


def test_nothing_is_fetched(small: str) -> None:
    fetching = {"src", "srcset", "data", "action", "poster", "background"}
    attributes = Elements(small).attributes
    assert not [name for name, _ in attributes if name in fetching]
    assert all(value and value.startswith("#") for name, value in attributes if name == "href")
    assert "@import" not in small
    assert "url(" not in small.split("</style>")[0]


def test_the_policy_allows_the_scripts_of_the_page_and_no_others(small: str) -> None:
    page = Elements(small)
    policy = next(value for name, value in page.attributes if value and value.startswith("default-src"))
    allowed = set(re.findall(r"'sha256-([^']+)'", html.unescape(policy)))
    scripts = (unpacked(page.scripts[1]), page.scripts[2])
    hashes = [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in scripts]
    assert allowed == set(hashes)
    assert "'unsafe-inline'" not in policy.split("script-src")[1]
    assert policy.startswith("default-src 'none'")


def test_equal_contents_give_equal_pages(small: str) -> None:
    charts.cache_clear()  # in another process they are made anew
    assert small == render_page(report_contents([plan_report(24, 3, grid=what_if_grid(3))]))


def test_a_page_of_five_results_of_1024_adapters_on_64_gpus_that_differ_is_small_enough() -> None:
    plans = [plan_report(1024, 64, grid=what_if_grid(64), text=f"Plan {k}.") for k in range(5)]
    page = render_page(report_contents(plans))
    assert len(page.encode()) < LIMIT_BYTES


def test_a_scenario_that_results_share_stands_on_the_page_once() -> None:
    plans = [plan_report(24, 3, text=text) for text in ("one", "two", "one")]
    page = render_page(report_contents(plans))
    assert page.count("# one\n</code>") == page.count("# two\n</code>") == 1
    assert page.count('<code data-scenario-of="p0">The same as that of fleet, exact, above.</code>') == 1


def test_scripts_of_the_page_set_text_only() -> None:
    folder = files("optimizer.reporting.page") / "templates"
    scripts = [one for one in folder.iterdir() if one.name.endswith(".js")]
    assert len(scripts) > 5
    forbidden = re.compile(r"(inner|outer|Adjacent)HTML|document\.write|\beval\b|new Function|fetch\(")
    assert not [one.name for one in scripts if forbidden.search(one.read_text(encoding="utf-8"))]


def test_a_page_without_a_plan_says_why() -> None:
    plan = plan_report(3, 1)
    answer = plan.answer.model_copy(
        update={
            "status": "no_plan",
            "gpus": None,
            "bound": None,
            "message": "the time was over",
            "greedy": None,
        }
    )
    empty = AdapterTable.empty()
    plan = plan.model_copy(update={"answer": answer, "tiles": (), "runs": (), "adapters": empty})
    page = render_page(report_contents([plan]))
    assert "No plan was found" in page
    assert "The time was over." in page
    assert "There is no plan to draw." in page


def test_without_javascript_every_adapter_stands_in_a_table() -> None:
    page = render_page(report_contents([plan_report(300, 5)]))
    table = page.split("<noscript>\n    <div")[1].split("</noscript>")[0]
    assert [f"adapter-{k:04d}" in table for k in range(300)] == [True] * 300


def test_a_package_that_is_missing_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("optimizer.reporting.page")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    with pytest.raises(ImportError, match=r"needs vl_convert: pip install 'lorapack\[report\]'"):
        import_module("optimizer.reporting.page")


# --- words -------------------------------------------------------------------------------------------


def changed(**changes: object) -> Answer:
    return plan_report(24, 11).answer.model_copy(update=changes)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (changed(bound=11.0), "No plan needs fewer than 11."),
        (changed(bound=10.2), "No plan needs fewer than 11."),
        (changed(bound=10.0), "No plan needs fewer than 10; whether 10 can do is open."),
        (changed(bound=8.0), "No plan needs fewer than 8; whether 8 to 10 can do is open."),
        (changed(bound=None), "How few would do is not proven."),
        (
            changed(bound=None, no_bound="no bound: greedy proves none"),
            "How few would do is not proven: greedy proves none.",
        ),
        (changed(bound=33.0, bound_of="cost"), "No plan costs less."),
        (changed(bound=20.0, bound_of="cost"), "No plan costs less than 14,600 a month."),
        (changed(bound=20.0, bound_of="cost", cost_per_month=None), "No plan costs less than 20 per hour."),
        (changed(gpus=None, message="no GPU holds it"), "No GPU holds it."),
    ],
)
def test_the_proof_is_one_sentence(answer: Answer, words: str) -> None:
    assert headlines.proof(answer) == words


@pytest.mark.parametrize(
    ("greedy", "words"),
    [
        ({"gpus": 17}, "The greedy takes 17 GPUs: 6 more."),
        ({"gpus": 11}, "The greedy takes 11 GPUs: as many."),
        ({"gpus": 10}, "The greedy takes 10 GPUs: 1 fewer."),
        ({"gpus": 9, "accepted": False}, "The greedy takes 9 GPUs, but the simulation rejects its plan."),
        ({"gpus": None, "message": "no plan: it starves"}, "No plan: it starves."),
    ],
)
def test_the_greedy_stands_beside_the_plan(greedy: dict[str, object], words: str) -> None:
    answer = plan_report(24, 11).answer
    assert answer.greedy is not None
    beside = answer.greedy.model_copy(update=greedy)
    assert headlines.beside_greedy(answer.model_copy(update={"greedy": beside})) == words


def test_a_rejected_plan_says_so() -> None:
    page = render_page(report_contents([plan_report(24, 3, accepted=False)]))
    assert "The simulation rejects 1 of 3 GPUs: do not deploy it as it is." in page


@pytest.mark.parametrize(
    ("cell", "words", "cost"),
    [
        (WhatIfCell(state="solved", gpus=12, bound=12), "12", "1,200"),
        (WhatIfCell(state="open", gpus=13, bound=12), "12 to 13", "1,200 to 1,300"),
        (WhatIfCell(state="open", gpus=13), "at most 13", "1,300"),
        (WhatIfCell(state="no_plan"), "no plan", ""),
        (WhatIfCell(state="not_computed"), "not computed", ""),
        (WhatIfCell(state="not_computed", bound=12), "at least 12", ""),
    ],
)
def test_cells_in_words(cell: WhatIfCell, words: str, cost: str) -> None:
    assert headlines.cell_words(cell) == words
    assert headlines.cost_words(cell, 100.0) == cost
    assert headlines.cost_words(cell, None) == ""


def test_no_cost_is_shown_without_a_price() -> None:
    plan = plan_report(24, 3)
    answer = plan.answer.model_copy(
        update={"cost_per_month": None, "greedy_cost_per_month": None, "cost_unit": ""}
    )
    page = render_page(report_contents([plan.model_copy(update={"answer": answer})]))
    assert "Cost per month" not in page


# --- rectangles and colours --------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 9, 100, MOST_CELLS, 5 * MOST_CELLS])
def test_areas_are_shares_of_the_load(n: int) -> None:
    weights = {row: 1 / (row + 1) for row in range(n)}
    shares = {row: weight / sum(weights.values()) for row, weight in weights.items()}
    cells = treemap(shares)
    assert len(cells) == min(n, MOST_CELLS)
    assert [row for cell in cells for row in cell.rows] == list(range(n))
    for cell in cells:
        share = sum(shares[row] for row in cell.rows)
        assert cell.width * cell.height / 1e4 == pytest.approx(share, rel=1e-3)
        assert -1e-9 <= cell.left <= 100 - cell.width + 1e-6
        assert -1e-9 <= cell.top <= 100 - cell.height + 1e-6


def test_adapters_without_load_have_a_cell() -> None:
    cells = treemap({0: 1.0, 1: 0.0, 2: 0.0})
    assert [cell.rows for cell in cells] == [(0,), (1,), (2,)]
    assert all(cell.width > 0 and cell.height > 0 for cell in cells)
    assert len(treemap({0: 0.0, 1: 0.0})) == 2
    assert treemap({}) == ()


@pytest.mark.parametrize("ranks", [[8], [8, 16], [8, 16, 32, 64, 128, 256, 320], list(range(1, 40))])
def test_higher_ranks_have_higher_steps(ranks: list[int]) -> None:
    steps = [rank_steps([0, *ranks])[rank] for rank in ranks]
    assert steps == sorted(steps)
    assert len(set(steps)) == min(len(ranks), STEPS)
    assert set(steps) <= set(range(1, STEPS + 1))
    assert rank_steps([0, *ranks])[0] == 0


def test_a_report_of_several_plans_compares_them() -> None:
    plans = [plan_report(24, 3, name="one"), plan_report(24, 5, name="two", method="greedy")]
    page = render_page(ReportContents(title="two", made_at="2026-01-01 00:00", plans=tuple(plans)))
    comparison = page.split('id="comparison"')[1]
    assert "one, exact" in comparison
    assert "two, greedy" in comparison
    assert len(page_data(page)["plans"]) == 2
