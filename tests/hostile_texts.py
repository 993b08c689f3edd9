"""Texts of one line that are names, and that mean something else in a shell, YAML, a template or a path."""

HOSTILE_TEXTS = (
    'a"b',
    "a'b",
    "a: b # c",
    "../../etc",
    "$(touch x)",
    "`x`",
    "{{ x }}",
    "%i",
    "a;b",
    "é漢",
)
