"""Start-up logs of vLLM as sources: the model, its arguments and its adapters."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from contextlib import suppress

from scenarios.importers.adapters import plain_address
from scenarios.importers.facts import AdapterFacts, ImportOptions, Said, ServerFacts, SourceFacts
from scenarios.importers.servers.engine_values import ARGUMENTS, engine_values
from scenarios.importers.servers.source_places import located
from scenarios.importers.source import Kind, Source
from scenarios.importers.startup_logs.log_lines import lines_of
from scenarios.importers.startup_logs.startup_log import StartupLogError, parse_startup_log

LONGEST_LINE = 16 * 2**20
"""Most characters of a line of arguments in which adapters are looked for."""

_MARKS = re.compile(rb"non-default args: \{|\bargs: Namespace\(|LLM engine \(v[^)\n]{1,40}\) with config:")
_LORA = re.compile(
    r"""(?:LoRAModulePath\(name=|LoRAModulePath\()(?P<name>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
    r""",\s*path=(?P<path>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
)
_SERVED = re.compile(r"'?served_model_name'?[:=]\s*\[?(?P<name>'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")")
_HOST = re.compile(r"'?\bhost'?[:=]\s*'(?P<host>[\w.:-]{1,253})'")
_PORT = re.compile(r"'?\bport'?[:=]\s*(?P<port>\d{1,5})\b")


def _fits(source: Source) -> bool:
    head = source.head.lstrip(b"\xef\xbb\xbf \r\n\t")
    if source.is_folder or not _MARKS.search(head):
        return False
    return not head.startswith((b"{", b"[{")) or b'"log"' in head.partition(b"\n")[0]


def _read(source: Source, options: ImportOptions) -> SourceFacts:
    del options
    told: list[str] = []
    try:
        log = parse_startup_log(_heard(source, told), str(source.path))
    except (StartupLogError, OSError, EOFError, ValueError) as error:
        text = str(error).removeprefix(f"{source.path}: ")
        raise source.error(text, "give the whole log") from error
    origin = source.path.name
    line = told[-1] if told else ""
    adapters = tuple(_adapters(line, origin))
    given = {key: value for key, value in log.arguments.items() if key in ARGUMENTS}
    with located(source):
        values = engine_values(given, origin)
    names = [name for match in _SERVED.finditer(line) if (name := _quoted(match["name"]))][:1]
    host, port = _HOST.search(line), _PORT.search(line)
    is_plain = host is not None and host["host"] not in ("0.0.0.0", "::")
    server = ServerFacts(
        source.path.stem,
        f"{origin}, the start of the server",
        tuple(dict.fromkeys(adapter.served_name for adapter in adapters)),
        values.engine,
        model=Said(log.model, origin) if log.model else None,
        served_model_name=Said(names[0], f"{origin}, served_model_name") if names else None,
        device=Said(log.gpu_name, origin) if log.gpu_name else None,
        address=f"http://{host['host']}:{port['port'] if port else 8000}" if is_plain and host else "",
        notes=values.notes,
        release=Said(log.engine_version, f"{origin}, its start") if log.engine_version else None,
    )
    return SourceFacts(SERVER_LOG.name, adapters, (server,), base_names=tuple(names))


def _heard(source: Source, told: list[str]) -> Iterator[str]:
    """Yield the lines of a log, and keep the last that gives the arguments of a server."""
    for line in lines_of(source.path):
        if "non-default args: {" in line or "args: Namespace(" in line:
            told[:] = [line[:LONGEST_LINE]]
        yield line


def _adapters(line: str, origin: str) -> Iterator[AdapterFacts]:
    """Yield adapters of ``lora_modules`` (LoRAModulePath, vllm/entrypoints/openai/models/protocol.py)."""
    for match in _LORA.finditer(line):
        name, path = _quoted(match["name"]), _quoted(match["path"])
        if name:
            where = Said(plain_address(path), f"{origin}, lora_modules") if path else None
            yield AdapterFacts(name, f"{origin}, lora_modules", source=where)


def _quoted(text: str) -> str:
    """A text as Python's repr wrote it; empty: it is none."""
    with suppress(ValueError, SyntaxError):
        value = ast.literal_eval(text)
        return value if isinstance(value, str) else ""
    return ""


SERVER_LOG = Kind("start-up log of vLLM", _fits, _read)
