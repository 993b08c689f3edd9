"""The page of a report in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from optimizer.reporting.contents import ReportContents, WhatIfCell
from optimizer.reporting.page import render_page
from tests.browsers import CHROMIUM, chromium, needs_browser
from tests.hostile_texts import HOSTILE_TEXTS
from tests.optimizer.reporting.page_contents import MARKUP, plan_report, report_contents, what_if_grid

pytestmark = [needs_browser, pytest.mark.slow]

SMOOTH_MS = 200
TRIES = 3
"""Times that an interaction is measured; the best counts, as other programs run on the machine."""

MEASURE = """async ([selector, event, value]) => {
  const element = document.querySelector(selector);
  const from = performance.now();
  if (value !== null) element.value = value;
  if (event === "click") element.click(); else element.dispatchEvent(new Event(event, {bubbles: true}));
  await new Promise(requestAnimationFrame);
  await new Promise((done) => setTimeout(done));
  return performance.now() - from;
}"""
"""Milliseconds until what an event asks for is drawn: the frame after it, and what that leaves to do."""

SLIDE = """() => {
  const load = document.querySelector(".load");
  const text = (name) => document.querySelector(`.${name}`).textContent;
  return Array.from({length: Number(load.max) + 1}, (_, k) => {
    load.value = k;
    load.dispatchEvent(new Event("input"));
    return ["exact-words", "greedy-words", "asked"].map(text);
  });
}"""
"""What is shown at each place of the slider of the load."""

FOCUSABLE = """[...document.querySelectorAll(
  'a[href], button, input, select, summary, [tabindex]')].filter((one) =>
  one.tabIndex >= 0 && !one.disabled && one.checkVisibility()).length"""


CHARTS = ".plan:not([hidden]) .chart svg"
FOLLOW = """() => {
  window.reached = new Set();
  document.addEventListener("focusin", (event) => reached.add(event.target));
}"""


class OpenPage:
    """A page that is open, with what it asked for and complained of."""

    def __init__(self, browser: Any, path: Path, **settings: Any) -> None:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **settings})
        self.page = context.new_page()
        self.faults: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.faults.append(message.text))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.faults.append("dialog"), dialog.dismiss()))
        context.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())
        if settings.get("java_script_enabled", True):
            self.page.wait_for_function(f"document.querySelectorAll('{CHARTS}').length >= 7")

    def texts(self, selector: str) -> list[str]:
        return [text.strip() for text in self.page.locator(selector).all_text_contents()]

    def send(self, selector: str, event: str, value: object = None) -> float:
        """Milliseconds of one interaction."""
        return float(self.page.evaluate(MEASURE, [selector, event, value]))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture(autouse=True)
def _pages_are_closed(browser: Any) -> Iterator[None]:
    yield
    for context in browser.contexts:
        context.close()


def written(folder: Path, contents: ReportContents) -> Path:
    path = folder / "report.html"
    path.write_text(render_page(contents), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(
        tmp_path_factory.mktemp("small"), report_contents([plan_report(24, 3, grid=what_if_grid(3))])
    )


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(
        tmp_path_factory.mktemp("large"), report_contents([plan_report(1024, 64, grid=what_if_grid(64))])
    )


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    plans = [
        plan_report(24, 3, grid=what_if_grid(3)),
        plan_report(24, 5, method="greedy", grid=what_if_grid(5, patience_s=())),
        plan_report(24, 4, method="bfd", accepted=False, grid=what_if_grid(4, patience_s=(10,))),
    ]
    return written(tmp_path_factory.mktemp("several"), report_contents(plans))


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    text = "a-" + "x" * 200
    plan = plan_report(24, 3, names=[text], text=text, name=text, method=text, grid=what_if_grid(3))
    return written(tmp_path_factory.mktemp("long"), report_contents([plan, plan], title=text))


def test_a_named_browser_is_there() -> None:
    assert CHROMIUM is not None
    assert Path(CHROMIUM).is_file()


@pytest.mark.parametrize(
    ("name", "width"),
    [("small", 390), ("large", 1280), ("large", 390), ("several", 390), ("long", 1280), ("long", 390)],
)
def test_it_opens_without_complaint_or_request_and_fits_its_width(
    browser: Any, request: pytest.FixtureRequest, name: str, width: int
) -> None:
    path = request.getfixturevalue(name)
    opened = OpenPage(browser, path, viewport={"width": width, "height": 900})
    opened.page.mouse.wheel(0, 20_000)
    opened.page.wait_for_timeout(100)
    assert opened.faults == []
    assert opened.requests == [path.as_uri()]
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width


# --- figures -----------------------------------------------------------------------------------------


def in_words(cell: WhatIfCell) -> str:
    if cell.state == "not_computed":
        return "not computed"
    if cell.gpus is None:
        return "no plan"
    if cell.state == "open":
        return f"{cell.bound} to {cell.gpus} GPUs"
    return f"{cell.gpus} GPU{'' if cell.gpus == 1 else 's'}"


@pytest.mark.parametrize("patience_s", [(2, 5, 10, 30), ()])
def test_the_sliders_show_every_cell_of_the_grid(
    browser: Any, tmp_path: Path, patience_s: tuple[int, ...]
) -> None:
    grid = what_if_grid(3 if patience_s else -2, patience_s=patience_s)  # the latter begins with 1 GPU
    opened = OpenPage(browser, written(tmp_path, report_contents([plan_report(24, 3, grid=grid)])))
    assert opened.page.locator(".slider").count() == 1 + (len(patience_s) > 1)
    for p, (exact, greedy) in enumerate(zip(grid.exact, grid.greedy, strict=True)):
        if patience_s:
            opened.send(".patience", "input", p)
        shown = opened.page.evaluate(SLIDE)
        assert len(shown) == len(grid.load_factors)
        for k, factor in enumerate(grid.load_factors):
            assert shown[k][:2] == [in_words(exact[k]), in_words(greedy[k])]
            assert f"--load {factor:g} " in shown[k][2]
            assert shown[k][2].endswith(f"={patience_s[p]}" if patience_s else "=")
    assert opened.faults == []


def test_a_slider_is_moved_by_the_keyboard_and_says_where_it_is(browser: Any, small: Path) -> None:
    grid = what_if_grid(3)
    page = OpenPage(browser, small).page
    page.locator(".load").focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    assert page.locator(".load").get_attribute("aria-valuetext") == "0.55 times the load"
    assert page.locator(".exact-words").text_content() == in_words(grid.exact[2][1])


def test_search_marks_the_adapter_and_shows_its_tile_and_row(browser: Any, large: Path) -> None:
    opened = OpenPage(browser, large)
    opened.page.locator(".search").fill("ADAPTER-0777")
    hit = opened.page.locator(".cell.hit")
    assert hit.count() == 1
    assert (hit.get_attribute("aria-label") or "").startswith("adapter-0777: rank 8")
    assert opened.page.locator(".tile:visible").count() == 1
    assert opened.texts(".adapters tbody tr td:first-child") == ["adapter-0777"]
    assert opened.texts(".found") == ["1 of 1,024: adapter-0777 on GPU 9"]
    opened.page.locator(".search").fill("nothing of that name")
    assert opened.texts(".found") == ["0 of 1,024"]
    opened.page.locator(".search").fill("")
    assert opened.page.locator(".tile:visible").count() == 12
    opened.page.locator(".all-tiles").click()
    assert opened.page.locator(".tile:visible").count() == 64


def test_gpus_and_adapters_are_sorted(browser: Any, small: Path) -> None:
    opened = OpenPage(browser, small)
    table = plan_report(24, 3).adapters
    opened.page.locator(".order").select_option("ttft")
    assert opened.texts(".tile h3") == ["GPU 2", "GPU 1", "GPU 0"]  # 249, 235 and 200 ms
    opened.page.locator(".order").select_option("gpu")
    assert opened.texts(".tile h3") == ["GPU 0", "GPU 1", "GPU 2"]
    heading = opened.page.locator('.adapters th[data-column="ttft_p99_ms"]')
    heading.locator("button").click()
    assert heading.get_attribute("aria-sort") == "descending"
    slowest = sorted((row for row in range(1, 24)), key=lambda row: -(table.ttft_p99_ms[row] or 0))
    assert opened.texts(".adapters tbody td:first-child") == [table.name[row] for row in [*slowest, 0]]
    heading.locator("button").click()
    assert opened.texts(".adapters tbody td:first-child") == [table.name[row] for row in [*slowest[::-1], 0]]


def test_the_run_of_the_chosen_gpu_is_drawn_and_told(browser: Any, small: Path) -> None:
    plan = plan_report(24, 3)
    opened = OpenPage(browser, small)
    before = opened.page.locator('[data-chart="requests"] svg').inner_html()
    opened.page.locator('.to-time[data-gpu="2"]').click()
    assert opened.texts(".run-note") == ["A run at 1.05 times the rates, seed 2."]
    opened.page.wait_for_function(
        "(old) => document.querySelector('[data-chart=requests] svg').innerHTML !== old", arg=before
    )
    opened.page.locator('[data-chart="requests"] summary').click()
    row = '[data-chart="requests"] .figures tbody tr:first-child td'
    opened.page.locator(row).first.wait_for()
    assert opened.texts(row) == [
        "0",
        "0.5",
        f"{plan.runs[2].running[0]:.4g}",
        f"{plan.runs[2].waiting[0]:.4g}",
    ]
    names = opened.texts(".slowest tbody td:first-child")
    of_gpu = [row for row in range(24) if plan.adapters.gpu[row] == 2]
    slowest = sorted(of_gpu, key=lambda row: -(plan.adapters.ttft_p99_ms[row] or 0))
    assert names == [plan.adapters.name[row] for row in slowest]


def test_a_gpu_that_shares_a_run_says_whose(browser: Any, tmp_path: Path) -> None:
    plan = plan_report(24, 3)
    tiles = (*plan.tiles[:2], plan.tiles[2].model_copy(update={"like": 0}))
    plan = plan.model_copy(update={"tiles": tiles, "runs": plan.runs[:1]})
    opened = OpenPage(browser, written(tmp_path, report_contents([plan])), java_script_enabled=True)
    opened.page.locator(".gpu").select_option("2")
    assert "GPU 0, whose run is shown" in opened.texts(".run-note")[0]
    opened.page.locator(".gpu").select_option("1")
    assert opened.texts(".run-note") == ["The run of GPU 1 was left out."]
    assert opened.page.locator('[data-chart="requests"]').is_hidden()


def test_one_of_several_results_is_shown_at_a_time(browser: Any, several: Path) -> None:
    opened = OpenPage(browser, several)
    assert opened.texts(".plan:visible .headline") == ["3 GPUs"]
    opened.page.locator("#p0-tab").focus()
    opened.page.keyboard.press("ArrowRight")
    assert opened.texts(".plan:visible .headline") == ["5 GPUs"]
    assert opened.page.locator("nav [data-part=map]").get_attribute("href") == "#p1-map"
    opened.page.wait_for_function(
        "document.querySelector('#p1 .chart svg').getBoundingClientRect().width > 400"
    )
    assert opened.texts("#comparison tbody tr td:nth-child(4)")[:3] == [
        "accepted (sustained)",
        "accepted (sustained)",
        "rejected (sustained)",
    ]
    assert opened.faults == []


def test_the_scenario_is_there_whole_of_every_result_that_shares_it(browser: Any, several: Path) -> None:
    opened = OpenPage(browser, several)
    texts = {plan_report(24, 3).origin.scenario_yaml}
    assert opened.page.locator("[data-scenario-of]").count() == 2
    for key in ("p0", "p1", "p2"):
        opened.page.locator(f"#{key}-tab").click()
        assert set(opened.page.locator(f"#{key}-repeat pre").last.all_text_contents()) == texts


# --- 1,024 adapters ----------------------------------------------------------------------------------


INTERACTIONS: tuple[tuple[str, str, list[object]], ...] = (
    (".search", "input", ["adapter-0", "adapter-0777", ""]),
    (".order", "change", ["ttft", "fill", "gpu"]),
    ('.adapters th[data-column="name"] button', "click", [None, None, None]),
    ('.adapters th[data-column="rate"] button', "click", [None, None, None]),
    (".after", "click", [None, None, None]),
    (".gpu", "change", ["60", "5", "33"]),
    ('.to-time[data-gpu="7"]', "click", [None, None, None]),
    (".load", "input", [3, 17, 30]),
    (".patience", "input", [0, 1, 3]),
    ("#theme", "click", [None, None, None]),
)
"""Of a reader of a page, in their order: opening it takes longer than all of them."""


def test_1024_adapters_stay_smooth(browser: Any, large: Path) -> None:
    opened = OpenPage(browser, large)
    opened.page.wait_for_timeout(200)
    for selector, event, values in INTERACTIONS:
        for value in values:
            took = [opened.send(selector, event, value) for _ in range(TRIES)]
            assert min(took) < SMOOTH_MS, (selector, value, took)
    assert opened.faults == []


# --- texts from outside ------------------------------------------------------------------------------


def test_hostile_texts_stay_texts(browser: Any, tmp_path: Path) -> None:
    texts = [*HOSTILE_TEXTS, *MARKUP]
    plan = plan_report(len(texts), 2, names=texts, text=" ".join(texts), name=texts[4], grid=what_if_grid(2))
    several = [plan, plan.model_copy(update={"name": MARKUP[1]})]
    opened = OpenPage(browser, written(tmp_path, report_contents(several, title=MARKUP[0])))
    page = opened.page
    for k, text in enumerate(texts):
        cell = page.locator(f'#p0 .cell[data-rows="{k}"]')
        cell.focus()
        assert page.locator("#tip b").text_content() == text
        page.locator("#p0 .search").fill(text)
        assert text in opened.texts("#p0 .adapters tbody td:first-child")
        page.locator("#p0 .search").fill("")
    for summary in page.locator("#p0 summary:visible").all():
        summary.click()
    page.locator("#p1-tab").click()
    page.wait_for_timeout(200)
    assert page.evaluate("window.hacked") is None
    assert page.evaluate("document.querySelectorAll('img, iframe, object, embed, script').length") == 4
    assert opened.requests == [(tmp_path / "report.html").as_uri()]
    assert opened.faults == []


# --- everybody can use it ----------------------------------------------------------------------------


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_axe_finds_no_serious_fault(browser: Any, several: Path, scheme: str, width: int) -> None:
    from axe_playwright_python.sync_playwright import Axe

    settings = {"color_scheme": scheme, "viewport": {"width": width, "height": 900}, "bypass_csp": True}
    page = OpenPage(browser, several, **settings).page
    for selector in (".tile-foot", ".grid-numbers", "[id$=repeat]", "[data-chart=ttft]"):
        page.locator(f".plan:not([hidden]) {selector} summary").first.click()
    found = Axe().run(page).response["violations"]
    bad = [one for one in found if one["impact"] in ("serious", "critical")]
    assert [(one["id"], [node["html"] for node in one["nodes"][:3]]) for one in bad] == []


def test_the_keyboard_reaches_everything(browser: Any, several: Path) -> None:
    page = OpenPage(browser, several).page
    everything = page.evaluate(FOCUSABLE)
    assert everything > 40
    page.evaluate(FOLLOW)
    for _ in range(everything + 5):
        page.keyboard.press("Tab")
    assert page.evaluate("reached.size") == everything


def test_arrow_keys_go_through_the_adapters_of_a_tile_and_escape_hides_the_figures(
    browser: Any, small: Path
) -> None:
    page = OpenPage(browser, small).page
    focused = "document.activeElement.dataset.rows"
    page.set_viewport_size({"width": 1280, "height": 300})  # so that the focus scrolls
    page.locator('.tile[data-gpu="1"] .cell').first.focus()
    page.wait_for_timeout(100)
    assert page.locator("#tip").is_visible()
    assert page.evaluate(focused) == "1"
    page.keyboard.press("ArrowRight")
    assert page.evaluate(focused) == "4"
    assert page.locator("#tip").is_visible()
    assert "adapter-0004" in (page.locator("#tip").text_content() or "")
    assert page.evaluate("document.activeElement.getAttribute('aria-describedby')") == "tip"
    page.keyboard.press("Escape")
    assert page.locator("#tip").is_hidden()
    page.keyboard.press("End")
    assert page.evaluate(focused) == "22"
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")
    assert page.evaluate(focused) == "22"


def test_the_pointer_shows_the_figures_of_an_adapter(browser: Any, small: Path) -> None:
    page = OpenPage(browser, small).page
    page.locator('.cell[data-rows="3"]').hover()
    told = page.locator("#tip").text_content() or ""
    assert "adapter-0003" in told
    assert "requests/s" in told
    page.mouse.move(1, 1)
    assert page.locator("#tip").is_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_switch_turns_light_into_dark_and_back(browser: Any, small: Path, scheme: str) -> None:
    page = OpenPage(browser, small, color_scheme=scheme).page
    ground = "getComputedStyle(document.body).backgroundColor"
    line = "getComputedStyle(document.querySelector('[data-chart=requests] .mark-line path')).stroke"
    before = page.evaluate(ground), page.evaluate(line)
    page.locator("#theme").click()
    after = page.evaluate(ground), page.evaluate(line)
    assert before[0] != after[0]
    assert before[1] != after[1]
    page.locator("#theme").click()
    assert (page.evaluate(ground), page.evaluate(line)) == before


def test_without_javascript_the_answer_tiles_and_tables_are_there(browser: Any, several: Path) -> None:
    opened = OpenPage(browser, several, java_script_enabled=False)
    assert opened.texts(".headline") == ["3 GPUs", "5 GPUs", "4 GPUs"]
    assert opened.page.locator(".tile:visible").count() == 3 + 5 + 4
    assert opened.page.locator(".chart-box noscript p").first.is_visible()
    assert opened.page.locator("#p0 noscript tbody tr:visible").count() == 24
    assert opened.page.locator("#p0-map > noscript p.quiet").is_visible()
    assert opened.page.locator(".treemap:visible, .legend:visible, #too-old:visible").count() == 0
    assert opened.page.locator("button:visible:not(.cell)").count() == 0
    opened.page.locator("#p0 .grid-numbers summary").click()
    assert opened.page.locator("#p0 .grid tbody tr:visible").count() == 31


def test_a_browser_that_cannot_unpack_the_figures_says_so_and_shows_the_answer(
    browser: Any, small: Path
) -> None:
    page = browser.new_page()
    page.add_init_script("delete window.DecompressionStream")
    page.goto(small.as_uri())
    assert page.locator("#too-old").is_visible()
    assert page.locator(".headline").text_content().strip() == "3 GPUs"
    assert page.locator(".tile:visible").count() == 3
    assert page.locator(".needs-script:visible").count() == 0


def test_on_paper_it_is_light_and_sliders_are_a_table(browser: Any, several: Path, tmp_path: Path) -> None:
    page = OpenPage(browser, several, color_scheme="dark").page
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.querySelector('.headline')).color") == "rgb(18, 87, 168)"
    assert page.locator("#p0 .sliders").is_hidden()
    assert page.locator("#p0 .grid tbody tr").first.is_visible()
    assert page.locator("#p0 .keys tbody tr").first.is_visible()
    pdf = page.pdf(path=tmp_path / "report.pdf", format="A4", prefer_css_page_size=True)
    assert pdf.startswith(b"%PDF")
    assert pdf.count(b"/MediaBox [0 0 594.95996 841.91998]") >= 3 or pdf.count(b"/Type /Page\n") >= 3
