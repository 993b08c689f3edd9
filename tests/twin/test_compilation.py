"""Machine code that is kept: used if it is sound and of these sources, and never a reason to fail."""

from __future__ import annotations

import errno
import importlib.util
import os
import pwd
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from numba import config, njit

from scenarios import OutputFileError
from twin.engine import compilation as compiled
from twin.engine.compilation import is_kept, is_on_disk, kept, sources_digest

TEXT = "def twice(x):\n    return {factor} * x\n\n\ndef thrice(x):\n    return 3 * x\n"


@pytest.fixture(autouse=True)
def _told_nothing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    compiled._say_unkept.cache_clear()
    monkeypatch.setattr(config, "CACHE_DIR", "")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # Python knows a file by its second and its size
    yield
    sys.modules.pop("doubling", None)


def twice(folder: Path, name: str = "twice", factor: int = 2) -> Callable[[object], object]:
    """A function of a file in a folder."""
    path = folder / "doubling.py"
    if not path.exists():
        path.write_text(TEXT.format(factor=factor), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("doubling", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["doubling"] = importlib.util.module_from_spec(spec)  # where numba looks for it
    spec.loader.exec_module(module)
    function: Callable[[object], object] = getattr(module, name)
    return function


def hits(function: object) -> int:
    """How many signatures came from the disk."""
    return sum(function.stats.cache_hits.values())  # type: ignore[attr-defined]


def test_code_is_kept_for_equal_sources_only(tmp_path: Path) -> None:
    for sources, expected in (("a", 0), ("a", 1), ("b", 0), ("a", 1), ("b", 1)):
        function = kept(sources)(twice(tmp_path))
        assert function(21) == 42
        assert hits(function) == expected


def test_the_digest_depends_on_every_file(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("1")
    (tmp_path / "b.py").write_text("2")
    before = sources_digest(tmp_path, ["a", "b"])
    assert before == sources_digest(tmp_path, ["a", "b"])
    (tmp_path / "b.py").write_text("3")
    assert sources_digest(tmp_path, ["a", "b"]) != before


def damaged(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(("damage", "ending"), [(damaged, "nbc"), (cut, "nbc"), (cut, "nbi")])
def test_damaged_code_is_compiled_anew(
    damage: Callable[[Path], None], ending: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept("a")(twice(tmp_path))(1)
    (path,) = (tmp_path / "__pycache__").glob(f"*.{ending}")
    damage(path)
    function = kept("a")(twice(tmp_path))
    assert function(21) == 42
    assert hits(function) == 0
    assert "doubling.twice" in caplog.text
    assert "compiled code is damaged" in caplog.text
    again = kept("a")(twice(tmp_path))
    assert (again(21), hits(again)) == (42, 1)


def test_code_of_another_signature_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As two processes that begin on an empty cache may leave it."""
    function = kept("a")(twice(tmp_path))
    assert (function(21), function(0.25)) == (42, 0.5)
    first, second = sorted((tmp_path / "__pycache__").glob("*.nbc"))
    first.write_bytes(second.read_bytes())
    again = kept("a")(twice(tmp_path))
    assert (again(21), again(0.25)) == (42, 0.5)
    assert "the code of another signature" in caplog.text


def test_code_of_another_function_is_not_used(tmp_path: Path) -> None:
    for name in ("twice", "thrice"):
        kept("a")(twice(tmp_path, name))(1)
    (two,) = (tmp_path / "__pycache__").glob("*.twice*.nbc")
    (three,) = (tmp_path / "__pycache__").glob("*.thrice*.nbc")
    two.write_bytes(three.read_bytes())
    assert kept("a")(twice(tmp_path))(21) == 42


def test_code_of_other_sources_under_the_same_name_is_not_used(tmp_path: Path) -> None:
    """numba numbers its files anew when their source changes, and writes the index first."""
    kept("a")(twice(tmp_path))(1)
    (code,) = (tmp_path / "__pycache__").glob("*.nbc")
    old = code.read_bytes()
    (tmp_path / "doubling.py").write_text(TEXT.format(factor=5), encoding="utf-8")
    kept("b")(twice(tmp_path))(1)
    assert [code] == list((tmp_path / "__pycache__").glob("*.nbc"))
    code.write_bytes(old)
    assert kept("b")(twice(tmp_path))(21) == 105


def test_a_full_disk_is_told_once_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OutputFileError("full") from OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(compiled, "write_whole", full)
    function = kept("a")(twice(tmp_path))
    assert (function(21), function(0.25)) == (42, 0.5)
    assert caplog.text.count("compiled code is not kept") == 1
    assert "No space left on device" in caplog.text


def test_what_a_killed_process_left_beside_code_is_removed(tmp_path: Path) -> None:
    left = tmp_path / "__pycache__" / ".lorapack-0123456789ab"
    left.parent.mkdir()
    left.write_bytes(b"half")
    kept("a")(twice(tmp_path))(1)
    assert sorted(path.suffix for path in left.parent.iterdir()) == [".nbc", ".nbi"]


@pytest.mark.parametrize("cache", [None, "", "relative"])
def test_without_home_and_a_folder_beside_the_source_nothing_is_written(
    cache: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def nobody(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    if cache is not None:
        monkeypatch.setenv("XDG_CACHE_HOME", cache)
    (tmp_path / "__pycache__").write_text("no folder")
    monkeypatch.chdir(tmp_path)
    functions = [kept("a")(twice(tmp_path)) for _ in range(2)]
    assert [function(21) for function in functions] == [42, 42]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["__pycache__", "doubling.py"]
    assert caplog.text.count("compiled code is not kept") == 1


def test_an_inner_function_is_compiled_once_for_constants_and_integers_of_any_width() -> None:
    @compiled.compiled
    def inner(a: int) -> int:
        return a + 1

    @njit
    def outer(narrow: int, wide: int) -> tuple[int, int, int]:
        return inner(narrow), inner(wide), inner(3)

    assert outer(np.int32(1), 2) == (2, 3, 4)
    assert [str(signature[0]) for signature in inner.signatures] == ["int64"]  # type: ignore[attr-defined]


def test_an_inner_function_can_be_called_from_python() -> None:
    @compiled.compiled
    def inner(a: float) -> float:
        return a / 2

    @njit
    def outer(a: float) -> float:
        return inner(a)

    assert (inner(3.0), outer(3.0), inner(5.0)) == (1.5, 1.5, 2.5)


def test_what_is_on_disk(tmp_path: Path) -> None:
    function = kept("a")(twice(tmp_path))
    assert is_kept(function)
    assert not is_on_disk(function)
    function(21)
    assert is_on_disk(function)
    assert is_on_disk(kept("a")(twice(tmp_path)))
    assert not is_on_disk(kept("b")(twice(tmp_path)))
    assert not is_on_disk(kept("a")(twice(tmp_path, "thrice")))
    (index,) = (tmp_path / "__pycache__").glob("*.nbi")
    cut(index)
    assert not is_on_disk(kept("a")(twice(tmp_path)))


def test_without_a_folder_nothing_is_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "_CodeCache", Mock(side_effect=RuntimeError))
    function = kept("a")(twice(tmp_path))
    monkeypatch.undo()
    assert function(21) == 42
    assert (is_kept(function), is_on_disk(function)) == (False, False)
