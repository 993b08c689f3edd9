"""Replay reproduces what vLLM's own scheduler did, and says what is wrong with a damaged schedule."""

from __future__ import annotations

import copy
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import twin
from scenarios import LorapackError, OutputFileError, ScenarioError
from twin.schedules.replay import first_difference
from twin.schedules.schedule import ScheduleResult

VERSIONS = sorted((Path(__file__).parent / "data" / "vllm_versions").glob("*/*.json.gz"))

FILES = sorted((Path(__file__).parent / "data" / "vllm_schedules").glob("*/*.json.gz"))


def read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(gzip.decompress(path.read_bytes()))
    return document


@pytest.fixture
def small() -> dict[str, Any]:
    document = read(FILES[0])
    return {**document, "requests": document["requests"][:5]}


def test_all_schedules_are_here() -> None:
    assert len(FILES) == 48


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}/{p.name.split('.')[0]}")
def test_recorded_schedules_are_reproduced(path: Path) -> None:
    recorded = read(path)
    without_answer = {key: value for key, value in recorded.items() if key != "result"}
    got, expected = twin.replay(without_answer)["result"], recorded["result"]
    np.testing.assert_allclose(got["finish_s"], expected["finish_s"], rtol=1e-9, atol=0)
    np.testing.assert_allclose(got["ttft_s"], expected["ttft_s"], rtol=1e-9, atol=0)
    assert got["preemptions"] == expected["preemptions"]
    assert got["steps"] == expected["steps"]


@pytest.mark.parametrize("path", VERSIONS, ids=lambda p: "/".join(p.parts[-2:]).split(".json")[0])
def test_schedules_of_every_version_are_reproduced(path: Path, recorded: ModuleType) -> None:
    for name, document in recorded.read(path):
        got = twin.replay({key: value for key, value in document.items() if key != "result"})["result"]
        made, expected = (ScheduleResult.model_validate(one) for one in (got, document["result"]))
        assert not first_difference(expected, made), name


def test_the_document_keeps_its_form(small: dict[str, Any]) -> None:
    before = copy.deepcopy(small)
    result = twin.replay(small)
    assert small == before
    assert {key: value for key, value in result.items() if key != "result"} == {
        key: value for key, value in small.items() if key != "result"
    }
    assert json.loads(json.dumps(result)) == result


def test_files_are_written_whole_under_their_names(tmp_path: Path, small: dict[str, Any]) -> None:
    (tmp_path / "in").mkdir()
    sources = [tmp_path / "in" / name for name in ("a.json", "b.json")]
    for source in sources:
        source.write_text(json.dumps(small))
    written = [schedule.written for schedule in twin.replay_files(sources, tmp_path / "out")]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.json", "b.json"]
    assert all(json.loads(path.read_text()) == twin.replay(small) for path in written)
    assert all("the twin" in str(twin.replay_files([path], tmp_path / "again")[0]) for path in sources)


def test_a_recording_is_not_overwritten(tmp_path: Path, small: dict[str, Any]) -> None:
    sources = [tmp_path / "a.json", tmp_path / "b.json"]
    for source in sources:
        source.write_text(json.dumps(small))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "b.json").symlink_to(sources[0])
    for folder in (tmp_path, tmp_path / "out"):
        with pytest.raises(OutputFileError, match="is what the command reads"):
            twin.replay_files(sources, folder)
    assert not (tmp_path / "out" / "a.json").exists()
    assert [json.loads(source.read_text()) for source in sources] == [small, small]


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    for other in ("a.json", "a.json.gz"):
        with pytest.raises(ScenarioError, match=r'the name "a\.json" is that of two files'):
            twin.replay_files([tmp_path / "x" / "a.json", tmp_path / "y" / other], tmp_path / "out")


def test_an_answer_ends_at_max_model_len(small: dict[str, Any]) -> None:
    small["engine"] = {**small["engine"], "max_model_len": 100}
    small["requests"] = [[0.0, 50, 1000, 0]]
    rows = twin.replay(small)["result"]["steps"]["rows"]
    assert len(rows) == 100 - 50


def test_requests_that_the_horizon_cuts_have_no_times(small: dict[str, Any]) -> None:
    whole = twin.replay(small)["result"]["finish_s"]
    cut = twin.replay({**small, "horizon_s": sorted(whole)[2] + 1e-6})["result"]["finish_s"]
    assert sum(value is None for value in cut) == len(whole) - 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"requests": [[1.0, 5, 5, 0], [0.5, 5, 5, 0]]}, r"requests\[1\] arrives at 0.5 s"),
        ({"requests": [[0.0, 0, 5, 0]]}, r"requests\[0\]\[1\] is 0; give at least 1"),
        ({"requests": [[0.0, 5, 5]]}, r"requests\[0\]\[3\] is missing"),
        ({"requests": [[float("nan"), 5, 5, 0]]}, r"requests\[0\]\[0\] is nan; give a finite number"),
        ({"requests": "none"}, 'requests is the text "none"; give a list'),
        ({"latency": {"base_s": 0.01}}, r"latency\.per_token_s is missing"),
        (
            {"latency": {"base_s": -1, "per_token_s": 0, "per_adapter_s": 0}},
            r"latency\.base_s is -1; give at least 0",
        ),
        ({"engine": {}}, r"engine\.version is missing"),
        ({"engine": None}, "engine is empty"),
        ({"horizon_s": -1.0}, "horizon_s is -1; give a number above 0"),
    ],
)
def test_a_damaged_schedule_is_explained(small: dict[str, Any], change: dict[str, Any], message: str) -> None:
    with pytest.raises(ScenarioError, match=message):
        twin.replay({**small, **change})


def test_a_version_that_is_none_is_explained(small: dict[str, Any]) -> None:
    small["engine"] = {**small["engine"], "version": "newest"}
    with pytest.raises(ScenarioError, match=r'engine\.version is "newest", no version of vLLM; write it'):
        twin.replay(small)


def test_a_request_that_never_fits_is_refused(small: dict[str, Any]) -> None:
    small["engine"] = {**small["engine"], "num_blocks": 3}
    small["requests"] = [[0.0, 90, 10, 0]]
    with pytest.raises(twin.UnservableRequestError, match="needs 7 KV blocks, but the engine has 2"):
        twin.replay(small)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff\xfe\x00", b'{"engine": 1}', b"[" * 100_000])
def test_a_file_that_is_no_schedule_is_explained(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(LorapackError, match=r"bad\.json"):
        twin.replay(path)


def test_a_file_that_is_not_there_is_explained(tmp_path: Path) -> None:
    for name in ("absent.json", "absent.json.gz"):
        with pytest.raises(ScenarioError, match="does not exist; check its name and folder"):
            twin.replay(tmp_path / name)


def test_compressed_files_are_read_and_plain_ones_written(tmp_path: Path) -> None:
    (schedule,) = twin.replay_files([FILES[0]], tmp_path)
    assert schedule.written == tmp_path / FILES[0].name.removesuffix(".gz")
    assert json.loads(schedule.written.read_text()) == twin.replay(FILES[0])
    assert str(schedule).endswith(f"steps, agrees with the recorded schedule; {schedule.written}")


@pytest.mark.parametrize(
    "content", [b"{}", gzip.compress(b"{}", mtime=0)[:-9], gzip.compress(b"\xff\xfe\x00", mtime=0)]
)
def test_a_damaged_compressed_file_is_explained(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.json.gz"
    path.write_bytes(content)
    with pytest.raises(ScenarioError, match="is no text compressed by gzip; name a schedule as JSON"):
        twin.replay(path)


def shifted(result: dict[str, Any]) -> None:
    result["steps"]["rows"][7][1] += 1


def shorter(result: dict[str, Any]) -> None:
    del result["steps"]["rows"][-1]


def unfinished(result: dict[str, Any]) -> None:
    result["finish_s"][2] = None


def later(result: dict[str, Any]) -> None:
    result["finish_s"][1] *= 1.00001


def rounded(result: dict[str, Any]) -> None:
    result["finish_s"] = [instant * (1 + 1e-12) for instant in result["finish_s"]]


def test_instants_may_differ_by_rounding_alone() -> None:
    recorded = read(FILES[0])["result"]
    plain = ScheduleResult.model_validate(recorded)
    for change, difference in ((rounded, ""), (later, "request 2 has finish_s ")):
        other = copy.deepcopy(recorded)
        change(other)
        found = first_difference(plain, ScheduleResult.model_validate(other))
        assert found.startswith(difference)
        assert bool(found) == bool(difference)


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (shifted, "step 8 (at 0.257568 s) has scheduled_tokens 65, the twin 64"),
        (shorter, "steps, the twin"),
        (unfinished, "request 3 has finish_s none, the twin "),
    ],
)
def test_the_first_difference_is_told(
    change: Callable[[dict[str, Any]], None], difference: str, tmp_path: Path
) -> None:
    document = read(FILES[0])
    change(document["result"])
    path = tmp_path / "a.json"
    path.write_text(json.dumps(document))
    (schedule,) = twin.replay_files([path], tmp_path / "out")
    assert schedule.recorded
    assert difference in schedule.difference
    assert f"DIFFERS from the recorded schedule: {schedule.difference}" in str(schedule)


def test_a_schedule_without_a_result_is_replayed_and_says_so(tmp_path: Path, small: dict[str, Any]) -> None:
    del small["result"]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(small))
    (schedule,) = twin.replay_files([path], tmp_path / "out")
    assert not schedule.recorded
    assert schedule.difference == ""
    assert "no recorded result to compare with" in str(schedule)


def test_all_files_are_read_before_one_is_written(tmp_path: Path, small: dict[str, Any]) -> None:
    good, bad = tmp_path / "a.json", tmp_path / "b.json"
    good.write_text(json.dumps(small))
    bad.write_text("{")
    with pytest.raises(ScenarioError, match="is not valid JSON"):
        twin.replay_files([good, bad], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_result_of_another_form_is_explained(tmp_path: Path, small: dict[str, Any]) -> None:
    small["result"]["steps"]["columns"][0] = "begin"
    path = tmp_path / "a.json"
    path.write_text(json.dumps(small))
    with pytest.raises(ScenarioError, match=r"result\.steps\.columns are begin, .*; give start_s, "):
        twin.replay_files([path], tmp_path / "out")
