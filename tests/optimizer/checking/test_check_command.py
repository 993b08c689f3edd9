"""``lorapack check --metrics``, as a user or a cron job types it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

import optimizer
from optimizer.checking import watching
from optimizer.cli import _tell
from optimizer.cli.commands import app
from scenarios import LorapackError, ScenarioError
from scenarios.errors import InputError
from tests.optimizer.checking.plans import files, plan, texts
from tests.small_server import Answer, answering
from twin.live import fetching

RUN = CliRunner()


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    Path("result.json").write_text(plan().to_json())


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Times pass at once; servers are asked as if they had. Returns the seconds that were waited."""
    waited: list[float] = []
    clock = SimpleNamespace(time=lambda: 1000.0 + sum(waited), monotonic=time.monotonic, sleep=time.sleep)
    monkeypatch.setattr(watching, "_wait", lambda seconds, *_: waited.append(seconds))
    monkeypatch.setattr(fetching, "time", clock)
    return waited


def check(*words: str) -> tuple[int, str]:
    done = RUN.invoke(app, ["check", "result.json", "--quiet", *words])
    if isinstance(done.exception, LorapackError):  # which the command tells outside of the runner
        return _tell(done.exception), f"{done.output}{done.exception}"
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


def named(gpu: int, times: float = 1.0, **changes: object) -> list[str]:
    paths = files(Path(), gpu, times, **changes)
    return [word for path in paths for word in ("--metrics", f"{gpu}={path}")]


def server_of(gpu: int, times: float = 1.0) -> Iterator[str]:
    """What a server answers at its metrics, time after time, without our headers."""
    for text in texts(gpu, times):
        yield re.sub("# time:.*\n", "", text)


def test_files_as_planned_end_with_0() -> None:
    code, told = check(*named(0), *named(1))
    assert code == 0, told
    assert "as planned: 2 GPUs read" in told


def test_files_of_more_traffic_end_with_3_and_json_says_why() -> None:
    code, told = check(*named(0, 1.5), *named(1), "--json", "drift.json")
    assert code == 3, told
    assert "NOT AS PLANNED" in told
    report = json.loads(Path("drift.json").read_text())
    assert report["as_planned"] is False
    assert {row["gpu"] for row in report["rows"] if row["verdict"] == "drift"} == {0}


def test_json_on_standard_output_stands_alone() -> None:
    code, told = check(*named(0), "--json", "-")
    assert code == 0
    assert json.loads(told)["unread"] == [1]


def test_servers_are_asked_twice_for_their_metrics_and_nothing_else(quick: list[float]) -> None:
    servers = [server_of(0), server_of(1)]
    with answering(lambda _: next(servers[0])) as zero, answering(lambda _: next(servers[1])) as one:
        code, told = check(
            "--metrics", f"0={zero.url}", "--metrics", f"1={one.url}/prefix/metrics", "--minutes", "2"
        )
    assert code == 0, told
    assert quick == [120.0]
    assert [(method, path) for method, path, _ in zero.asked] == [("GET", "/metrics")] * 2
    assert [(method, path) for method, path, _ in one.asked] == [("GET", "/prefix/metrics")] * 2


def test_a_busy_server_ends_with_3(quick: list[float]) -> None:
    server = server_of(0, 1.5)
    with answering(lambda _: next(server)) as zero:
        code, told = check("--metrics", f"0={zero.url}", "--minutes", "2")
    assert code == 3, told
    assert quick == [120.0]


def test_a_server_that_cannot_be_read_ends_with_1_and_the_others_are_told(quick: list[float]) -> None:
    server = server_of(0)
    with answering(lambda _: next(server)) as zero, answering(lambda _: Answer(status=503)) as one:
        code, told = check("--metrics", f"0={zero.url}", "--metrics", f"1={one.url}", "--minutes", "2")
    assert code == 1
    assert f"GPU 1: {one.url}/metrics: server error (5xx): HTTP 503" in told
    assert "as planned: 1 GPU read" in told
    assert len(one.asked) == 1  # not again
    assert quick


def test_a_server_that_dies_meanwhile_is_told(quick: list[float]) -> None:
    answers = iter([next(server_of(0)), Answer(status=500)])
    with answering(lambda _: next(answers)) as zero:
        code, told = check("--metrics", f"0={zero.url}")
    assert (code, quick) == (1, [60.0])
    assert "HTTP 500" in told


def test_a_page_in_place_of_metrics_is_told(quick: list[float]) -> None:
    with answering(lambda _: "<html>welcome</html>") as zero:
        code, told = check("--metrics", f"0={zero.url}/")
    assert (code, len(quick)) == (1, 1)
    assert f"{zero.url}/metrics: line 1" in told
    assert "no line of Prometheus' text format" in told


def test_a_key_is_sent_and_appears_nowhere(quick: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    server = server_of(0)
    with answering(lambda _: next(server)) as zero:
        _, told = check("--metrics", f"0={zero.url}", "--minutes", "2", "--json", "drift.json")
    assert zero.asked[0][2]["Authorization"] == "Bearer sk-very-secret"
    assert "sk-very" not in told + Path("drift.json").read_text()
    assert quick


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name what is to be compared"),
        (["--metrics", "gpu0"], "write GPU=FILE or GPU=URL"),
        (["--metrics", "0="], "write GPU=FILE or GPU=URL"),
        (["--metrics", "-1=a.prom"], "write GPU=FILE or GPU=URL"),
        (["--metrics", "0=http://a", "--metrics", "0=http://b"], "two addresses for 0"),
        (["--metrics", "0=http://a", "--metrics", "0=a.prom"], "files and an address for 0"),
        (["--metrics", "0=ftp://a/metrics"], "write it like http://"),
        (["--metrics", "0=http://u:p@a/metrics"], "holds a user"),
        (["--metrics", "0=http://a", "--metrics", "1=http://a/metrics"], "one server for two GPUs"),
        (["--metrics", "7=a.prom"], "are of GPU 7, which the plan has not"),
        (["--metrics", "0=missing.prom"], "missing.prom"),
        (["--metrics", "0=result.json"], "result.json"),
    ],
)
def test_wrong_usage_and_files_end_with_2(words: list[str], message: str) -> None:
    code, told = check(*words)
    assert code == 2, told
    assert message in " ".join(re.sub("[│╭╮╰╯─]", " ", told).split())


def test_one_reading_of_a_gpu_ends_with_2() -> None:
    code, told = check(*named(0)[:2])
    assert code == 2
    assert "one reading, which says no rate" in told


def test_an_output_over_an_input_is_refused() -> None:
    words = named(0)
    code, told = check(*words, "--json", words[1].removeprefix("0="))
    assert code == 2
    assert "gpu0-1.prom" in told


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "holds no result"),
        ("[]", "holds no result"),
        ('{"gpus": []}', "holds no result"),
        ("not json", "holds no result"),
        ("{not json", "line 1"),
        (plan().to_json().replace('"result_version": 3', '"result_version": 2'), "result_version is 2"),
        (plan().to_json().replace('"rate": 0.5', '"rate": -1'), "rate"),
        (plan().to_json()[:-100], "result.json"),
    ],
)
def test_what_is_no_result_ends_with_2(content: str, message: str) -> None:
    Path("result.json").write_text(content)
    code, told = check("--metrics", "0=a.prom")
    assert code == 2
    assert message in told


def test_a_result_without_a_plan_ends_with_2() -> None:
    Path("result.json").write_text(plan().model_copy(update={"placement": None}).to_json())
    code, told = check("--metrics", "0=a.prom")
    assert code == 2
    assert "there is no plan" in told


def test_a_result_is_read_back_equal() -> None:
    assert optimizer.read_result("result.json") == plan()
    with pytest.raises(ScenarioError, match="does not exist"):
        optimizer.read_result("nothing.json")


@pytest.mark.parametrize("seconds", [0.5, 1e6, float("nan")])
def test_times_out_of_range_are_refused_before_anything_is_asked(seconds: float) -> None:
    with answering(lambda _: "x 1") as server:
        with pytest.raises(InputError, match="not between 1 and 86,400"):
            optimizer.watch_metrics({0: server.url}, seconds)
        assert server.asked == []


def test_watching_waits_as_long_as_it_says_and_tells_it() -> None:
    slept: list[float] = []
    told: list[tuple[int, int]] = []
    watching._wait(0.05, lambda _, done, total: told.append((done, total)), lambda s: slept.append(s))
    assert slept
    assert all(0 < one <= 0.05 for one in slept)
    assert told[0] == (0, 0)
