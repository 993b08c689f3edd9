"""What the commands write: refused before the work, or after the answer each whatever becomes of others."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.main import get_command

import learn
import optimizer
import scenarios
import twin
from optimizer.cli.commands import app
from scenarios import visible_lines

Lorapack = Callable[..., tuple[int, str, str]]

HOSTILE = "=cmd()\n\x1b[2J\x9b\u202e\u200b[red]:bug: $\\frac$ 😀"
SHOWN = r"=cmd()\n\x1b[2J\x9b\u202e\u200b[red]:bug: $\frac$ 😀"

needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")


@pytest.fixture(scope="module")
def scenario() -> scenarios.Scenario:
    """A scenario with a name that no terminal, spreadsheet or picture should obey."""
    quick = ["acceptance=paper", "replications=1", "workload.duration_s=60"]
    return scenarios.read("paper_high_32", quick).model_copy(update={"name": HOSTILE})


@pytest.fixture(scope="module")
def result(scenario: scenarios.Scenario) -> optimizer.Result:
    return optimizer.solve(scenario, method="maxbackbone", gpus=12)


@pytest.fixture
def file(scenario: scenarios.Scenario, tmp_path: Path) -> Path:
    path = tmp_path / "in.yaml"
    scenarios.write(scenario, path)
    return path


@pytest.fixture
def solved(monkeypatch: pytest.MonkeyPatch, result: optimizer.Result) -> None:
    """The work is done at once."""
    monkeypatch.setattr(optimizer, "solve", lambda *_, **__: result)
    monkeypatch.setattr(optimizer, "compare", lambda *_, **__: optimizer.Comparison((result, result)))


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """No work may begin."""

    def begun(*_: object, **__: object) -> None:
        raise AssertionError("the work has begun")

    for verb in ("solve", "compare", "replan"):
        monkeypatch.setattr(optimizer, verb, begun)
    for verb in ("validate", "simulate", "calibrate", "fidelity"):
        monkeypatch.setattr(twin, verb, begun)
    monkeypatch.setattr(learn, "sample", begun)


@pytest.fixture
def placement(result: optimizer.Result, tmp_path: Path) -> Path:
    path = tmp_path / "placement.json"
    assert result.placement is not None
    scenarios.write_placement(result.placement, path)
    return path


@pytest.fixture
def command(file: Path, placement: Path, tmp_path: Path) -> Callable[[str], list[str]]:
    """The start of a command line, complete but for its outputs."""
    table = tmp_path / "serving_runs.csv"
    table.write_text("model\n")
    starts = {
        "solve": ["solve", str(file)],
        "compare": ["compare", "mixed_ranks", str(file)],
        "replan": ["replan", str(file), "--from", str(placement)],
        "validate": ["validate", str(file), str(placement)],
        "simulate": ["simulate", str(file)],
        "fit": ["fit", str(file), "--assess", "--measured", str(table)],
        "fidelity": ["fidelity", str(table)],
        "calibrate": ["calibrate", str(tmp_path), "--model", "llama-3.1-8b-instruct"],
        "show": ["scenarios", "show", str(file)],
    }
    return starts.__getitem__


DRAWN = ("solve", "compare", "replan", "validate", "simulate", "fit", "fidelity", "calibrate")
"""Commands that draw their answer and read files."""

OPTIONS = [
    ("solve", "--json"),
    ("solve", "--placement"),
    ("compare", "--json"),
    ("compare", "--csv"),
    ("compare", "--plot"),
    ("replan", "--json"),
    ("replan", "--placement"),
    ("validate", "--json"),
    ("simulate", "--json"),
    ("fit", "--out"),
    ("fidelity", "--out"),
    ("calibrate", "--out"),
    ("show", "--json"),
    *((name, "--plot") for name in DRAWN if name not in ("compare", "calibrate")),  # which needs --out too
]


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize(("name", "option"), OPTIONS)
def test_a_missing_folder_is_noticed_before_the_work(
    name: str, option: str, lorapack: Lorapack, command: Callable[[str], list[str]], tmp_path: Path
) -> None:
    target = tmp_path / "none" / "out.png"
    code, out, err = lorapack(*command(name), option, str(target))
    assert (code, out) == (2, "")
    assert err == f"lorapack: {target} cannot be written; name a file in a folder that exists\n"


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize(("name", "option"), OPTIONS)
def test_a_read_only_file_is_refused_before_the_work(
    name: str, option: str, lorapack: Lorapack, command: Callable[[str], list[str]], tmp_path: Path
) -> None:
    target = tmp_path / "out.png"
    target.write_text("mine")
    target.chmod(0o444)
    code, _, err = lorapack(*command(name), option, str(target))
    assert code == 2
    assert "is read-only" in err
    assert target.read_text() == "mine"


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize("through_link", [False, True])
@pytest.mark.parametrize(
    ("name", "option", "read"),
    [
        ("solve", "--json", "in.yaml"),
        ("solve", "--placement", "in.yaml"),
        ("compare", "--csv", "in.yaml"),
        ("compare", "--plot", "in.yaml"),
        ("replan", "--json", "in.yaml"),
        ("replan", "--placement", "placement.json"),
        ("validate", "--json", "placement.json"),
        ("validate", "--json", "in.yaml"),
        ("simulate", "--json", "in.yaml"),
        ("fit", "--out", "in.yaml"),
        ("fit", "--out", "serving_runs.csv"),
        ("fidelity", "--out", "serving_runs.csv"),
        ("calibrate", "--out", "serving_runs.csv"),
        ("show", "--json", "in.yaml"),
    ],
)
def test_an_input_is_never_overwritten(
    name: str,
    option: str,
    read: str,
    through_link: bool,
    lorapack: Lorapack,
    command: Callable[[str], list[str]],
    tmp_path: Path,
) -> None:
    target = tmp_path / read
    start = command(name)
    before = target.read_bytes()
    if through_link:
        (tmp_path / "link").symlink_to(read)
        target = tmp_path / "link"
    code, out, err = lorapack(*start, option, str(target))
    assert (code, out) == (2, "")
    assert err == f"lorapack: {target} is what the command reads; name another file\n"
    assert (tmp_path / read).read_bytes() == before


@pytest.mark.usefixtures("idle")
def test_files_that_a_scenario_names_are_inputs_too(lorapack: Lorapack, tmp_path: Path) -> None:
    profile = tmp_path / "profile.json"
    twin.write_profile(twin.find_profile("llama-3.1-8b-instruct", "H100-64GB"), profile)
    trace = tmp_path / "trace.csv"
    trace.write_text("arrival_s\n1\n")
    changes = [
        f"devices={{name: mine, profile: {profile}}}",
        f"workload.arrivals={{process: trace, file: {trace}}}",
    ]
    settings = [word for change in changes for word in ("--set", change)]
    for target in (profile, trace):
        code, _, err = lorapack("solve", "paper_high_32", *settings, "--json", str(target))
        assert (code, err) == (2, f"lorapack: {target} is what the command reads; name another file\n")


@pytest.mark.usefixtures("idle")
def test_a_shipped_scenario_is_an_input_by_its_name_too(lorapack: Lorapack, tmp_path: Path) -> None:
    shipped = {one.name: one.path for one in scenarios.shipped()}
    (tmp_path / "link").symlink_to(shipped["mixed_ranks"])
    code, _, err = lorapack("solve", "mixed_ranks", "--json", str(tmp_path / "link"))
    assert code == 2
    assert "is what the command reads" in err


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize("second", ["out", "./out", "link", "hard"])
def test_two_outputs_are_two_files(
    second: str, lorapack: Lorapack, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if second == "hard":
        Path("out").write_text("old")
        os.link("out", "hard")
    else:
        Path("link").symlink_to("out")
    code, out, err = lorapack("solve", str(file), "--json", "out", "--placement", second)
    assert (code, out) == (2, "")
    assert "--json and --placement both name" in err


@pytest.mark.usefixtures("idle")
def test_standard_output_is_one_output(lorapack: Lorapack, file: Path) -> None:
    for arguments in (("--json", "-", "--csv", "-"), ("--json", "-", "--csv", "/dev/stdout")):
        code, _, err = lorapack("compare", str(file), *arguments)
        assert code == 2
        assert "--csv and --json both name" in err
    code, _, err = lorapack("solve", str(file), "--placement", "-")
    assert (code, err) == (2, "lorapack: --placement takes no -; name a file, or /dev/stdout\n")


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize("name", ["out.doc", "out", "out.jpg", "out.png.txt"])
def test_a_picture_of_no_known_format_is_refused_before_the_work(
    name: str, lorapack: Lorapack, command: Callable[[str], list[str]], tmp_path: Path
) -> None:
    for drawn in DRAWN:
        out_option = ["--out", str(tmp_path / "p.json")] if drawn == "calibrate" else []
        code, out, err = lorapack(*command(drawn), *out_option, "--plot", str(tmp_path / name))
        assert (code, out) == (2, ""), drawn
        assert "use a .png, .svg or .pdf file" in err


def test_every_command_with_a_picture_is_tested() -> None:
    group = get_command(app)
    drawn = {
        name
        for name, one in group.commands.items()  # type: ignore[attr-defined]
        if any("--plot" in parameter.opts for parameter in one.params)
    }
    assert drawn == {*DRAWN, "memory", "check"}


def test_a_verdict_and_a_run_are_told_and_drawn(
    lorapack: Lorapack, command: Callable[[str], list[str]], tmp_path: Path
) -> None:
    for name in ("validate", "simulate"):
        picture = tmp_path / f"{name}.svg"
        code, out, _ = lorapack(*command(name), "--plot", str(picture), "--quiet")
        assert code in (0, 1)
        assert "served" in out
        assert picture.stat().st_size > 2000


def test_a_plan_is_drawn(lorapack: Lorapack, tmp_path: Path) -> None:
    picture = tmp_path / "plan.svg"
    code, _, _ = lorapack("solve", "paper_mixed_32", "--method", "bfd", "--plot", str(picture), "--quiet")
    assert code == 0
    assert "<svg" in picture.read_text()


@pytest.mark.usefixtures("idle")
def test_every_wrong_output_is_named(lorapack: Lorapack, file: Path) -> None:
    code, _, err = lorapack("solve", str(file), "--json", "no/a.json", "--placement", "no/b.json")
    assert code == 2
    assert "no/a.json" in err
    assert "no/b.json" in err


@pytest.mark.usefixtures("solved")
def test_where_nothing_is_kept_two_outputs_may_go(lorapack: Lorapack, file: Path) -> None:
    assert lorapack("solve", str(file), "--json", os.devnull, "--placement", os.devnull)[0] in (0, 4)


@needs_full
@pytest.mark.usefixtures("solved")
def test_what_fails_stops_no_other_output(lorapack: Lorapack, file: Path, tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    code, out, err = lorapack("solve", str(file), "--json", "/dev/full", "--placement", str(plan))
    assert code == 2
    assert out.startswith(SHOWN[:40])
    assert err.splitlines() == [
        "lorapack: /dev/full cannot be written (No space left on device); make room or name a file elsewhere"
    ]
    assert scenarios.read_placement(plan).gpus
    table, picture = tmp_path / "table.csv", tmp_path / "picture.svg"
    code, out, err = lorapack(
        "compare", str(file), "--json", "/dev/full", "--csv", str(table), "--plot", str(picture)
    )
    assert code == 2
    assert "maxbackbone" in out
    assert len(err.splitlines()) == 1
    assert len(list(csv.DictReader(table.open()))) == 2
    assert picture.stat().st_size > 2000


@pytest.mark.usefixtures("solved")
def test_the_answer_is_told_before_anything_is_written(
    lorapack: Lorapack, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    monkeypatch.setattr("optimizer.cli.outputs.show", lambda *_: events.append("told"))
    monkeypatch.setattr("optimizer.cli.outputs.write_whole", lambda *_: events.append("json"))
    monkeypatch.setattr("optimizer.cli.outputs.write_placement", lambda *_: events.append("placement"))
    out, plan = str(tmp_path / "out.json"), str(tmp_path / "plan.yaml")
    lorapack("solve", str(file), "--json", out, "--placement", plan)
    assert events == ["told", "json", "placement"]


@pytest.mark.usefixtures("solved")
def test_a_fault_of_ours_stops_no_other_output(
    lorapack: Lorapack, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def faulty(_: optimizer.Result) -> str:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(optimizer.Result, "to_json", faulty)
    plan = tmp_path / "plan.yaml"
    with pytest.raises(RuntimeError, match="a fault of ours"):
        lorapack("solve", str(file), "--json", str(tmp_path / "out.json"), "--placement", str(plan))
    assert scenarios.read_placement(plan).gpus


@pytest.mark.usefixtures("solved")
def test_without_a_plan_no_placement_is_written(
    lorapack: Lorapack, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, result: optimizer.Result
) -> None:
    without = result.model_copy(update={"placement": None, "validation": None, "status": "no_plan"})
    monkeypatch.setattr(optimizer, "solve", lambda *_, **__: without)
    plan = tmp_path / "plan.yaml"
    code, _, err = lorapack("solve", str(file), "--placement", str(plan))
    assert (code, err) == (4, f"lorapack: {plan} is not written, as there is no plan\n")
    assert not plan.exists()


@pytest.mark.usefixtures("solved")
def test_hostile_names_are_shown_and_json_is_exact(
    lorapack: Lorapack, file: Path, scenario: scenarios.Scenario, tmp_path: Path
) -> None:
    assert scenarios.read(file) == scenario
    _, out, _ = lorapack("solve", str(file))
    assert visible_lines(out) == out
    assert SHOWN in out.replace("\n", "")
    _, out, _ = lorapack("compare", str(file), "--csv", str(tmp_path / "table.csv"))
    assert visible_lines(out) == out
    assert out.splitlines()[0].startswith(SHOWN)
    rows = list(csv.DictReader((tmp_path / "table.csv").open(encoding="utf-8")))
    assert {row["scenario"] for row in rows} == {f"'{SHOWN}"}
    _, out, _ = lorapack("compare", str(file), "--json", "-")
    assert {one["scenario"]["name"] for one in json.loads(out)} == {HOSTILE}
    _, out, _ = lorapack("scenarios", "show", str(file))
    assert visible_lines(out) == out
    _, out, _ = lorapack("scenarios", "show", str(file), "--json", "-")
    assert out.isascii()
    assert json.loads(out)["name"] == HOSTILE


@pytest.mark.usefixtures("solved")
def test_hostile_names_of_files_are_shown(lorapack: Lorapack, file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "\x1b[2J\u202e\n[red]"
    folder.mkdir()
    wrong = folder / "wrong.yaml"
    wrong.write_text('"\\e[2J": "\\u202e"')
    good = folder / "good.yaml"
    good.write_text(file.read_text(encoding="utf-8"), encoding="utf-8")
    code, out, err = lorapack("scenarios", "check", str(wrong), str(good))
    assert code == 2
    for text in (out, err):
        assert r"\x1b[2J\u202e" in text
        assert visible_lines(text) == text
    code, _, err = lorapack("solve", str(good), "--json", str(folder / "none" / "x"))
    assert code == 2
    assert visible_lines(err) == err
    code, _, err = lorapack("scenarios", "schema", "\x1b[2J")
    assert code == 2
    assert "\x1b[2J" not in err


@pytest.mark.parametrize("name", [r"$\frac$", "$x_$", HOSTILE, "$" * 200])
@pytest.mark.parametrize("ending", ["png", "svg", "pdf", "PNG"])
def test_a_name_is_text_in_a_picture(
    name: str, ending: str, result: optimizer.Result, tmp_path: Path
) -> None:
    named = result.model_copy(update={"scenario": result.scenario.model_copy(update={"name": name})})
    path = tmp_path / f"picture.{ending}"
    path.touch(mode=0o600)
    (tmp_path / f"link.{ending}").symlink_to(path)
    optimizer.Comparison((named,)).plot(tmp_path / f"link.{ending}")
    assert path.stat().st_size > 2000
    assert path.stat().st_mode & 0o777 == 0o600
