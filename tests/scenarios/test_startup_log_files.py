"""Logs of starting servers in every wrapping, cut, damaged, and what is no such log."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scenarios import LorapackError, StartupLogError, parse_startup_log, read_startup_log
from scenarios.importers.startup_logs import log_lines
from scenarios.importers.startup_logs.log_wordings import FACTS, REFUSALS

LOGS = Path(__file__).parent / "data" / "startup_logs"


def docker(line: str) -> str:
    return json.dumps({"log": line + "\n", "stream": "stderr", "time": "2026-01-01T00:00:00.0Z"})


def journal(line: str) -> str:
    return json.dumps({"__REALTIME_TIMESTAMP": "1", "MESSAGE": list(f"\x1b[32m{line}".encode())})


WRAPPINGS: dict[str, Callable[[str], str]] = {
    "Docker": docker,
    "journald as JSON": journal,
    "structured": lambda line: json.dumps({"level": "INFO", "message": line}),
    "Docker within ECS": lambda line: json.dumps({"message": docker(line)}),
    "Kubernetes": lambda line: f"2026-01-01T00:00:00.000000000Z stderr F {line}",
    "Compose": lambda line: f"\x1b[36mvllm-1  |\x1b[0m {line}",
    "syslog": lambda line: f"Nov 29 10:00:00 host vllm[123]: #033[36m{line}#033[0m",
    "timestamps": lambda line: f"2026-11-29T10:00:00Z {line}",
    "colours": lambda line: line.replace("INFO", "\x1b[32mINFO\x1b[0m", 1),
    "Windows": lambda line: f"{line}\r",
    "progress": lambda line: f"Loading safetensors: 100%|████| 4/4 [00:01<00:00]\rCapturing: 3%| {line}",
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize("name", ["REFUSED", "TWO_WORKERS", "SERVING"])
def test_a_wrapping_changes_nothing(logs: ModuleType, name: str, wrapping: str) -> None:
    text = logs.text_of(name)
    wrapped = "\n".join(WRAPPINGS[wrapping](line) for line in text.splitlines())
    assert logs.parsed(wrapped) == logs.parsed(text)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-8"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_file_is_read_in_its_encoding(
    logs: ModuleType, tmp_path: Path, encoding: str, pack: Callable[[bytes], bytes]
) -> None:
    file = tmp_path / "server.log"
    file.write_bytes(pack(logs.SERVING.encode(encoding)))
    assert read_startup_log(file) == logs.parsed(logs.SERVING)


def test_bytes_that_are_no_text_do_no_harm(logs: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "server.log"
    file.write_bytes(b"\xff\xc3\x28 latin \xe9\n" + logs.SERVING.encode())
    assert logs.facts(read_startup_log(file)) == logs.facts(logs.parsed(logs.SERVING))


def test_workers_that_write_into_one_line_are_told_apart(logs: ModuleType) -> None:
    glued = "".join(
        f"(VllmWorkerProcess pid={pid}) INFO 04-12 08:21:19 [worker.py:267] model weights take {gib}GiB; "
        f"non_torch_memory takes 0.20GiB; the rest of the memory reserved for KV Cache is {left}GiB."
        for pid, gib, left in ((521, 21.21, 1.57), (507, 21.25, 1.5), (577, 21.2, 1.6))
    )
    log = logs.parsed(glued)
    assert (log.weights_gib, log.kv_cache_gib, log.workers) == (21.25, 1.5, 3)


def test_a_line_that_a_container_cut_is_joined() -> None:
    adapters = ", ".join(f"LoRAModulePath(name='a{k}', path='/p/a{k}')" for k in range(1000))
    given = f"{{'lora_modules': [{adapters}], 'max_loras': 32}}"
    line = f"INFO 01-22 10:00:00 [utils.py:263] non-default args: {given}\n"
    pieces = [line[k : k + 16_384] for k in range(0, len(line), 16_384)]
    entries = [json.dumps({"log": piece, "stream": "stderr", "time": "t"}) for piece in pieces]
    assert len(pieces) > 2
    assert parse_startup_log(entries).arguments == {"max_loras": 32}
    runtime = [f"2026-01-01T00:00:00Z stderr P {piece}\n" for piece in pieces[:-1]]
    log = parse_startup_log([*runtime, f"2026-01-01T00:00:00Z stderr F {pieces[-1]}"])
    assert log.arguments == {"max_loras": 32}
    assert log.where == {"max_loras": 1}


@pytest.mark.parametrize("name", [file.stem for file in sorted(LOGS.glob("*.log"))])
def test_a_log_that_breaks_off_says_no_more_than_it_has(logs: ModuleType, name: str) -> None:
    text = logs.text_of(name)
    whole = logs.parsed(text)
    for length in range(0, len(text), 37):
        try:
            part = logs.parsed(text[:length])
        except StartupLogError:
            continue
        for name, value in part.arguments.items():
            assert whole.arguments.get(name) == value or name in ("max_model_len", "dtype"), text[:length][
                -80:
            ]
        assert part.started in (None, whole.started)


def test_half_a_number_is_no_argument(logs: ModuleType) -> None:
    with pytest.raises(StartupLogError):
        logs.parsed("INFO 01-22 10:00:00 [utils.py:263] non-default args: {'max_model_len': 163")


@pytest.mark.parametrize(
    "text", ["", "\n\n", "hello\nworld\n", "INFO:     Application startup complete.\n", "{}", "[1]"]
)
def test_what_is_no_such_log_is_refused_with_a_remedy(tmp_path: Path, text: str) -> None:
    file = tmp_path / "notes\x1b.txt"
    file.write_text(text)
    with pytest.raises(StartupLogError, match="Model loading took") as raised:
        read_startup_log(file)
    assert isinstance(raised.value, LorapackError)
    assert isinstance(raised.value, ValueError)
    assert str(file.parent) in str(raised.value)
    assert "\x1b" not in str(raised.value)


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartupLogError, match="is a folder"):
        read_startup_log(tmp_path)
    with pytest.raises(StartupLogError, match="No such file"):
        read_startup_log(tmp_path / "absent.log")
    with pytest.raises(StartupLogError, match="cannot be read"):
        read_startup_log("a\0b")
    with pytest.raises(StartupLogError, match="is a folder or a device"):
        read_startup_log("/dev/null")


def test_an_archive_that_breaks_off_gives_what_it_has(logs: ModuleType, tmp_path: Path) -> None:
    noise = "".join(f"DEBUG 01-01 00:00:00 [x.py:{k}] {k * 7919}\n" for k in range(20_000))
    packed = gzip.compress((logs.SERVING + noise).encode())
    file = tmp_path / "server.log.gz"
    for damaged in (packed[:-2000], packed[:-2000] + b"x" * 2000):
        file.write_bytes(damaged)
        assert read_startup_log(file) == logs.parsed(logs.SERVING)
    file.write_bytes(packed[:20])
    with pytest.raises(StartupLogError):
        read_startup_log(file)


def test_a_line_without_end_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_lines, "MAX_LINE", 1000)
    file = tmp_path / "server.log"
    file.write_text("x" * 100_000 + "\nGPU KV cache size: 1,024 tokens\n")
    assert max(map(len, log_lines.lines_of(file))) == 1000
    assert read_startup_log(file).where["kv_cache_tokens"] == 2


WORDS = st.sampled_from(
    [*(wording.begin for wording in (*FACTS, *REFUSALS)), "1.5 GiB", "(", "{'", "9" * 30, "\r"]
)


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=400), st.lists(WORDS, max_size=20).map(lambda words: " ".join(words).encode())
    )
)
@example(b'{"log": ' + b"[" * 5000)
@example(b'{"log": ' + b"1" * 5000 + b"}")
@example(b"\x1f\x8b\x08\x00garbage")
@example(b"\xff\xfe\x00")
@example(b"Maximum concurrency for 999,999,999,999,999,999 tokens per request: 9.99x")
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "any.log"
    file.write_bytes(data)
    try:
        read_startup_log(file)
    except StartupLogError:
        return
