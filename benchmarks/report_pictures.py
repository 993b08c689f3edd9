"""Pictures of the page of a report, for `docs/report.md`: its top, and the GPUs of other loads.

They are taken in Chromium, in light and at 1280 pixels, of a report of a shipped scenario whose GPUs are
given a price. Run from the repository's root, with the extra ``test`` installed::

    python -m benchmarks.report_pictures --out docs/pictures
    python -m benchmarks.report_pictures --contents report.json --out pictures/pictures

Takes about two minutes with the defaults, most of them for the plan and for what if.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

import optimizer
import scenarios
from optimizer.reporting.contents import ReportContents
from optimizer.reporting.page import render_page

WIDTH = 1280
HEIGHT = 1060
COLOURS = 96
"""Of a picture: as many as text and flat tiles need, so that it stays small."""

PICTURES = {"report.png": "main", "report-what-if.png": "p0-if"}
"""Files, and the part of the page that stands at the top of each."""


def contents_of(name: str, price: float, workers: int) -> ReportContents:
    """What the report of a shipped scenario shows, at a price per GPU and hour."""
    scenario = scenarios.override(scenarios.read(name), f"devices[0].price_per_hour={price}")
    return optimizer.report(optimizer.solve(scenario, workers=workers), workers=workers).contents


def take(contents: ReportContents, folder: Path, chromium: str) -> None:
    """Take the pictures of a report's page."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as made, sync_playwright() as playwright:
        path = Path(made) / "report.html"
        path.write_text(render_page(contents), encoding="utf-8")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.goto(path.as_uri())
        page.wait_for_selector("#p0-time .chart svg")
        for name, part in PICTURES.items():
            save(folder / name, picture(page, part))
        browser.close()


def picture(page: Any, part: str) -> bytes:
    """What is seen when the page is at one of its parts."""
    page.evaluate("(part) => document.getElementById(part).scrollIntoView()", part)
    page.wait_for_timeout(300)
    taken: bytes = page.screenshot()
    return taken


def save(path: Path, taken: bytes) -> None:
    """Write a picture with few colours."""
    small = io.BytesIO()
    Image.open(io.BytesIO(taken)).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(
        small, format="PNG", optimize=True
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(small.getvalue())
    print(f"{path}: {len(small.getvalue()) / 1024:.0f} KiB")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenario", default="paper_high_128", help="a shipped one (default: %(default)s)")
    parser.add_argument("--price", type=float, default=3.0, help="per GPU and hour (default: %(default)s)")
    parser.add_argument("--contents", type=Path, help="JSON of a report to show instead (default: none)")
    parser.add_argument("--workers", type=int, default=2, help="threads (default: %(default)s)")
    parser.add_argument(
        "--out", type=Path, default=Path("docs/pictures"), help="folder (default: %(default)s)"
    )
    args = parser.parse_args()
    if args.contents is None:
        contents = contents_of(args.scenario, args.price, args.workers)
    else:
        contents = ReportContents.model_validate_json(args.contents.read_text(encoding="utf-8"))
    chromium = os.environ.get("LORAPACK_CHROMIUM") or shutil.which("chromium")
    if chromium is None:
        parser.error("no Chromium: install it, or set LORAPACK_CHROMIUM to its path")
    take(contents, args.out, chromium)


if __name__ == "__main__":
    main()
