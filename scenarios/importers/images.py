"""Images of containers: what of an engine they tell."""

from __future__ import annotations

import re
from dataclasses import replace

from scenarios.importers.facts import Said, ServerFacts

_TAGGED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@+-]{0,480}:[A-Za-z0-9_][A-Za-z0-9._-]*", re.ASCII)
"""An image with its tag, of the signs that ``export.image`` takes."""

_OWN = re.compile(r"(?:.*/)?vllm/vllm-openai:v(\d+\.\d+\.\d+(?:\.post\d+|rc\d+)?)(?:-.*)?", re.ASCII)
"""vLLM's own images, whose tags are its releases; of other images a tag may be another program's."""


def with_image(server: ServerFacts, image: str, origin: str) -> ServerFacts:
    """A server with the image of its container, and the release that its tag tells.

    Parameters
    ----------
    image
        As it is told; without a tag it says nothing that could be written.
    origin
        Where it is told.
    """
    if _TAGGED.fullmatch(image) is None or server.program != "vLLM" or "vllm" not in image.lower():
        return server
    told = _OWN.fullmatch(image)
    release = server.release if told is None else Said(told[1], f"{origin}, {image}")
    return replace(server, image=Said(image, origin), release=release)
