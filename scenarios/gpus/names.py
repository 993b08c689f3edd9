"""Names of GPUs, as people, drivers and clouds write them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

_IDLE = frozenset(
    {"nvidia", "amd", "tesla", "geforce", "instinct", "gpu", "gpus", "hbm2", "hbm2e", "hbm3", "hbm3e"}
)
"""Words that tell no GPU from another."""

_SIZE = re.compile(r"\b(\d+)\s?g(?:i?b)?\b")
"""A size of memory."""

_FORM = re.compile(r"sxm\d?")
"""A form of NVIDIA's modules; the number tells the generation, which the GPU tells too."""


class GPUWords(NamedTuple):
    """What a GPU may be called.

    Parameters
    ----------
    names
        Its names, each as the set of its words.
    model
        The words that are its model: all of its own name but sizes and forms.
    words
        The words of all its names.
    """

    names: tuple[frozenset[str], ...]
    model: frozenset[str]
    words: frozenset[str]


def words_of(name: str, aliases: Iterable[str]) -> GPUWords:
    """Return what a GPU of this name may be called."""
    names = tuple(_words(one) for one in (name, *aliases))
    model = frozenset(word for word in names[0] if not _SIZE.fullmatch(word) and word not in ("sxm", "pcie"))
    return GPUWords(names, model, frozenset().union(*names))


def named(name: str, known: Sequence[GPUWords]) -> list[int]:
    """Return which of the known GPUs may be meant by a name.

    One whose name it is, word by word, is alone meant; else all that have every word of it, and a word of
    whose model is in it.
    """
    sizes = frozenset(word for gpu in known for word in gpu.words if _SIZE.fullmatch(word))
    words = frozenset(f"{word}gb" if f"{word}gb" in sizes else word for word in _words(name))
    exact = [k for k, gpu in enumerate(known) if words in gpu.names]
    if exact:
        return exact
    return [k for k, gpu in enumerate(known) if words <= gpu.words and _has_number(words & gpu.model)]


def _has_number(words: Iterable[str]) -> bool:
    """Whether words of a model tell more than a series: ``rtx`` alone is none."""
    return any(char.isdigit() for word in words for char in word)


def _words(name: str) -> frozenset[str]:
    """Return the words of a name that tell it from others, each in one spelling."""
    plain = re.sub(r"[^a-z0-9]+", " ", name[:200].lower())
    apart = re.sub(r"\brtx(?=a?\d)", "rtx ", _SIZE.sub(r"\1gb", plain))
    words = ("sxm" if _FORM.fullmatch(word) else word for word in apart.split())
    return frozenset(word for word in words if word not in _IDLE)
