"""Files of the requests of a measured run: what is read back, and what is refused."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from scenarios.reading.row_files import TraceError
from twin import Requests
from twin.engine.run import simulate_requests
from twin.measured import sent_requests
from twin.measured.replayed import run_setup
from twin.measured.sent_requests import read_requests, write_requests

HEADER = "arrival_s,adapter,prompt_tokens,output_tokens,follows\n"


def written(folder: Path, text: str) -> Path:
    path = folder / "requests.csv"
    path.write_text(text)
    return path


def chain() -> Requests:
    """Two that come by themselves, and three that follow."""
    return Requests(
        arrival_s=np.array([0.0, 1.5, 0.0, 0.25, 2.0]),
        prompt_tokens=np.array([5, 6, 7, 8, 9], dtype=np.int32),
        output_tokens=np.array([1, 2, 3, 4, 5], dtype=np.int32),
        adapter=np.array([0, 2, 0, 2, 1], dtype=np.int32),
        n_adapters=3,
        follows=np.array([-1, -1, 0, 1, 3], dtype=np.int32),
    )


def assert_same(left: Requests, right: Requests) -> None:
    for name in ("arrival_s", "prompt_tokens", "output_tokens", "adapter", "follows"):
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name), err_msg=name)
    assert left.n_adapters == right.n_adapters


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    write_requests(chain(), path)
    assert_same(read_requests(path, 3), chain())
    packed = tmp_path / "a.csv.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert_same(read_requests(packed, 3), chain())


def test_rows_may_be_in_any_order_and_follow_by_their_place(tmp_path: Path) -> None:
    rows = "2,1,9,5,1\n0.25,2,8,4,3\n0,0,7,3,4\n1.5,2,6,2,\n0,0,5,1,-1\n"
    found = read_requests(written(tmp_path, HEADER + rows), 3)
    assert found.arrival_s[:2].tolist() == [0.0, 1.5]
    assert found.follows is not None
    # By their prompts, which are all different: 7 follows 5, 8 follows 6, 9 follows 8.
    of = {int(found.prompt_tokens[k]): int(w) for k, w in enumerate(found.follows)}
    whom = {own: int(found.prompt_tokens[w]) for own, w in of.items() if w >= 0}
    assert whom == {7: 5, 8: 6, 9: 8}


def test_without_the_column_nothing_follows(tmp_path: Path) -> None:
    path = written(tmp_path, "adapter,arrival_s,prompt_tokens,output_tokens,note\n0,1,2,3,x\n1,0.5,2,3,y\n")
    found = read_requests(path, 2)
    assert found.follows is None
    assert found.arrival_s.tolist() == [0.5, 1.0]
    assert found.adapter.tolist() == [1, 0]


def test_a_closed_loop_is_played_from_its_file(tmp_path: Path, small_engine: ModuleType) -> None:
    requests = small_engine.in_flight(4, 5, 2)
    write_requests(requests, tmp_path / "a.csv")
    stage = small_engine.Stage("a", read_requests(tmp_path / "a.csv", 16), "g")
    engine = small_engine.truth(tmp_path)
    run = small_engine.recorded(stage, 60.0)
    records = simulate_requests(stage.requests, run_setup(run, engine))
    assert records.finished.sum() == 20
    running = np.array([(records.sent_s <= t) & (t < records.finish_s) for t in records.finish_s[:-4] - 1e-9])
    assert (running.sum(axis=1) == 4).all()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("arrival_s,adapter,prompt_tokens\n0,0,1\n", "has no column output_tokens; its columns are"),
        (HEADER, "has no request; give a row for each"),
        ("", "is empty"),
        (HEADER + "0,0,1,1,\nx,0,1,1,\n", 'line 3: arrival_s is "x" (must be a finite number); correct or'),
        (HEADER + "-1,0,1,1,\n", 'line 2: arrival_s is "-1" (must be seconds from 0 to'),
        (HEADER + "nan,0,1,1,\n", 'line 2: arrival_s is "nan"'),
        (HEADER + "0,3,1,1,\n", 'line 2: adapter is "3" (must be a whole number from 0 to 2)'),
        (HEADER + "0,0.5,1,1,\n", 'line 2: adapter is "0.5" (must be a whole number'),
        (HEADER + "0,0,0,1,\n", 'line 2: prompt_tokens is "0" (must be a whole number from 1'),
        (HEADER + "0,0,1,,\n", 'line 2: output_tokens is ""'),
        (HEADER + "0,0,1,1,\n0,0,1,1,7\n", "line 3: follows is 7, but the last row is 1"),
        (HEADER + "0,0,1,1,-2\n", 'line 2: follows is "-2" (must be a whole number from -1'),
        (HEADER + "0,0,1,1,\n0,0,1,1,0\n0,0,1,1,0\n", "line 4: follows is 0, as of a row before it"),
        (HEADER + "0,0,1,1,0\n", "line 2: follows is 0, in a circle"),
        (HEADER + "0,0,1,1,\n0,0,1,1,2\n0,0,1,1,1\n", "line 3: follows is 2, in a circle"),
        ("[" + HEADER, "is a JSON array without objects"),
    ],
)
def test_damage_is_told_with_path_row_value_and_remedy(text: str, said: str, tmp_path: Path) -> None:
    path = written(tmp_path, text)
    with pytest.raises(TraceError, match=re.escape(said)) as caught:
        read_requests(path, 3)
    assert str(path) in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"gone\.csv: cannot be read .*; check its name"):
        read_requests(tmp_path / "gone.csv", 3)
    cut = tmp_path / "cut.csv.gz"
    cut.write_bytes(gzip.compress((HEADER + "0,0,1,1,\n" * 5000).encode())[:60])
    with pytest.raises(TraceError, match=r"cut\.csv\.gz: is damaged"):
        read_requests(cut, 3)


def test_a_file_of_endless_rows_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sent_requests, "MOST_REQUESTS", 3)
    path = written(tmp_path, HEADER + "0,0,1,1,\n" * 4)
    with pytest.raises(TraceError, match="has more than 3 requests; cut the run in parts"):
        read_requests(path, 3)
