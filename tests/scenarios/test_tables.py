"""Tables show what they are given, and obey none of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from rich.cells import cell_len

from scenarios import visible_lines
from scenarios.text.tables import WIDTH, Column, Listing, Part, figures, item, marked, render, runs_of, table

HOSTILE = "[red]a[/] :bug: \x1b[2J\n\u202e"
SHOWN = r"[red]a[/] :bug: \x1b[2J\n\u202e"


def test_titles_cells_and_lines_are_only_shown() -> None:
    text = render("line [red] :bug: \x1b[2J", table(("column", "last"), [(HOSTILE, HOSTILE)], title=HOSTILE))
    lines = text.splitlines()
    assert lines[0] == r"line [red] :bug: \x1b[2J"
    assert lines[1].strip() == SHOWN
    assert text.count(SHOWN) == 3
    assert visible_lines(text) == text


def test_figures_stand_behind_their_labels() -> None:
    text = render(figures([("adapters", 1234), (HOSTILE, 0.5), ("none", None)]))
    assert text.splitlines() == [
        f"{'adapters':<{len(SHOWN)}} 1234",
        f"{SHOWN} 0.5",
        f"{'none':<{len(SHOWN)}} –",
    ]


COLUMNS = (Column(">GPU"), Column("device", 2), Column("twin"), Column(">served", 1), "reason")
ROWS = [(0, "H100-64GB", "accepted", 14_236.4, None), (1, "L40S", "REJECTED", 7.0, "too much " * 9)]


@pytest.fixture
def fitted(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Renders in so many columns."""

    def rendered(width: int, *parts: Part) -> str:
        monkeypatch.setenv("COLUMNS", str(width))
        return render(*parts)

    return rendered


@pytest.mark.parametrize("width", [20, 30, 40, 50, 60, 80, 100, 140])
def test_no_line_is_wider_than_the_terminal(fitted: Callable[..., str], width: int) -> None:
    listing = Listing("GPU 0", [f"adapter-{k}" for k in range(0, 40, 2)])
    text = fitted(width, table(COLUMNS, ROWS, title="a title"), listing, item("words " * 30))
    assert max(map(cell_len, text.splitlines())) <= width
    assert "accepted" in text
    assert "…" not in text


def test_the_least_important_columns_go_first(fitted: Callable[..., str]) -> None:
    wide, without_device, without_served = (fitted(width, table(COLUMNS, ROWS)) for width in (80, 56, 48))
    assert all(heading in wide for heading in ("GPU", "device", "twin", "served", "reason"))
    assert "too narrow" not in wide
    assert "(too narrow for: device)" in without_device
    assert "14,236" in without_device
    assert "(too narrow for: device, served)" in without_served
    assert "14,236" not in without_served


def test_below_that_every_row_is_a_block_with_all_its_cells(fitted: Callable[..., str]) -> None:
    lines = fitted(20, table(COLUMNS, ROWS[:1], title="a title")).splitlines()
    assert lines == [
        "a title",
        "",
        "GPU    0",
        "device H100-64GB",
        "twin   accepted",
        "served 14,236",
        "reason –",
    ]


def test_wide_characters_are_counted_as_they_are_shown(fitted: Callable[..., str]) -> None:
    rows = [("名" * 15, "x" * 10)]
    assert "too narrow" in fitted(43, table([Column("name"), Column(">other", 1)], rows))
    assert "too narrow" not in fitted(44, table([Column("name"), Column(">other", 1)], rows))


def test_without_a_terminal_and_columns_a_line_is_a_hundred_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr("os.get_terminal_size", no_terminal)
    assert max(map(len, render("x " * 500).splitlines())) in (WIDTH - 1, WIDTH)


def no_terminal(*_: object) -> object:
    raise OSError("no terminal")


def test_marks_are_colours_and_nothing_else() -> None:
    parts = [
        table(["a", ">b"], [(marked("x", "good"), marked(1.5, "bad"))]),
        marked("close", "close"),
        "plain",
    ]
    coloured, plain = render(*parts, colour=True), render(*parts)
    assert "\x1b[32mx\x1b[0m" in coloured
    assert "\x1b[31m1.5\x1b[0m" in coloured
    assert "\x1b[33mclose\x1b[0m" in coloured
    assert "\x1b" not in plain
    assert marked(HOSTILE, "bad").plain == SHOWN


@pytest.mark.parametrize(
    ("names", "runs"),
    [
        (["a-1", "a-2", "a-3"], ["a-1 ... a-3"]),
        (["a-3", "a-1", "a-2", "b"], ["a-1 ... a-3", "b"]),
        (["a-1", "a-2"], ["a-1", "a-2"]),
        (["a-09", "a-10", "a-11", "a-13"], ["a-09 ... a-11", "a-13"]),
        (["x", "y", "z"], ["x", "y", "z"]),
        (["1", "2", "3"], ["1 ... 3"]),
        (["a", "a0", "a1", "a2"], ["a", "a0 ... a2"]),
        (["a-1", "b-2", "c-3"], ["a-1", "b-2", "c-3"]),
        ([], []),
    ],
)
def test_names_in_a_row_are_a_range(names: list[str], runs: list[str]) -> None:
    found = runs_of(names)
    assert [run.text for run in found] == runs
    assert sum(run.names for run in found) == len(names)


def test_a_listing_counts_what_it_has_no_room_for(fitted: Callable[..., str]) -> None:
    names = ["hot-01", "hot-02", "hot-03", "cold-1", "cold-3", "cold-5", HOSTILE]
    assert (
        fitted(100, Listing("GPU 0", names)) == f"GPU 0: {SHOWN}, cold-1, cold-3, cold-5, hot-01 ... hot-03"
    )
    assert fitted(40, Listing("GPU 0", names[:6])) == "GPU 0: cold-1, cold-3, cold-5 and 3 more"
    assert fitted(12, Listing("GPU 0", names)) == "GPU 0"
    assert fitted(30, Listing("GPU 0", [])) == "GPU 0"


@pytest.mark.parametrize("width", range(20, 60))
def test_no_line_breaks_between_a_number_and_its_unit(fitted: Callable[..., str], width: int) -> None:
    said = "serves 85.8 % of 1,000 tokens/s, below 90 %, in 20 ms or 3 s, at 2 GPUs and 8 GiB, 7 samples"
    cells = table((">GPU", "reason"), [(0, said)])
    for part in (said, marked(said, "bad"), item(said), cells):
        lines = [line.strip() for line in fitted(width, part).splitlines()]
        assert not [line for line in lines if line.startswith(("%", "ms", "tokens", "s ", "GPUs", "GiB"))]
        assert "\ue000" not in "".join(lines)
        assert said in " ".join(lines) or part is cells


def test_what_stands_for_a_space_is_not_taken_from_a_text() -> None:
    assert render("a\ue000b") == r"a\ue000b"
