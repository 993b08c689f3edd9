"""Texts that mean something else than a name, or show what they are not."""

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
"""Of one line: names that mean something else in a shell, YAML, a template or a path."""

OBEYED_TEXTS = (
    "\x1b[31mred",
    "\x1b]0;title\x07",
    "\u202egnp.exe",
    "a\u200bb",
    "a\nb",
    "a\r\nb",
    "\tb",
    "\0",
    "\ud800",
    "=1+1",
    "@SUM(1)",
    "＝1",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "$x^{$",
    "$\\frac{",
    "[bold red]x[/bold red]",
    "x" * 10_000,
    "漢" * 10_000,
)
"""What a terminal, a spreadsheet, a browser, a drawing or a reader of many lines obeys, or cannot show."""
