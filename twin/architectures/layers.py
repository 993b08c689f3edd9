"""Layers of a model: how tokens are mixed, what each token passes through, and the modules of both."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from twin.architectures.feed_forward import FeedForward
from twin.architectures.mixers import Mixer
from twin.architectures.modules import Module, Weight


class Layer(NamedTuple):
    """One layer of a model.

    Parameters
    ----------
    mixers
        How tokens are mixed; several work side by side, and a layer of a hybrid model may have none.
    feed_forward
        What each token passes through, or None.
    norms
        Elements of each normalisation and of other small tensors.
    """

    mixers: tuple[Mixer, ...]
    feed_forward: FeedForward | None
    norms: tuple[int, ...]

    def modules(self, hidden: int) -> tuple[Module, ...]:
        """Modules in the order of their making, for vectors of this size."""
        return _modules(self, hidden)


@lru_cache(maxsize=4096)
def _modules(layer: Layer, hidden: int) -> tuple[Module, ...]:
    """Modules of a layer; a model has a few kinds of layers and many of each."""
    made = [module for mixer in layer.mixers for module in mixer.modules(hidden)]
    if layer.feed_forward is not None:
        made += layer.feed_forward.modules(hidden)
    return (*made, *(Weight(size) for size in layer.norms))
