"""Files that are written: whole or not at all, where links lead, with the rights they had."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import scenarios
from scenarios import OutputFileError, check_writable, write_whole
from scenarios.output import descriptor_of, remove_leftovers, same_file, temporary_folder
from scenarios.output import temporary as temporary_names

AS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


@pytest.fixture
def umask() -> Iterator[None]:
    """Restores the umask that a test changes."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_a_chain_of_links_is_followed_and_its_end_replaced(tmp_path: Path) -> None:
    real = tmp_path / "far" / "real.json"
    real.parent.mkdir()
    real.write_text("old")
    (tmp_path / "second").symlink_to(real)
    (tmp_path / "first").symlink_to("second")
    before = real.stat().st_ino
    assert write_whole(tmp_path / "first", "new") == tmp_path / "first"
    assert real.read_text() == "new"
    assert real.stat().st_ino != before  # replaced whole
    assert (tmp_path / "first").is_symlink()
    assert (tmp_path / "second").is_symlink()
    assert names(real.parent) == ["real.json"]


def test_a_dangling_link_writes_what_it_names(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("later.json")
    check_writable(link)
    write_whole(link, "text")
    assert link.is_symlink()
    assert (tmp_path / "later.json").read_text() == "text"
    lost = tmp_path / "lost"
    lost.symlink_to(tmp_path / "none" / "later.json")
    with pytest.raises(OutputFileError, match="name a file in a folder that exists"):
        check_writable(lost)
    around = tmp_path / "around"
    around.symlink_to(around)
    with pytest.raises(OutputFileError, match="cannot be written"):
        check_writable(around)


def test_a_pipe_is_written_into(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    check_writable(fifo)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(fifo.read_text()), daemon=True)
    reader.start()
    write_whole(fifo, "for the reader")
    reader.join(timeout=30)
    assert read == ["for the reader"]
    assert stat.S_ISFIFO(fifo.stat().st_mode)


def test_an_open_descriptor_is_written_where_it_stands(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w+b") as file:
        file.write(b"before\n")
        file.flush()
        path = Path(f"/dev/fd/{file.fileno()}")
        link = tmp_path / "link"
        link.symlink_to(path)
        assert descriptor_of(link) == file.fileno()
        for target in (path, link):
            check_writable(target)
            write_whole(target, "here\n")
    assert (tmp_path / "log").read_text() == "before\nhere\nhere\n"


@pytest.mark.parametrize("path", ["/dev/fd/987654", "/proc/self/fd/987654"])
def test_a_descriptor_that_is_not_open_is_noticed(path: str) -> None:
    with pytest.raises(OutputFileError, match=f"{path} cannot be written"):
        check_writable(path)


def test_a_descriptor_that_is_open_for_reading_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (tmp_path / "file").open() as file, pytest.raises(OutputFileError, match="open it for writing"):
        check_writable(f"/dev/fd/{file.fileno()}")


def test_devices_stay_devices() -> None:
    check_writable(os.devnull)
    write_whole(os.devnull, "gone")
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_device_is_told() -> None:
    with pytest.raises(OutputFileError, match="make room"):
        write_whole("/dev/full", "text")


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize("bits", [0o600, 0o640, 0o666, 0o755])
def test_a_file_keeps_its_mode(bits: int, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("old")
    file.chmod(bits)
    os.umask(0o077)
    write_whole(file, "new")
    assert (mode(file), file.read_text()) == (bits, "new")


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize("mask", [0o077, 0o022, 0o002])
def test_a_new_file_gets_what_the_umask_leaves(mask: int, tmp_path: Path) -> None:
    os.umask(mask)
    write_whole(tmp_path / "new", "text")
    assert mode(tmp_path / "new") == 0o666 & ~mask


@pytest.mark.skipif(not AS_ROOT, reason="only root may give files away")
def test_a_file_keeps_its_owner(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("old")
    os.chown(file, 12345, 54321)
    write_whole(file, "new")
    assert (file.stat().st_uid, file.stat().st_gid) == (12345, 54321)


@pytest.mark.parametrize("through_link", [False, True])
def test_a_read_only_file_is_refused(through_link: bool, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    file.chmod(0o444)
    path = file
    if through_link:
        path = tmp_path / "link"
        path.symlink_to(file)
    with pytest.raises(OutputFileError, match="is read-only; make it writable"):
        check_writable(path)
    with pytest.raises(OutputFileError, match="is read-only"):
        write_whole(path, "yours")
    assert file.read_text() == "mine"


def test_a_name_may_be_as_long_as_names_can_be(tmp_path: Path) -> None:
    longest = tmp_path / ("n" * 250 + ".json")
    check_writable(longest)
    write_whole(longest, "text")
    write_whole(longest, "again")
    assert longest.read_text() == "again"
    too_long = tmp_path / ("n" * 256)
    with pytest.raises(OutputFileError, match="use a shorter name"):
        check_writable(too_long)
    with pytest.raises(OutputFileError, match="use a shorter name"):
        write_whole(too_long, "text")


def test_folders_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path, f"{tmp_path}/new/", ""):
        with pytest.raises(OutputFileError, match="name a file"):
            check_writable(path)
        with pytest.raises(OutputFileError, match="name a file"):
            write_whole(path, "text")
    assert names(tmp_path) == []


def test_an_input_is_no_output(tmp_path: Path) -> None:
    read = tmp_path / "in.yaml"
    read.write_text("in")
    (tmp_path / "link").symlink_to(read)
    os.link(read, tmp_path / "twin")
    for path in (read, tmp_path / "link", tmp_path / "twin", tmp_path / "." / "in.yaml"):
        with pytest.raises(OutputFileError, match="is what the command reads"):
            check_writable(path, [tmp_path / "other", read])
    check_writable(tmp_path / "out", [read])


def test_files_that_do_not_exist_yet_can_be_the_same(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("new")
    assert same_file(tmp_path / "link", tmp_path / "new")
    assert not same_file(tmp_path / "old", tmp_path / "new")


def test_what_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_text("old")

    def no_room(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", no_room)
    with pytest.raises(OutputFileError, match="No space left on device"):
        write_whole(file, "new")
    assert file.read_text() == "old"
    assert names(tmp_path) == ["file"]


HALF = """
import os, signal, sys
from pathlib import Path
from scenarios import write_whole
Path.replace = lambda *_: os.kill(os.getpid(), getattr(signal, sys.argv[2]))
write_whole(sys.argv[1], "new")
"""
"""Writes a file, and is killed or stopped when it is written in full but not in its place."""


def half_written(path: Path, name: str) -> subprocess.Popen[bytes]:
    """A process that was killed or stopped in the middle of writing."""
    process = subprocess.Popen([sys.executable, "-c", HALF, str(path), name])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WSTOPPED | os.WNOWAIT)
    return process


def test_what_a_killed_process_left_is_removed_by_the_next_and_what_is_in_use_stays(tmp_path: Path) -> None:
    file, foreign = tmp_path / "file", tmp_path / ".lorapack-export.json"
    foreign.write_text("")
    os.mkfifo(tmp_path / ".lorapack-0123456789ab")
    (tmp_path / ".lorapack-abcdefabcdef").symlink_to(foreign)
    before = names(tmp_path)
    stopped = half_written(file, "SIGSTOP")
    try:
        (in_use,) = set(names(tmp_path)) - set(before)
        half_written(file, "SIGKILL").wait()
        assert len(names(tmp_path)) == len(before) + 2
        write_whole(file, "text")
        assert names(tmp_path) == sorted([*before, in_use, "file"])
    finally:
        stopped.kill()
        stopped.wait()
    remove_leftovers(tmp_path)
    assert names(tmp_path) == sorted([*before, "file"])
    assert file.read_text() == "text"


def test_a_folder_that_a_killed_process_left_is_removed_and_one_in_use_stays(tmp_path: Path) -> None:
    left = tmp_path / ".lorapack-0123456789ab"
    left.mkdir()
    (left / "part").write_text("")
    with temporary_folder(tmp_path / "deploy") as used:
        remove_leftovers(tmp_path)
        assert names(tmp_path) == [used.name]
    assert names(tmp_path) == []


def test_where_nothing_can_be_locked_the_age_says_what_was_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object, wait: bool) -> None:
        raise OSError(95, f"Operation not supported ({wait})")

    monkeypatch.setattr(temporary_names, "_flock", no_locks)
    old, fresh = tmp_path / ".lorapack-000000000000", tmp_path / ".lorapack-111111111111"
    for path in (old, fresh):
        path.write_text("half")
    os.utime(old, (time.time() - 7200,) * 2)
    write_whole(tmp_path / "file", "text")
    assert names(tmp_path) == [fresh.name, "file"]


def test_who_clears_up_faster_than_a_lock_is_taken_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, removed = temporary_names._lock, list[Path]()

    def late(descriptor: int) -> None:
        if not removed:
            (path,) = tmp_path.iterdir()
            removed.append(path)
            remove_leftovers(tmp_path)
        real(descriptor)

    monkeypatch.setattr(temporary_names, "_lock", late)
    write_whole(tmp_path / "file", "text")
    assert len(removed) == 1
    assert names(tmp_path) == ["file"]
    removed.clear()
    (tmp_path / "file").unlink()
    with temporary_folder(tmp_path / "deploy") as used:
        assert names(tmp_path) == [used.name] != [removed[0].name]


def test_a_file_that_is_mounted_by_itself_is_written_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_text("old text")

    def busy(*_: object) -> None:
        raise OSError(16, "Device or resource busy")

    monkeypatch.setattr(Path, "replace", busy)
    write_whole(file, "new")
    assert file.read_text() == "new"
    assert names(tmp_path) == ["file"]


def test_text_is_utf_8_and_never_fails_to_encode(tmp_path: Path) -> None:
    write_whole(tmp_path / "file", "é 😀 \udcff")
    assert (tmp_path / "file").read_bytes() == "é 😀 \\udcff".encode()
    write_whole(tmp_path / "file", b"\xff\x00")
    assert (tmp_path / "file").read_bytes() == b"\xff\x00"


def test_a_scenario_written_through_a_link_reads_back_from_both_ends(tmp_path: Path) -> None:
    near, far = tmp_path / "near", tmp_path / "far"
    near.mkdir()
    far.mkdir()
    (near / "trace.csv").write_text("arrival_s\n1\n")
    arrivals = f"workload.arrivals={{process: trace, file: {near / 'trace.csv'}}}"
    scenario = scenarios.read("mixed_ranks", [arrivals])
    (near / "link.yaml").symlink_to(far / "real.yaml")
    scenarios.write(scenario, near / "link.yaml")
    assert scenarios.read(near / "link.yaml") == scenario
    assert scenarios.read(far / "real.yaml") == scenario
    scenarios.write(scenario, near / "plain.yaml")
    assert "file: trace.csv" in (near / "plain.yaml").read_text()
