"""Arithmetic of shells, as far as it is plain: whole numbers, variables, sums and products."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping

LONGEST = 200
"""Most characters of an expression that is worked out."""

LARGEST = 10**12
"""Largest number, which is no port nor GPU any more."""

_NAME = re.compile(r"\$?\{?([A-Za-z_][A-Za-z0-9_]*)\}?")
_PLAIN = re.compile(r"[0-9+\-*/%() \t]+")
_SIGNS: Mapping[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}


def worked_out(expression: str, variables: Mapping[str, str]) -> int | None:
    """The value of what stands between ``$((`` and ``))``; None: it is not plain, or a run would tell it.

    Parameters
    ----------
    expression
        The text between.
    variables
        Those that are known.
    """
    text = _NAME.sub(lambda match: f"({variables.get(match[1], '?')})", expression[: LONGEST + 1])
    if len(text) > LONGEST or _PLAIN.fullmatch(text) is None or "//" in text or "**" in text:
        return None
    try:
        # Of Python's own parser only the tree is taken; numbers that begin with 0, octal ones, are none.
        return _value(ast.parse(text.strip().replace("/", "//"), mode="eval").body)
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError, MemoryError):
        return None


def _value(node: ast.expr) -> int:
    """The number that a tree stands for.

    Raises
    ------
    ValueError
        If it is none, or too large.
    """
    if isinstance(node, ast.Constant) and type(node.value) is int:
        value = node.value
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = -_value(node.operand)
    elif isinstance(node, ast.BinOp) and type(node.op) in _SIGNS:
        value = _SIGNS[type(node.op)](_value(node.left), _value(node.right))
    else:
        raise ValueError("it is no plain arithmetic")
    if abs(value) > LARGEST:
        raise ValueError("it is too large")
    return value
