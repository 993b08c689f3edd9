"""Prompts of a log that the scenario's engine would refuse, taken out of their lengths."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from typing import cast

from scenarios.importers.values import ValuesBuilder
from scenarios.reading.findings import Loc
from scenarios.text.formatting import listed

NAMED = 5
"""Adapters that the note names."""


def cut_prompts(built: ValuesBuilder, limit: int) -> None:
    """Let no prompt be as long as ``engine.max_model_len``: an engine refuses those, and a scenario too.

    A log may hold such requests: they were refused, or another engine took them. A mean that is as long is
    left as it is, for the user to see.

    Parameters
    ----------
    built
        The scenario's values.
    limit
        Its ``engine.max_model_len`` in tokens.
    """
    entries = cast("list[dict[str, object]]", built.values["adapters"])
    places: list[tuple[Loc, str, dict[str, object]]] = [
        (("adapters", k, "prompt"), str(entry["name"]), entry) for k, entry in enumerate(entries)
    ]
    workload = cast("dict[str, object]", built.values["workload"])
    places.append((("workload", "prompt"), "the workload", workload))
    cut: dict[str, int] = {}
    for loc, name, holder in places:
        longest, shorter = _cut(holder.get("prompt"), limit)
        if shorter is None:
            continue
        holder["prompt"] = shorter
        built.beside[loc] = f"cut at {limit:,}, told up to {longest:,}: {built.beside.get(loc, '')}"
        cut[name] = longest
    if cut:
        built.notes.append(
            f"There were prompts of up to {max(cut.values()):,} tokens, and an engine refuses those of "
            f"max_model_len {limit:,} and more: the lengths of {listed(list(cut), NAMED)} are cut there. "
            "Raise engine.max_model_len (--set) if they were served."
        )


def _cut(value: object, limit: int) -> tuple[int, dict[str, object] | None]:
    """The longest of some lengths, and the same without those from a limit on; None: nothing is cut."""
    if not isinstance(value, Mapping):
        return 0, None
    if "edges" in value:
        return _cut_histogram(value, limit)
    longest, mean = value.get("max"), value.get("mean")
    if not isinstance(longest, int) or not isinstance(mean, int | float) or not mean < limit - 1 < longest:
        return 0, None
    return longest, {**value, "max": limit - 1}


def _cut_histogram(value: Mapping[str, object], limit: int) -> tuple[int, dict[str, object] | None]:
    """A histogram without what is beyond; of the bin across the limit the part below it is left."""
    edges, weights = (cast("list[float]", list(cast("list[float]", value[k]))) for k in ("edges", "weights"))
    top = limit - 1
    if not edges[0] < top < edges[-1]:
        return 0, None
    last = bisect_left(edges, top)
    kept = weights[:last]
    kept[-1] *= (top - edges[last - 1]) / (edges[last] - edges[last - 1])
    if not any(weight > 0 for weight in kept):
        return 0, None
    total = sum(kept)
    shown = [float(f"{weight / total:.6g}") for weight in kept]
    return int(edges[-1]), {"edges": [*edges[:last], float(top)], "weights": shown}
