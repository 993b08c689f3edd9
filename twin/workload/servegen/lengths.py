"""Lengths of ServeGen's clients: their distributions by window, or their means."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scenarios.errors import cause_of
from scenarios.reading.row_cells import MOST_TOKENS
from scenarios.reading.row_files import TraceError
from scenarios.reading.syntax.json_text import json_value
from scenarios.text.formatting import shortened
from twin.engine.requests import FloatArray, IntArray

FIELDS = ("input_tokens", "output_tokens")
"""Prompts and answers in ServeGen's ``chunk-N-dataset.json``."""


class Distribution(NamedTuple):
    """Lengths in tokens, ascending, and the probability of each or a shorter one."""

    values: IntArray
    cumulative: FloatArray

    @property
    def mean(self) -> float:
        """Mean length in tokens."""
        return float(self.values @ np.diff(self.cumulative, prepend=0.0))

    def draw(self, n: int, rng: np.random.Generator) -> IntArray:
        """Draw n lengths."""
        place = np.searchsorted(self.cumulative, rng.random(n), side="right")
        return self.values[np.minimum(place, len(self.values) - 1)]


class WindowLengths(NamedTuple):
    """Prompts and answers of a client from some second of the recording on."""

    start_s: float
    prompt: Distribution
    output: Distribution


def read_lengths(path: Path) -> tuple[WindowLengths, ...]:
    """Distributions of a client's lengths, in the order of their windows.

    Windows without a request are left out, as ServeGen's own reader does (servegen/clientpool.py).

    Raises
    ------
    TraceError
        If the file is missing or damaged.
    """
    try:
        held = json_value(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TraceError(f"{path}: cannot be read ({cause_of(error)}); fetch it again") from error
    except ValueError as error:
        raise TraceError(f"{path}: is no JSON ({cause_of(error)}); fetch it again") from error
    if not isinstance(held, dict):
        raise TraceError(f"{path}: is no JSON object of windows; fetch it again")
    windows = []
    for key, fields in held.items():
        try:
            start = float(int(key))
            texts = [fields[name] for name in FIELDS]
        except (ValueError, TypeError, KeyError) as error:
            raise TraceError(
                f'{path}: the window "{shortened(key)}" has no {" and ".join(FIELDS)}; fetch it again'
            ) from error
        found = [_distribution(path, key, name, text) for name, text in zip(FIELDS, texts, strict=True)]
        if found[0] is not None and found[1] is not None:
            windows.append(WindowLengths(start, found[0], found[1]))
    return tuple(sorted(windows, key=lambda window: window.start_s))


def _distribution(path: Path, window: str, name: str, text: object) -> Distribution | None:
    """A distribution as ServeGen writes it: the text of a mapping of lengths to probabilities."""
    try:
        shares: Any = ast.literal_eval(text) if isinstance(text, str) else text
        if not shares:
            return None
        length = np.array(list(shares), dtype=np.int64)
        share = np.array(list(shares.values()), dtype=np.float64)
        fits = (length >= 0).all() and (length <= MOST_TOKENS).all() and (share >= 0).all()
        if not fits or not np.isfinite(share).all() or share.sum() <= 0:
            raise ValueError("lengths and probabilities must not be negative")
    except (
        ValueError,
        TypeError,
        AttributeError,
        SyntaxError,
        MemoryError,
        RecursionError,
        OverflowError,
    ) as error:
        raise TraceError(
            f'{path}: {name} of the window "{shortened(window)}" is "{shortened(str(text))}"; '
            "give lengths with their probabilities, none of them negative"
        ) from error
    order = np.argsort(length)
    cumulative = np.cumsum(share[order])
    return Distribution(np.maximum(length[order], 1).astype(np.int32), cumulative / cumulative[-1])


def mean_of(windows: Sequence[WindowLengths]) -> tuple[float, float]:
    """Mean tokens of prompts and of answers, over windows."""
    return (
        float(np.mean([window.prompt.mean for window in windows])),
        float(np.mean([window.output.mean for window in windows])),
    )
