"""Standard output and error as a process has them: encodings, readers that leave, devices that are full."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from optimizer.cli.streams import note, say, say_exactly, standard_streams
from scenarios import OutputFileError

pytestmark = pytest.mark.slow  # processes of their own

Run = Callable[..., subprocess.CompletedProcess[bytes]]

COMMAND = [sys.executable, "-c", "from optimizer.cli import main; main()"]
FULL = Path("/dev/full")
ENCODINGS = [
    {"PYTHONIOENCODING": "latin-1"},
    {"LC_ALL": "C", "PYTHONUTF8": "0"},
]


@pytest.fixture
def run() -> Run:
    """Runs the command in a process of its own."""

    def started(*arguments: str, env: dict[str, str] | None = None, **files: object) -> object:
        files = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **files}
        environment = {**os.environ, "PYTHONIOENCODING": "utf-8", **(env or {})}
        if env and "PYTHONIOENCODING" not in env:
            del environment["PYTHONIOENCODING"]
        return subprocess.run([*COMMAND, *arguments], env=environment, timeout=300, **files)  # type: ignore[call-overload]

    return started  # type: ignore[return-value]


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    from scenarios import read, write

    path = tmp_path / "é–名.yaml"
    write(read("mixed_ranks", ['name="é – × → 名 \\e[2J"']), path)
    return path


@pytest.mark.parametrize("env", ENCODINGS, ids=lambda env: "-".join(env.values()))
def test_no_encoding_makes_output_fail(env: dict[str, str], run: Run, scenario: Path) -> None:
    listed = run("scenarios", "list", env=env)
    assert (listed.returncode, listed.stderr) == (0, b"")
    assert b"\n ---------" in listed.stdout
    shown = run("scenarios", "show", str(scenario), env=env)
    assert (shown.returncode, shown.stderr) == (0, b"")
    assert rb"\u540d" in shown.stdout
    assert b"\x1b" not in shown.stdout
    exact = run("scenarios", "show", str(scenario), "--json", "-", env=env)
    assert json.loads(exact.stdout)["name"] == "é – × → 名 \x1b[2J"
    wrong = run("scenarios", "check", str(scenario.with_name("名 nowhere")), env=env)
    assert wrong.returncode == 2
    assert b"does not exist" in wrong.stderr
    assert b"Traceback" not in wrong.stderr


def test_files_are_utf_8_whatever_the_locale(run: Run, scenario: Path, tmp_path: Path) -> None:
    (tmp_path / "plain.yaml").write_bytes(scenario.read_bytes())
    out = tmp_path / "out.json"
    done = run(
        "scenarios",
        "show",
        str(tmp_path / "plain.yaml"),
        "--json",
        str(out),
        env={"LC_ALL": "C", "PYTHONUTF8": "0"},
    )
    assert done.returncode == 0
    assert json.loads(out.read_text(encoding="utf-8"))["name"] == "é – × → 名 \x1b[2J"


def test_the_renderer_says_in_ascii_what_a_stream_cannot_encode(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding="ascii"))
    with standard_streams():
        say("a – b ─── 3 × 4 … 名 é\nnext \x1b[2J \udcff")
        say_exactly("–")
    assert raw.getvalue().decode("ascii") == ("a - b --- 3 x 4 ... \\u540d \\xe9\nnext \\x1b[2J \\udcff\n-\n")
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding="latin-1"))
    with standard_streams():
        say("3 × 4 é –")
    assert raw.getvalue() == b"3 \xd7 4 \xe9 -\n"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("scenarios", "schema"), 0),
        (("scenarios", "show", "paper_high_1024", "--json", "-"), 0),
        (("--help",), 1),
    ],
)
def test_a_reader_that_leaves_is_no_failure(arguments: tuple[str, ...], code: int, run: Run) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = run(*arguments, stdout=write)
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (code, b"")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(("scenarios", "check", "nowhere"), 2), (("solve", "nowhere"), 2), (("magic",), 1)],
)
def test_a_reader_of_stderr_may_leave(arguments: tuple[str, ...], code: int, run: Run) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = run(*arguments, stderr=write)
    finally:
        os.close(write)
    assert (done.returncode, done.stdout) == (code, b"")


def test_files_are_written_though_the_reader_of_the_table_left(run: Run, tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = run("scenarios", "list", "--json", str(tmp_path / "out.json"), stdout=write)
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads((tmp_path / "out.json").read_text())


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full")
@pytest.mark.parametrize("arguments", [("methods",), ("--help",), ("scenarios", "list", "--json", "-")])
def test_a_full_device_is_one_clear_error(arguments: tuple[str, ...], run: Run) -> None:
    with FULL.open("wb") as full:
        done = run(*arguments, stdout=full)
    assert done.returncode == 2
    assert done.stderr == b"lorapack: standard output cannot be written (No space left on device)\n"


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full")
def test_an_error_that_cannot_be_told_keeps_its_code(run: Run) -> None:
    with FULL.open("wb") as full:
        assert run("scenarios", "check", "nowhere", stderr=full).returncode == 2


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full")
def test_files_are_written_though_the_table_cannot_be(run: Run, tmp_path: Path) -> None:
    with FULL.open("wb") as full:
        done = run("scenarios", "list", "--json", str(tmp_path / "out.json"), stdout=full)
    assert done.returncode == 2
    assert json.loads((tmp_path / "out.json").read_text())


def test_json_to_a_stream_by_its_path_is_written_into_it(run: Run, tmp_path: Path) -> None:
    done = run("scenarios", "show", "mixed_ranks", "--json", "/dev/stdout")
    table, _, text = done.stdout.decode().partition("\n{")
    assert "96" in table
    assert json.loads("{" + text)["name"] == "mixed_ranks"
    done = run("scenarios", "show", "mixed_ranks", "--json", "/dev/stderr")
    assert json.loads(done.stderr)["name"] == "mixed_ranks"
    log = tmp_path / "log"
    with log.open("wb") as file:
        run("scenarios", "show", "mixed_ranks", "--json", "/dev/stdout", stdout=file)
    assert log.read_bytes().endswith(b"}\n")
    assert log.read_bytes().startswith(b"name: mixed_ranks")


def test_the_file_that_standard_output_goes_to_is_taken(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    with out.open("wb") as file:
        done = run("scenarios", "list", "--json", str(out), stdout=file)
    assert done.returncode == 2
    assert (
        done.stderr
        == f"lorapack: --json names {out}, where standard output goes; name another file\n".encode()
    )


def test_closed_streams_are_no_failure() -> None:
    command = f'"{sys.executable}" -c "from optimizer.cli import main; main()"'
    assert subprocess.run(["sh", "-c", f"{command} scenarios list >&-"], timeout=300).returncode == 0
    assert subprocess.run(["sh", "-c", f"{command} solve nowhere 2>&-"], timeout=300).returncode == 2


def test_a_stream_that_fails_is_told_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Full(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("sys.stdout", Full())
    with pytest.raises(OutputFileError, match="standard output cannot be written"):
        say("text")
    monkeypatch.setattr("sys.stderr", Full())
    note("no one hears it")
    assert capsys.readouterr().out == ""


def test_sentences_are_broken_at_blanks_to_the_width_and_keep_their_indent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from optimizer.cli.streams import wrapped

    monkeypatch.setenv("COLUMNS", "30")
    text = wrapped("problems\n  gpus hold one, two and three-and-more, which is long")
    assert text.split("\n") == [
        "problems",
        "  gpus hold one, two and",
        "  three-and-more, which is",
        "  long",
    ]
    assert wrapped("one, two, three, four, five, six", first="- ") == "- one, two, three, four, five,\n  six"
    assert wrapped("x" * 50) == "x" * 50
    assert wrapped("") == ""
