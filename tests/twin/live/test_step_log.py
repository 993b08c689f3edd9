"""Steps that servers log: of several releases, of a file that grows, of damaged files."""

from __future__ import annotations

from pathlib import Path

import pytest

from scenarios import LorapackError
from twin.live import StepLine, StepLogError, read_steps

SERVER_LOG = Path(__file__).parents[1] / "data" / "real_engine" / "server.log"
"""From a server of 0.32.0: four lines before the first step, and 61 steps with what is logged between."""

FROM_0_14 = (
    "(EngineCore_DP0 pid=71) INFO 01-20 09:00:01 [core.py:350] Iteration(7): 2 context requests, "
    "300 context tokens, 5 generation requests, 5 generation tokens, iteration elapsed time: 12.50 ms\n"
)
FROM_0_26 = (
    "(APIServer pid=70) INFO 06-20 09:00:01 [loggers.py:199] Engine 000: Iteration(7): 2 context requests, "
    "300 context tokens, 5 generation requests, 5 generation tokens, iteration elapsed time: 12.50 ms, "
    "GPU KV cache usage: 3.1%, encoder inputs: 1, encoder output embeddings: 64\n"
)
DUMMY = FROM_0_14.replace("12.50 ms", "0.80 ms (dummy)")
STEP = StepLine(7, 2, 300, 5, 5, 12.5)


def log_of(tmp_path: Path, *lines: str | bytes) -> Path:
    path = tmp_path / "server.log"
    path.write_bytes(b"".join(line.encode() if isinstance(line, str) else line for line in lines))
    return path


def test_all_steps_of_a_real_log_are_read_in_their_order() -> None:
    read = read_steps(SERVER_LOG)
    assert [step.number for step in read.steps] == list(range(61))
    assert read.steps[0] == StepLine(0, 1, 35, 0, 0, 313.06)
    assert read.steps[4] == StepLine(4, 1, 15, 1, 1, 127.29)
    assert read.offset == SERVER_LOG.stat().st_size
    assert read.damaged == 0


@pytest.mark.parametrize("line", [FROM_0_14, FROM_0_26])
def test_lines_of_old_and_new_releases_say_the_same(tmp_path: Path, line: str) -> None:
    assert read_steps(log_of(tmp_path, line)).steps == [STEP]


def test_steps_without_requests_are_left_out_and_are_no_damage(tmp_path: Path) -> None:
    read = read_steps(log_of(tmp_path, DUMMY, FROM_0_14))
    assert read.steps == [STEP]
    assert read.damaged == 0


def test_a_log_that_grows_is_read_on_where_the_last_reading_ended(tmp_path: Path) -> None:
    half = FROM_0_26[: len(FROM_0_26) // 2]
    path = log_of(tmp_path, FROM_0_14, half)
    first = read_steps(path)
    assert first.steps == [STEP]
    assert first.offset == len(FROM_0_14)
    assert read_steps(path, first.offset) == ([], first.offset, 0)
    with path.open("a") as file:
        file.write(FROM_0_26[len(half) :])
    second = read_steps(path, first.offset)
    assert second.steps == [STEP]
    assert second.offset == path.stat().st_size


def test_every_way_to_cut_a_real_log_in_two_readings_gives_the_same_steps(tmp_path: Path) -> None:
    data = SERVER_LOG.read_bytes()
    whole = read_steps(SERVER_LOG).steps
    for cut in range(0, len(data), 211):
        path = log_of(tmp_path, data[:cut])
        first = read_steps(path)
        path.write_bytes(data)
        assert first.steps + read_steps(path, first.offset).steps == whole


def test_a_file_that_was_begun_anew_is_read_from_its_start(tmp_path: Path) -> None:
    assert read_steps(log_of(tmp_path, FROM_0_14), 10_000).steps == [STEP]


@pytest.mark.parametrize(
    "line",
    [
        FROM_0_26.replace("300 context", "3(Worker pid=9) WARNING: 00 context"),
        FROM_0_26.replace("12.50 ms", "12"),
        FROM_0_26.replace("5 generation requests, ", ""),
        FROM_0_26.replace("Iteration(7)", "Iteration(-7)"),
        FROM_0_26.encode().replace(b"context requests", b"context \xff\xfe requests"),
    ],
)
def test_damaged_lines_are_passed_over_and_counted(tmp_path: Path, line: str | bytes) -> None:
    read = read_steps(log_of(tmp_path, FROM_0_14, line, FROM_0_26))
    assert read.steps == [STEP, STEP]
    assert read.damaged == 1


def test_two_steps_in_one_line_are_both_read(tmp_path: Path) -> None:
    read = read_steps(log_of(tmp_path, FROM_0_26.rstrip("\n"), FROM_0_14))
    assert read.steps == [STEP, STEP]
    assert read.damaged == 0


def test_a_log_without_steps_has_none_whatever_its_bytes_are(tmp_path: Path) -> None:
    read = read_steps(log_of(tmp_path, bytes(range(256)) * 20, b"\nserving\n"))
    assert read.steps == []
    assert read.damaged == 0


def test_a_missing_log_is_told_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(StepLogError, match=r"none\.log: cannot be read .*name the file") as error:
        read_steps(tmp_path / "none.log")
    assert isinstance(error.value, LorapackError)
    with pytest.raises(StepLogError, match="cannot be read"):
        read_steps(tmp_path)
