"""What parsers of JSON, YAML, TOML and CSV find wrong, in our words.

Theirs are of Python 3.11 to 3.14 (``json/decoder.py``, ``json/scanner.py``, ``tomllib/_parser.py``) and of
libyaml 0.2.5 and PyYAML 6.0 (``scanner.c``, ``parser.c``, ``reader.c`` and the modules of the same names).
What is not listed is only said to be wrong at its place.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

Words = Sequence[tuple[str, str]]
"""What a parser's words contain, and ours."""

_JSON: Words = (
    ("Expecting value", "a value is missing"),
    ("Expecting property name", "a key in double quotes is missing"),
    ("Expecting ':'", "a colon is missing"),
    ("Expecting ','", "a comma or a closing bracket is missing"),
    ("Extra data", "something follows its end"),
    ("Unterminated string", "a quote is not closed that opens"),
    ("Invalid control character", "a control character, such as a line's end, stands within quotes"),
    ("uXXXX", "\\u lacks its four hexadecimal digits"),
    ("Invalid \\", "a backslash begins no escape"),
    ("trailing comma", "a comma stands before a closing bracket"),
    ("BOM", "a second byte order mark stands"),
)

_YAML: Words = (
    ("mapping values are not allowed", "a colon follows what is no key"),
    ("did not find expected ',' or '}'", "a brace { is not closed, or a comma is missing, before this place"),
    ("expected ',' or '}'", "a brace { is not closed, or a comma is missing, before this place"),
    ("expected ',' or ']'", "a bracket [ is not closed, or a comma is missing, before this place"),
    ("could not find expected ':'", "a line has no colon after its key"),
    ("expected key", "a line is indented otherwise than those of its mapping"),
    ("expected <block end>", "a line is indented otherwise than those above it"),
    ("expected '-'", "a line among the items of a list begins with no dash"),
    ("node content", "a value is missing"),
    ("<document start>", "something follows the end of its values"),
    ("end of stream", "a quote is not closed"),
    ("document separator", "a quote is not closed before ---"),
    ("unexpected ':'", "a colon stands within brackets where no key ends"),
    ("cannot start any token", "a character stands here at which no value begins"),
    ("unknown escape character", "a backslash within double quotes begins no escape"),
    ("hexdecimal", "an escape within double quotes lacks its hexadecimal digits"),
    ("hexadecimal", "an escape within double quotes lacks its hexadecimal digits"),
    ("block sequence entries are not allowed", "a dash begins an item where no list can stand"),
    ("mapping keys are not allowed", "a question mark begins a key where none can stand"),
    ("tag", "an exclamation mark begins no tag"),
    ("URI", "an exclamation mark begins no tag"),
    ("anchor", "& or * is not followed by a name"),
    ("alphabetic", "& or * is not followed by a name"),
    ("indentation indicator", "a text after | or > is indented by no number from 1 to 9"),
    ("comment or line break", "something follows | or >, or a directive, on its line"),
    ("violates indentation", "a tab indents a line"),
    ("directive", "a percent sign begins no directive that is known"),
    ("version", "a percent sign begins no directive that is known"),
    ("incompatible YAML document", "it is said to be of a version of YAML that is not read"),
    ("chomping", "something else than + or - follows | or >"),
)

_TOML: Words = (
    ("Cannot declare", "a table is declared twice"),
    ("Cannot overwrite", "a key is given twice"),
    ("Cannot mutate", "a table is added to that was given whole"),
    ("Cannot redefine", "a key is given twice"),
    ("Duplicate inline table key", "a key is given twice"),
    ("after a key", "an equals sign is missing after a key"),
    ("']]'", "the name of a table is not closed by ]]"),
    ("']'", "the name of a table is not closed by ]"),
    ("end of document after a statement", "something follows a value on its line"),
    ("Expected newline", "something follows a value on its line"),
    ("invalid character", "a character is none of TOML's"),
    ("Illegal character", "a character is none of TOML's"),
    ("initial character for a key", "no key begins"),
    ("Invalid statement", "no key and no table begins"),
    ("Invalid value", "no value begins"),
    ("Unclosed array", "a bracket [ is not closed, or a comma is missing"),
    ("Unclosed inline table", "a brace { is not closed, or a comma is missing"),
    ("Unterminated string", "a quote is not closed"),
    ("Unescaped", "a backslash begins no escape"),
    ("date", "there is no such date"),
    ("hex value", "an escape lacks its hexadecimal digits"),
    ("Unicode scalar", "an escape is no character"),
)

_CSV: Words = (
    ("EOF inside string", "a quote is not closed"),
    ("EOF following escape", "a backslash ends it"),
    ("unexpected end of data", "a quote is not closed"),
    ("field larger", "a cell has more than 131,072 characters"),
    ("new-line character", "a line ends within a cell that has no quotes"),
    ("NUL", "it holds the character U+0000"),
    ("Buffer overflow", "a line ends within a cell that has no quotes"),
)


def json_words(parser: str) -> str:
    """What a parser of JSON found, in our words."""
    return _ours(parser, _JSON)


def yaml_words(parser: str) -> str:
    """What a parser of YAML found, in our words."""
    return _ours(parser, _YAML)


def toml_words(parser: str) -> str:
    """What a parser of TOML found, in our words."""
    return _ours(parser, _TOML)


def csv_words(parser: str) -> str:
    """What a parser of CSV, Python's or pandas' (3.1, ``tokenizer.c``), found, in our words."""
    if row := re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", parser):
        return f"line {row[2]} has {row[3]} cells, the lines before it {row[1]}"
    return _ours(parser, _CSV)


def _ours(parser: str, words: Words) -> str:
    return next((ours for theirs, ours in words if theirs in parser), "it cannot be understood")
