"""Values, choices and near misses in words, as error messages show them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence

from scenarios.text.display import cut_in_middle, visible

LONGEST = 60
"""Most characters of a value that a message shows."""


LEAST_STEM = 3
"""Fewest characters of a word by which a longer one is known: ``zipf`` for ``zipf_total``."""


def shown(value: object) -> str:
    """Return a value as a message shows it: short, and with its kind where that is not plain."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'the text "{shortened(value)}"'
    if isinstance(value, float):
        return f"{value:.12g}"
    if isinstance(value, int):
        return shortened(str(value)) if value.bit_length() < 4096 else "a number of over a thousand digits"
    if isinstance(value, Mapping):
        keys = ", ".join(str(key) for key in value)
        return f"a mapping with the keys {shortened(keys)}" if keys else "an empty mapping"
    if isinstance(value, list | tuple):
        return f"a list of {len(value):,}" if value else "an empty list"
    return f"a {type(value).__name__}"


def shortened(text: str) -> str:
    """Return text on one line, cut in the middle where it is long."""
    return cut_in_middle(visible(cut_in_middle(text, LONGEST)), LONGEST)


def choice(values: Iterable[object], last: str = "or") -> str:
    """Return values as a choice: ``8, 16 or 32``."""
    names = [str(value) for value in values]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {last} {names[-1]}"


def listed(names: Sequence[str], shown_names: int) -> str:
    """Return names in a row, and how many more there are: ``a, b and 3 more``; of none: ``none``."""
    if not names:
        return "none"
    more = len(names) - shown_names
    return choice([*names[:shown_names], f"{more:,} more"] if more > 0 else names, "and")


def bracketed(items: str) -> str:
    """Return items with commas between them as a list is written: ``[8, 16]``."""
    return f"[{', '.join(item.strip() for item in shortened(items).split(','))}]"


def counted(number: int, noun: str) -> str:
    """Return a number of things: ``1 round``, ``2 rounds``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def served(adapters: int, base: bool) -> str:
    """Return what is served: ``2 adapters``, ``2 adapters and the base model``, ``the base model``."""
    if not base:
        return counted(adapters, "adapter")
    return f"{counted(adapters, 'adapter')} and the base model" if adapters else "the base model"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that a reader most likely meant, if any comes near."""
    if len(word) > LONGEST:
        return None
    by_lower = {name.lower(): name for name in known}
    plain = word.lower().replace("-", "_")
    begun = [name for name in by_lower if len(plain) >= LEAST_STEM and name.startswith(f"{plain}_")]
    if len(begun) == 1:
        return by_lower[begun[0]]
    close = difflib.get_close_matches(plain, by_lower, n=1, cutoff=0.6)
    return by_lower[close[0]] if close else None


def suggestion(word: object, known: Iterable[object]) -> str:
    """Return a remedy that names the known word that a reader most likely meant; empty if none comes near."""
    close = nearest(word, map(str, known)) if isinstance(word, str) else None
    return f'did you mean "{close}"?' if close else ""
