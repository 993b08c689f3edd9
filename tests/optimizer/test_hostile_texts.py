"""Texts that mean more than a name are refused in one message, or shown harmlessly, wherever they stand."""

from __future__ import annotations

import copy
import csv
import io
import json
import warnings
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import optimizer
import scenarios
from scenarios import (
    Export,
    LorapackError,
    PlacedAdapter,
    Placement,
    Scenario,
    spreadsheet_cell,
    visible_lines,
)
from scenarios.exporters.targets import targets
from tests.hostile_texts import HOSTILE_TEXTS, OBEYED_TEXTS
from tests.optimizer.checking.plans import plan, scenario

TEXTS = (*HOSTILE_TEXTS, *OBEYED_TEXTS)
PLACES: dict[str, tuple[str | int, ...]] = {
    "name": ("name",),
    "description": ("description",),
    "model": ("model",),
    "adapter": ("adapters", 0, "name"),
    "served name": ("adapters", 0, "served_name"),
    "source": ("adapters", 0, "source"),
    "device": ("devices", 0, "name"),
    "profile": ("devices", 0, "profile"),
    "exported name": ("export", "name"),
    "exported model": ("export", "model"),
    "exported image": ("export", "image"),
    "exported user": ("export", "user"),
}

Lorapack = Callable[..., tuple[int, str, str]]


def with_text(place: str, text: str) -> Scenario | str:
    """The scenario with a text in a place, or why it is refused."""
    root: Any = copy.deepcopy(scenario().model_dump(mode="json", exclude_defaults=True))
    *above, last = PLACES[place]
    inner = root
    for key in above:
        inner = inner[key]
    inner[last] = text
    try:
        return scenarios.from_mapping(root)
    except LorapackError as error:
        return str(error)


def is_harmless(text: str) -> bool:
    """Whether nothing in a text of several lines is obeyed or hidden."""
    return visible_lines(text) == text


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("text", TEXTS, ids=lambda text: ascii(text[:12]))
def test_a_text_is_refused_in_one_message_or_kept_as_it_is(place: str, text: str) -> None:
    made = with_text(place, text)
    if isinstance(made, str):
        assert is_harmless(made)
        assert len(made) < 1000
        return
    assert scenarios.loads(scenarios.dumps(made)) == made
    assert scenarios.from_mapping(json.loads(made.model_dump_json())) == made


def test_adapters_and_exported_names_keep_to_their_patterns() -> None:
    for text in TEXTS:
        for place in ("adapter", "exported name", "exported image", "exported user"):
            assert isinstance(with_text(place, text), str), (place, text[:20])


def hostile_plan(text: str) -> optimizer.Result:
    """A plan of a scenario that is full of a text, as far as it may be."""
    made, whole = plan(), scenario()
    accepted = [place for place in PLACES if isinstance(with_text(place, text), Scenario)]
    changes: dict[str, Any] = {}
    if "name" in accepted:
        changes["name"] = text
    if "description" in accepted:
        changes["description"] = text
    if "device" in accepted:
        changes["devices"] = (whole.devices[0].model_copy(update={"name": text}),)
    assert made.placement is not None
    gpus = tuple(
        gpu.model_copy(update={"device": changes["devices"][0].name if "devices" in changes else gpu.device})
        for gpu in made.placement.gpus
    )
    known = {"source": text} if "source" in accepted else {}
    known |= {"served_name": text} if "served name" in accepted else {}
    placement = made.placement.model_copy(
        update={"gpus": gpus, "adapters": {"team-1": PlacedAdapter(**known)} if known else {}}
    )
    result = made.model_copy(
        update={"scenario": whole.model_copy(update=changes), "placement": placement, "message": text[:300]}
    )
    assert isinstance(result, optimizer.Result)
    return result


def exported(placement: Placement, target: str) -> Export | str:
    """The files of a plan, or why a target has none."""
    try:
        return scenarios.export(placement, target)
    except LorapackError as error:
        return str(error)


class Elements(HTMLParser):
    """Elements of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take an element, with what it does."""
        self.found |= {tag, *(name for name, _ in attrs if name.startswith("on"))}


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: ascii(text[:12]))
def test_a_plan_shows_its_texts_harmlessly(text: str, tmp_path: Path) -> None:
    result = hostile_plan(text)
    assert is_harmless(result.summary())
    page = Elements()
    page.feed(result._repr_html_())
    assert not page.found & {"script", "img", "onerror"}
    assert json.loads(result.to_json())["gpus"] == 2
    rows = csv.reader(io.StringIO(result.to_frame().map(spreadsheet_cell).to_csv()))
    assert all(cell[:1] not in ("=", "@", "+", "\t") for row in rows for cell in row)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a font without a glyph
        result.plot(tmp_path / "plan.png")
    assert (tmp_path / "plan.png").stat().st_size > 1000


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: ascii(text[:12]))
def test_a_placement_is_written_and_exported_with_its_texts_or_not_at_all(text: str, tmp_path: Path) -> None:
    placement = hostile_plan(text).placement
    assert placement is not None
    for name in ("plan.yaml", "plan.json"):
        scenarios.write_placement(placement, tmp_path / name)
        assert scenarios.read_placement(tmp_path / name) == placement
    described = placement.model_copy(
        update={"model": "org/base", "engine_version": "0.10.0", "engine": scenario().engine}
    )
    for target in targets():
        made = exported(described, target)
        paths = [] if isinstance(made, str) else [file.path for file in made.files]
        assert all(not path.startswith(("/", "..")) and "/../" not in path for path in paths)
        if isinstance(made, str):
            assert is_harmless(made)
        elif not text.isascii() or not text.isprintable():
            shown = [is_harmless(file.text.replace("\t", " ")) for file in made.files]
            assert all(shown), (target, made.files[shown.index(False)].path)


@pytest.mark.parametrize("text", [t for t in TEXTS if "/" not in t and "\0" not in t and "\ud800" not in t])
def test_a_file_of_any_name_is_told_harmlessly(text: str, tmp_path: Path, lorapack: Lorapack) -> None:
    path = tmp_path / f"{text[:60]}.yaml"
    path.write_text("name: x\n")
    code, _, said = lorapack("scenarios", "check", str(path))
    assert code == 2
    assert is_harmless(said)
    code, _, said = lorapack("validate", str(path), str(tmp_path / f"{text[:60]}.json"))
    assert code == 2
    assert is_harmless(said)


def test_a_name_that_is_too_long_for_a_file_is_refused(tmp_path: Path, lorapack: Lorapack) -> None:
    code, _, said = lorapack("scenarios", "check", str(tmp_path / ("x" * 10_000)))
    assert code == 2
    assert "Traceback" not in said
