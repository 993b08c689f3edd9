"""The cache: what is read from it is what was asked for, and that it fails is never a failure."""

from __future__ import annotations

import errno
import json
import logging
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import learn
import scenarios
from learn import DatasetError, DesignSpace, Regions, SamplingPlan, sampling
from learn.boundaries.boundary_search import BoundarySearch
from learn.region import _digest
from learn.storage import cache
from scenarios import OutputFileError, Scenario, override
from scenarios.output import temporary_folder
from tests.slow import slow
from twin import EngineProfile

TINY = SamplingPlan(compositions=12, round_size=4, max_runs=5, width=1.15, spread=0, seed=1)
NOBODY = 65534
ROUNDS = ("round-0000.csv", "round-0001.csv", "round-0002.csv")


@pytest.fixture(autouse=True)
def _told_nothing() -> None:
    cache._say_homeless.cache_clear()
    cache._told.clear()


@pytest.fixture(scope="module")
def filled(scenario: Scenario, profile: EngineProfile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the regions of the scenario and their runs."""
    folder = tmp_path_factory.mktemp("filled")
    regions(scenario, profile, folder)
    return folder


@pytest.fixture(scope="module")
def made(filled: Path, scenario: Scenario, profile: EngineProfile) -> Regions:
    return regions(scenario, profile, filled)


@pytest.fixture
def kept(filled: Path, tmp_path: Path) -> Path:
    """A copy of the cache that may be damaged."""
    return Path(shutil.copytree(filled, tmp_path / "kept"))


@pytest.fixture
def sampled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """First compositions of the rounds that the twin runs, as they are run."""
    firsts: list[int] = []
    real = sampling._Sampling._run

    def counted(
        self: sampling._Sampling, searches: list[BoundarySearch], *rest: Any
    ) -> list[dict[str, float]]:
        firsts.append(searches[0].composition.index)
        return real(self, searches, *rest)

    monkeypatch.setattr(sampling._Sampling, "_run", counted)
    return firsts


def regions(
    scenario: Scenario, profile: EngineProfile, folder: Path | None, plan: SamplingPlan = TINY
) -> Regions:
    return learn.regions_for(scenario, scenario.devices[0], profile, workers=1, cache_dir=folder, plan=plan)


def regions_file(folder: Path) -> Path:
    (path,) = (folder / "regions").iterdir()
    return path


def rounds_files(folder: Path) -> list[Path]:
    found = sorted((folder / "samples").glob("*/*"))
    assert tuple(p.name for p in found) == ROUNDS
    return found


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


# --- regions ---------------------------------------------------------------------------------------


def multiplied(text: str) -> str:
    numbers = json.loads(text)
    for region in ("inner", "outer"):
        for option in numbers[region]["options"]:
            for row in option["rows"]:
                row["coefficients"] = [40 * value for value in row["coefficients"]]
    return json.dumps(numbers)


def signed(change: Callable[[dict[str, object]], None]) -> Callable[[str], str]:
    """A change of the content with a digest that fits it, as a file of something else has."""

    def changed(text: str) -> str:
        document = json.loads(text)
        del document["sha256"]
        change(document)
        return json.dumps({"sha256": _digest(document), **document})

    return changed


def without_an_option(document: dict[str, object]) -> None:
    for part in (document["inner"], document["outer"]):
        part["options"] = [o for o in part["options"] if o["max_loras"] != 64]  # type: ignore[index]
    document["latency"] = [o for o in document["latency"] if o["max_loras"] != 64]  # type: ignore[attr-defined]


def without_a_regime(document: dict[str, object]) -> None:
    def kept(options: Any) -> list[Any]:
        return [o for o in options if (o["max_loras"], o["regime"]) != (64, "resident")]

    for part in (document["inner"], document["outer"]):
        part["options"] = kept(part["options"])  # type: ignore[index]
    document["latency"] = kept(document["latency"])


def of_other(part: str, **values: object) -> Callable[[dict[str, object]], None]:
    def change(document: dict[str, object]) -> None:
        document["provenance"][part].update(values)  # type: ignore[index]

    return change


def of_another_kv_cache(document: dict[str, object]) -> None:
    for part in (document["inner"], document["outer"]):
        for option in part["options"]:  # type: ignore[index]
            option["kv_cache_tokens"] += 16


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda _: "", "a value is missing"),
        (lambda _: "{", "a key in double quotes is missing"),
        (lambda text: text[:-40], "is missing"),
        (multiplied, "its content is not what was written"),
        (lambda text: text.replace('"sha256"', '"sha255"'), "sha255 is not a key that exists here"),
        (signed(without_an_option), "lack the option of 64 slots of rank 16"),
        (signed(without_a_regime), "lack the option of 64 slots of rank 16"),
        (signed(of_another_kv_cache), "lack the option of 8 slots of rank 16"),
        (signed(of_other("space", duration_s=60.0)), "its regions are of another space"),
        (signed(of_other("plan", seed=2)), "its regions are of another plan"),
        (signed(of_other("inner_confidence", shared=0.5)), "its regions are of another inner_confidence"),
    ],
)
def test_regions_that_are_not_those_asked_for_are_made_again(
    damage: Callable[[str], str],
    message: str,
    made: Regions,
    kept: Path,
    scenario: Scenario,
    profile: EngineProfile,
    sampled: list[int],
    caplog: pytest.LogCaptureFixture,
) -> None:
    path, before = regions_file(kept), content(kept)
    path.write_text(damage(path.read_text(encoding="utf-8")), encoding="utf-8")
    assert regions(scenario, profile, kept) == made
    (line,) = said(caplog)
    assert line.startswith(f"{path}: ")
    assert message in line
    assert "\n" not in line
    assert sampled == []
    assert content(kept) == before
    assert regions(scenario, profile, kept) == made
    assert len(said(caplog)) == 1


def test_bytes_that_are_no_text_are_made_again(
    made: Regions, kept: Path, scenario: Scenario, profile: EngineProfile, caplog: pytest.LogCaptureFixture
) -> None:
    before = content(kept)
    regions_file(kept).write_bytes(b"\xff\xfe\x00")
    rounds_files(kept)[0].write_bytes(b"\xff\xfe\x00")
    assert regions(scenario, profile, kept) == made
    assert len(said(caplog)) == 2
    assert content(kept) == before


def test_the_regions_of_another_scenario_are_not_used(
    made: Regions,
    kept: Path,
    scenario: Scenario,
    profile: EngineProfile,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    other = override(scenario, ["workload.output.tokens=15"])
    regions(other, profile, tmp_path / "other")
    shutil.copy(regions_file(tmp_path / "other"), regions_file(kept))
    assert regions(scenario, profile, kept) == made
    (line,) = said(caplog)
    assert "its regions are of another space; it is made again" in line


def test_regions_from_the_cache_are_those_just_made_bit_for_bit(
    kept: Path, scenario: Scenario, profile: EngineProfile
) -> None:
    def numbers(found: Regions) -> list[bytes]:
        rows = [o for region in (found.inner, found.outer) for o in region.options]
        planes = [plane for o in found.latency for plane in (*o.itl_ms, *o.ttft_ms)]
        return [
            *(array.tobytes() for o in rows for array in (o.coefficients, o.bounds)),
            *(np.array([plane.intercept, *plane.coefficients]).tobytes() for plane in planes),
        ]

    shutil.rmtree(kept)
    fresh = regions(scenario, profile, kept)
    read = regions(scenario, profile, kept)
    regions_file(kept).unlink()
    resumed = regions(scenario, profile, kept)
    assert numbers(fresh) == numbers(read) == numbers(resumed)
    assert fresh.to_json() == read.to_json() == resumed.to_json()


# --- twin runs -------------------------------------------------------------------------------------


def cut(files: list[Path]) -> None:
    lines = files[1].read_text(encoding="utf-8").splitlines(keepends=True)
    files[1].write_text("".join(lines[:-3]), encoding="utf-8")


def swapped(files: list[Path]) -> None:
    shutil.copy(files[2], files[1])


def edited(files: list[Path]) -> None:
    text = files[1].read_text(encoding="utf-8")
    files[1].write_text(text[:-2] + ("0" if text[-2] == "1" else "1") + "\n", encoding="utf-8")


def of_another_sampling(files: list[Path]) -> None:
    found = learn.read_dataset(files[1])
    plan = {**found.metadata["plan"], "seed": 2}
    replace(found, metadata={**found.metadata, "plan": plan}).save(files[1])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, "runs that were written"),
        (swapped, "it holds runs of another round"),
        (edited, "its content is not what was written"),
        (of_another_sampling, "it holds runs of another plan"),
    ],
)
def test_a_round_that_is_not_what_it_should_be_is_run_again(
    damage: Callable[[list[Path]], None],
    message: str,
    made: Regions,
    kept: Path,
    scenario: Scenario,
    profile: EngineProfile,
    sampled: list[int],
    caplog: pytest.LogCaptureFixture,
) -> None:
    before, files = content(kept), rounds_files(kept)
    regions_file(kept).unlink()
    damage(files)
    assert regions(scenario, profile, kept) == made
    (line,) = said(caplog)
    assert line.startswith(f"{files[1]}: ")
    assert message in line
    assert sampled == [4]
    assert content(kept) == before


def test_a_damaged_round_in_a_folder_of_the_users_is_run_again(
    space: DesignSpace, kept: Path, sampled: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    files = rounds_files(kept)
    cut(files)
    learn.sample(space, TINY, directory=files[0].parent)
    assert sampled == [4]
    assert len(said(caplog)) == 1


def test_runs_of_another_sampling_in_a_folder_of_the_users_stay_even_if_damaged(
    space: DesignSpace, kept: Path, sampled: list[int]
) -> None:
    files = rounds_files(kept)
    cut(files)
    before = content(kept)
    with pytest.raises(DatasetError, match="another sampling"):
        learn.sample(space, replace(TINY, seed=2), directory=files[0].parent)
    assert sampled == []
    assert content(kept) == before


# --- places that take nothing ----------------------------------------------------------------------


def full(path: Path, *_: object) -> None:
    """A disk without room."""
    raise OutputFileError(f"{path} cannot be written") from OSError(
        errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)
    )


@pytest.mark.parametrize("first_failure", [0, 3, *slow([1, 2])])
def test_a_disk_that_fills_ends_nothing_and_throws_nothing_away(
    first_failure: int,
    made: Regions,
    scenario: Scenario,
    profile: EngineProfile,
    tmp_path: Path,
    sampled: list[int],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    real, written = cache.write_atomically, []

    def filling(path: Path, text: str) -> None:
        if len(written) == first_failure:
            full(path)
        real(path, text)
        written.append(path.name)

    monkeypatch.setattr(cache, "write_atomically", filling)
    assert regions(scenario, profile, tmp_path) == made
    assert sampled == [0, 4, 8]
    assert written == list(ROUNDS[:first_failure])
    (line,) = said(caplog)
    assert "cannot be written (No space left on device)" in line
    assert line.endswith(f"name another folder than {tmp_path}")
    monkeypatch.setattr(cache, "write_atomically", real)
    assert regions(scenario, profile, tmp_path) == made
    assert sampled == [0, 4, 8, *(0, 4, 8)[first_failure:]]


def a_file(folder: Path) -> None:
    folder.write_text("")


def a_file_for_runs(folder: Path) -> None:
    folder.mkdir()
    (folder / "samples").write_text("")
    (folder / "regions").write_text("")


def a_loop(folder: Path) -> None:
    folder.symlink_to(folder)


@pytest.mark.parametrize("place", [a_file, a_file_for_runs, a_loop])
def test_a_cache_that_is_no_folder_is_told_once(
    place: Callable[[Path], None],
    made: Regions,
    scenario: Scenario,
    profile: EngineProfile,
    tmp_path: Path,
    sampled: list[int],
    caplog: pytest.LogCaptureFixture,
) -> None:
    place(tmp_path / "cache")
    assert regions(scenario, profile, tmp_path / "cache") == made
    assert sampled == [0, 4, 8]
    assert len(said(caplog)) == 1


@pytest.fixture
def ours(kept: Path) -> Iterator[Path]:
    """A cache in the hands of a user whom the rights of files bind, which they do not bind root."""
    if os.geteuid():
        yield kept
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(shutil.copytree(kept, Path(name) / "kept"))
        for path in (Path(name), folder, *folder.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
        os.seteuid(NOBODY)
        try:
            yield folder
        finally:
            os.seteuid(0)


@pytest.mark.parametrize("mode", [0o000, 0o500])
def test_a_folder_without_permission_is_told_and_ends_nothing(
    mode: int,
    made: Regions,
    ours: Path,
    scenario: Scenario,
    profile: EngineProfile,
    caplog: pytest.LogCaptureFixture,
) -> None:
    regions_file(ours).unlink()
    for folder in (ours / "regions", rounds_files(ours)[0].parent):
        folder.chmod(mode)
    try:
        assert regions(scenario, profile, ours) == made
    finally:
        for folder in (ours / "regions", *(ours / "samples").iterdir()):
            folder.chmod(0o700)
    (line,) = said(caplog)
    assert "(Permission denied)" in line


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A user whom the password file does not know, in an empty folder."""

    def nobody(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    for name in ("HOME", "XDG_CACHE_HOME", "LORAPACK_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_user_without_a_home_is_told_once_and_nothing_is_written(
    homeless: Path,
    made: Regions,
    scenario: Scenario,
    profile: EngineProfile,
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert regions(scenario, profile, None) == made
    assert regions(scenario, profile, None) == made
    (line,) = said(caplog)
    assert "there is no home folder" in line
    assert "set LORAPACK_CACHE to a folder" in line
    assert list(homeless.iterdir()) == []


def test_the_cache_folder_follows_the_environment(homeless: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache.cache_folder() is None
    for no_home in ("relative", ""):
        monkeypatch.setenv("HOME", no_home)
        assert cache.cache_folder() is None
    monkeypatch.setenv("HOME", str(homeless))
    assert cache.cache_folder() == homeless / ".cache" / "lorapack"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache.cache_folder() == homeless / ".cache" / "lorapack"
    monkeypatch.setenv("XDG_CACHE_HOME", str(homeless / "b"))
    assert cache.cache_folder() == homeless / "b" / "lorapack"
    monkeypatch.setenv("LORAPACK_CACHE", str(homeless / "a"))
    assert cache.cache_folder() == homeless / "a"
    assert cache.cache_folder(homeless / "c") == homeless / "c"


# --- several processes -----------------------------------------------------------------------------

ASK = """
import os, sys, learn, scenarios, twin
from pathlib import Path
from learn import SamplingPlan
scenario = scenarios.read(sys.argv[1])
profile = twin.find_profile(scenario.model, scenario.devices[0].name)
plan = SamplingPlan(compositions=12, round_size=4, max_runs=5, width=1.15, spread=0, seed=1)
number = int(sys.argv[2])
for _ in range(number):
    if os.fork() == 0:  # a copy, which begins where the others do
        found = learn.regions_for(scenario, scenario.devices[0], profile, workers=1, plan=plan)
        Path(f"{sys.argv[1]}.{os.getpid()}").write_text(found.to_json())
        os._exit(0)
sys.exit(any(os.wait()[1] for _ in range(number)))
"""


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 4])
def test_processes_at_once_on_an_empty_cache_get_the_same_and_leave_whole_files(
    processes: int, made: Regions, filled: Path, scenario: Scenario, tmp_path: Path
) -> None:
    file, folder = tmp_path / "scenario.yaml", tmp_path / "cache"
    scenarios.write(scenario, file)
    done = subprocess.run(
        [sys.executable, "-c", ASK, str(file), str(processes)],
        env={**os.environ, "LORAPACK_CACHE": str(folder), "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    answers = [path.read_text(encoding="utf-8") for path in tmp_path.glob("scenario.yaml.*")]
    assert answers == [made.to_json()] * processes
    assert content(folder) == content(filled)


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    path, texts = tmp_path / "f", ("a" * 300_000, "b" * 300_000)
    cache.keep(path, texts[0], tmp_path)

    def write(text: str) -> None:
        for _ in range(40):
            cache.keep(path, text, tmp_path)

    with ThreadPoolExecutor() as pool:
        writers = [pool.submit(write, text) for text in texts]
        while not all(writer.done() for writer in writers):
            assert path.read_text(encoding="utf-8") in texts
    assert list(tmp_path.iterdir()) == [path]


def test_what_killed_processes_left_is_removed_and_nothing_else(
    kept: Path, scenario: Scenario, profile: EngineProfile
) -> None:
    regions_file(kept).unlink()
    runs = rounds_files(kept)[0].parent
    other = kept / "samples" / "of-another-scenario" / "overloads"
    other.mkdir(parents=True)
    left = [folder / ".lorapack-0123456789ab" for folder in (kept / "regions", runs, other)]
    others = [
        kept / "regions" / ".gitignore",
        kept / "regions" / f"{'0123456789abcdef' * 2}.json",
        runs / ".round-0001.csv.swp",
    ]
    for path in (*left, *others):
        path.write_text("half")
    with temporary_folder(runs / "round-0001.csv") as used:  # another process is at it
        regions(scenario, profile, kept)
        assert [path for path in (*left, used, *others) if path.exists()] == [used, *others]


def test_runs_that_were_kept_are_those_in_memory(space: DesignSpace, kept: Path) -> None:
    again = learn.sample(space, TINY, directory=rounds_files(kept)[0].parent)
    fresh = learn.sample(space, TINY)
    pd.testing.assert_frame_equal(again.table, fresh.table, check_exact=True)
    assert again.metadata == fresh.metadata


def test_what_is_no_file_is_not_waited_for(
    made: Regions, kept: Path, scenario: Scenario, profile: EngineProfile, caplog: pytest.LogCaptureFixture
) -> None:
    file = regions_file(kept)
    file.unlink()
    os.mkfifo(file)
    assert regions(scenario, profile, kept) == made
    (told,) = caplog.messages
    assert str(file) in told
    assert "no regular file" in told
