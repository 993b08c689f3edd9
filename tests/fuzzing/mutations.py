"""Damage to files: bytes, tokens, values, keys, cells. The same number gives the same damage on every run."""

from __future__ import annotations

import copy
import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any, Literal

from tests.hostile_texts import HOSTILE_TEXTS

Form = Literal["json", "yaml", "csv", "text", "bytes"]
"""How the content of a file is laid out; ``text`` is any other text, as scripts and logs are."""

HUGE_INTEGERS = (2**31, 2**32, 2**53, 2**63, 2**64, 10**12, 10**18, 10**30, 10**399)
VALUES: tuple[object, ...] = (
    None, True, False, 0, -0.0, -1, 1, 1.5, -(2**63), *HUGE_INTEGERS, 1e-320, 1e18, 1e300, 1.7e308,
    float("nan"), float("inf"), float("-inf"), "", "nan", "1e400", "-0", "true", "null", "x" * 10_000,
    "7" * 5000, "\t", "\0", "\ud800", "\ufeff", "\u202ebidi", "\x1b[31m", "a\nb", "a\r\nb,c",
    "https://example.com", [], {}, [[]], [None], {"": ""}, [0] * 2000, *HOSTILE_TEXTS,
)  # fmt: skip
"""What stands in the place of a value."""

TOKENS = (
    "1" * 5000, "-" + "9" * 400, "1e400", "-1e400", "1e-400", "-0", "nan", "NaN", ".nan", "Infinity",
    "-.inf", *map(str, HUGE_INTEGERS[:-1]), "0x1F", "1_000", "010", "1,5", "true", "null", "~", '""', "''",
    "x" * 10_000, "\t", "\ufeff", "\\ud800", "\\u0000", "\0", "\x1b[2J", "[" * 2000, "{" * 2000,
    '{"a":' * 2000, "&a [*a]", "*b", "<<: 7", "!!python/object/apply:os.system [x]", '"', "'", '"a\nb"',
    ",", ";", ":", "=", "#", "---", "- ", "|", "%", "\\", "\n", "\r", "{{ x }}", "${X}", "$(touch x)",
    "\u2028", "é漢",
)  # fmt: skip
"""What stands in the place of a word, a number or a quoted text."""

BYTES = (
    b"\0",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\xed\xa0\x80",
    b"\x1f\x8b\x08\0",
    b"PAR1",
    b"\t",
    b"\r",
    b"\xc3",
)
"""What is put between two bytes."""

BOMB = "\n".join(["a0: &a0 [x, x]", *(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]" for k in range(1, 9))])
"""YAML whose aliases stand for a thousand million values."""

_TOKEN = re.compile(r'"[^"\n]*"|\'[^\'\n]*\'|[-+.\w]+')

Damage = Callable[[bytes, Random], bytes]


def mutation(content: bytes, form: Form, name: str, number: int) -> bytes:
    """The damaged content number ``number`` of a file called ``name``."""
    random = Random(f"{name}/{number}")
    damages = _DAMAGES[form]
    damage = damages[number % len(damages)]
    for _ in range(1 if random.random() < 0.8 else 2):
        content = damage(content, random)
    return content


# --- bytes -----------------------------------------------------------------------------------------


def _flip(content: bytes, random: Random) -> bytes:
    changed = bytearray(content)
    for _ in range(random.choice((1, 1, 1, 3, 10))):
        if changed:
            changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _cut(content: bytes, random: Random) -> bytes:
    return content[: random.randrange(len(content) + 1)]


def _double(content: bytes, random: Random) -> bytes:
    begin, end = sorted(random.randrange(len(content) + 1) for _ in range(2))
    return content[:end] + content[begin:end] + content[end:] if random.random() < 0.7 else content * 2


def _lose(content: bytes, random: Random) -> bytes:
    begin, end = sorted(random.randrange(len(content) + 1) for _ in range(2))
    return content[:begin] + content[min(end, begin + random.choice((1, 4, 50, 10**6))) :]


def _insert(content: bytes, random: Random) -> bytes:
    at = 0 if random.random() < 0.2 else random.randrange(len(content) + 1)
    return content[:at] + random.choice(BYTES) + content[at:]


# --- tokens and lines ------------------------------------------------------------------------------


def _token(content: bytes, random: Random) -> bytes:
    return _replaced(content, random, lambda _: random.choice(TOKENS))


def _number(content: bytes, random: Random) -> bytes:
    """A number becomes another, far larger, far smaller or negative."""
    text = content.decode("utf-8", errors="surrogateescape")
    found = [one for one in _TOKEN.finditer(text) if re.fullmatch(r"-?\d+(\.\d+)?(e[-+]?\d+)?", one[0])]
    if not found:
        return _token(content, random)
    one = random.choice(found)
    times = random.choice((0, -1, 1e-9, 1e3, 1e6, 1e9, 1e15, 1e200))
    value = float(one[0]) * times
    whole = "." not in one[0] and abs(value) < 1e16
    return (text[: one.start()] + (str(int(value)) if whole else repr(value)) + text[one.end() :]).encode(
        errors="surrogateescape"
    )


def _swap_tokens(content: bytes, random: Random) -> bytes:
    words = [match[0] for match in _TOKEN.finditer(content.decode("utf-8", errors="surrogateescape"))]
    return _replaced(content, random, lambda _: random.choice(words)) if words else content


def _replaced(content: bytes, random: Random, choose: Callable[[str], str]) -> bytes:
    text = content.decode("utf-8", errors="surrogateescape")
    found = list(_TOKEN.finditer(text))
    if not found:
        return content + choose("").encode()
    one = random.choice(found)
    changed = text[: one.start()] + choose(one[0]) + text[one.end() :]
    return changed.encode("utf-8", errors="surrogateescape")


def _lines(content: bytes, random: Random) -> bytes:
    """A line is lost, doubled, moved, or begins with a tab."""
    lines = content.split(b"\n")
    at, to = random.randrange(len(lines)), random.randrange(len(lines))
    match random.randrange(4):
        case 0:
            del lines[at]
        case 1:
            lines.insert(to, lines[at])
        case 2:
            lines[at], lines[to] = lines[to], lines[at]
        case _:
            lines[at] = b"\t" + lines[at]
    return b"\n".join(lines)


def _bomb(content: bytes, random: Random) -> bytes:
    """Anchors that name themselves, aliases of aliases, depth, or a second document."""
    text = random.choice(
        (BOMB, "z: &z [*z]", "z: " + "[" * 3000, "---\nz: 1", "? [a]\n: 1", "z: !!binary AA==")
    )
    return content + b"\n" + text.encode() if random.random() < 0.7 else text.encode() + b"\n" + content


# --- values and keys -------------------------------------------------------------------------------


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of all values within a value."""
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


def _value(content: bytes, random: Random) -> bytes:
    return _with_values(content, random, lambda root, path: _put(root, path, random.choice(VALUES)))


def _swap_values(content: bytes, random: Random) -> bytes:
    def swap(root: Any, path: tuple[Any, ...]) -> None:
        other = random.choice(list(places(root)))
        first, second = copy.deepcopy(_at(root, path)), copy.deepcopy(_at(root, other))
        _put(root, path, second)
        if other[: len(path)] != path:
            _put(root, other, first)

    return _with_values(content, random, swap)


def _remove_key(content: bytes, random: Random) -> bytes:
    def remove(root: Any, path: tuple[Any, ...]) -> None:
        del _at(root, path[:-1])[path[-1]]

    return _with_values(content, random, remove)


def _rename_key(content: bytes, random: Random) -> bytes:
    def rename(root: Any, path: tuple[Any, ...]) -> None:
        parent = _at(root, path[:-1])
        if isinstance(parent, dict):
            name = random.choice((str(path[-1]) + "x", "", "x" * 10_000, "a\nb", "\ud800", "é漢", "0"))
            parent[name] = parent.pop(path[-1])

    return _with_values(content, random, rename)


def _scale(content: bytes, random: Random) -> bytes:
    """A number in a value becomes another; types stay as they are, so that what checks ranges is reached."""

    def scale(root: Any, _: tuple[Any, ...]) -> None:
        numbers = [p for p in places(root) if type(_at(root, p)) in (int, float)]
        if numbers:
            path = random.choice(numbers)
            value = _at(root, path)
            if isinstance(value, int):
                _put(root, path, value * random.choice((0, -1, 10, 10**3, 10**6, 10**9, 10**15)))
            else:
                _put(root, path, value * random.choice((0.0, -1.0, 1e-300, 1e3, 1e6, 1e9, 1e15, 1e290)))

    return _with_values(content, random, scale)


def _twice(content: bytes, random: Random) -> bytes:
    """A key stands twice in the text."""
    text = content.decode("utf-8", errors="surrogateescape")
    keys = re.findall(r'"[^"\n]+"(?=\s*:)', text)
    if not keys:
        return _lines(content, random)
    key = random.choice(keys)
    return text.replace(key, f"{key}: 7, {key}", 1).encode("utf-8", errors="surrogateescape")


def _with_values(content: bytes, random: Random, change: Callable[[Any, tuple[Any, ...]], None]) -> bytes:
    """The same with a change to its values; those of YAML are written as JSON, which is YAML."""
    try:
        documents, lines = _documents(content)
    except ValueError:
        return _token(content, random)
    k = random.randrange(len(documents))
    paths = list(places(documents[k]))
    if not paths:
        return _token(content, random)
    change(documents[k], random.choice(paths))
    return _written(documents, lines)


def _documents(content: bytes) -> tuple[list[Any], str]:
    """Documents of JSON or YAML, and how they are divided."""
    text = content.decode()
    try:
        return [json.loads(text)], ""
    except ValueError:
        pass
    try:
        return [json.loads(line) for line in text.splitlines() if line.strip()], "\n"
    except ValueError:
        pass
    import yaml

    try:
        return [one for one in yaml.safe_load_all(text) if one is not None], "\n---\n"
    except yaml.YAMLError as error:
        raise ValueError("no YAML") from error


def _written(documents: Sequence[Any], between: str) -> bytes:
    return between.join(json.dumps(one, default=str) for one in documents).encode()


def _at(root: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        root = root[key]
    return root


def _put(root: Any, path: tuple[Any, ...], value: object) -> None:
    _at(root, path[:-1])[path[-1]] = value


# --- cells -----------------------------------------------------------------------------------------


def _cell(content: bytes, random: Random) -> bytes:
    def change(rows: list[list[str]]) -> None:
        row = random.choice(rows)
        value = random.choice((*VALUES, *TOKENS))
        text = value if isinstance(value, str) else json.dumps(value)
        if row:
            row[random.randrange(len(row))] = text

    return _with_cells(content, random, change)


def _columns(content: bytes, random: Random) -> bytes:
    """A column is lost, doubled, renamed or swapped with another; or one row has a cell more or less."""

    def change(rows: list[list[str]]) -> None:
        width = len(rows[0])
        a, b = random.randrange(width), random.randrange(width)
        match random.randrange(5):
            case 0:
                for row in rows:
                    del row[a : a + 1]
            case 1:
                for row in rows:
                    row[b:b] = row[a : a + 1]
            case 2:
                rows[0][a] = random.choice(("", "x" * 10_000, rows[0][b], "a\nb", "7"))
            case 3:
                for row in rows[random.randrange(2) :]:
                    if max(a, b) < len(row):
                        row[a], row[b] = row[b], row[a]
            case _:
                row = random.choice(rows)
                row.extend(["7"] * random.choice((1, 3))) if random.random() < 0.6 else row.pop()

    return _with_cells(content, random, change)


def _with_cells(content: bytes, random: Random, change: Callable[[list[list[str]]], None]) -> bytes:
    try:
        rows = list(csv.reader(io.StringIO(content.decode(), newline="")))
    except (UnicodeDecodeError, csv.Error):
        return _flip(content, random)
    if not rows or not rows[0]:
        return _insert(content, random)
    change(rows)
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n", escapechar="\\").writerows(rows)
    return text.getvalue().encode("utf-8", errors="surrogatepass")


_OF_BYTES: tuple[Damage, ...] = (_flip, _cut, _double, _lose, _insert)
_OF_TEXT: tuple[Damage, ...] = (_token, _number, _swap_tokens, _lines, _token, _number)
_OF_VALUES: tuple[Damage, ...] = (
    _value,
    _swap_values,
    _remove_key,
    _rename_key,
    _scale,
    _twice,
    _value,
    _scale,
)
_OF_CELLS: tuple[Damage, ...] = (_cell, _columns, _cell, _number, _cell)
_DAMAGES: dict[Form, tuple[Damage, ...]] = {
    "bytes": _OF_BYTES,
    "text": (*_OF_BYTES, *_OF_TEXT, *_OF_TEXT),
    "json": (*_OF_BYTES, *_OF_TEXT, *_OF_VALUES),
    "yaml": (*_OF_BYTES, *_OF_TEXT, *_OF_VALUES, _bomb),
    "csv": (*_OF_BYTES, *_OF_TEXT, *_OF_CELLS),
}
