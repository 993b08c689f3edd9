"""The docs build into a site that leads nowhere wrong, and that asks nothing of other hosts."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

from tests.browsers import chromium, needs_browser

pytest.importorskip("mkdocs")
pytest.importorskip("mkdocstrings")
pytest.importorskip("mkdocs_jupyter")

ROOT = Path(__file__).parents[1]
LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}
"""Elements with which a page fetches something by itself."""

pytestmark = pytest.mark.slow


class Page(HTMLParser):
    """What a page leads to, what it fetches, and where one may lead to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.fetched: set[str] = set()
        self.places: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.places |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.add(values["href"])
        if tag in LOADED and LOADED[tag] in values and values.get("rel") != "canonical":
            self.fetched.add(values[LOADED[tag]])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {file: Page(file.read_text(encoding="utf-8")) for file in site.rglob("*.html")}


def is_outside(link: str) -> bool:
    return re.match(r"(\w+:)?//|\w+:", link) is not None


def test_every_page_of_the_docs_is_in_the_site(site: Path) -> None:
    for page in (ROOT / "docs").glob("*.md"):
        assert (site / f"{page.stem}.html").exists(), page.name
    assert {"index.html", "tutorial.html", "contributing.html", "invariants.html"} <= {
        file.name for file in site.glob("*.html")
    }


def test_no_link_is_broken(site: Path, pages: dict[Path, Page]) -> None:
    assert len(pages) > 30
    broken = []
    for file, page in pages.items():
        if file.name == "404.html":
            continue  # its links start at the root of the server
        for link in page.links | page.fetched:
            target, place = urldefrag(link)
            if is_outside(link):
                continue
            there = (file.parent / unquote(target)).resolve() if target else file
            if not there.is_file() or (
                place and there in pages and unquote(place) not in pages[there].places
            ):
                broken.append(f"{file.relative_to(site)}: {link}")
    assert not broken


def test_a_reader_asks_no_other_host_for_anything(site: Path, pages: dict[Path, Page]) -> None:
    fetched = {link for page in pages.values() for link in page.fetched if is_outside(link)}
    assert not {link for link in fetched if not link.startswith("data:")}
    text = "".join(file.read_text(encoding="utf-8") for file in (*pages, *site.rglob("*.css")))
    assert not re.findall(r"(?:@import|url\(|import\()\s*[\"']?(?:https?:)?//", text)


def test_the_reference_has_what_the_packages_offer(pages: dict[Path, Page], site: Path) -> None:
    places = {place for file, page in pages.items() if file.parent.name == "api" for place in page.places}
    for name in (
        "scenarios.files.read",
        "twin.result.SimulationResult",
        "learn.region_store.regions_for",
        "optimizer.search.solve.solve",
        "optimizer.result.Result",
    ):
        assert name in places
    text = (site / "api" / "optimizer.html").read_text(encoding="utf-8")
    assert "Seconds of search for the fewest" in text, "parameters are described"


def test_what_is_searched_for_is_found(site: Path) -> None:
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    found = {
        entry["location"].partition("#")[0] for entry in index["docs"] if "max_lora_rank" in entry["text"]
    }
    assert {"results.html", "memory.html"} & found


@needs_browser
def test_the_search_works_on_a_site_that_is_read_from_the_disk(site: Path) -> None:
    with chromium() as browser:
        page = browser.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto((site / "index.html").as_uri() + "?q=max_lora_rank")
        found = page.locator(".md-search-result__link")
        found.first.wait_for(state="attached", timeout=30_000)
        pages = {link.partition("?")[0] for link in found.evaluate_all("all => all.map((one) => one.href)")}
    assert {(site / name).as_uri() for name in ("results.html", "memory.html")} & pages
    assert all(url.startswith("file:") for url in asked)


def test_the_tutorial_shows_its_pictures(site: Path) -> None:
    text = (site / "tutorial.html").read_text(encoding="utf-8")
    assert text.count("data:image/png;base64,") >= 6
    assert "<table>" in text
