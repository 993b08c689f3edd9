"""By what criterion a GPU is accepted, and which keys of a scenario belong to which criterion."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from copy import copy
from typing import Any, Literal, get_args

from scenarios.reading.findings import Finding, Loc

Acceptance = Literal["sustained", "paper"]
"""*sustained*: the GPU keeps up for ever; *paper*: 90 % of the tokens within a run (arXiv 2602.24044)."""

ACCEPTANCES: tuple[Acceptance, ...] = get_args(Acceptance)

_TOP: dict[Acceptance, tuple[str, ...]] = {"sustained": ("headroom",), "paper": ()}
_LEVELS: dict[Acceptance, tuple[str, ...]] = {
    "sustained": ("patience_s", "late_share"),
    "paper": ("served_share", "adapter_served_share"),
}
_LEVELS_OF_ADAPTERS: dict[Acceptance, tuple[str, ...]] = {
    "sustained": ("patience_s",),
    "paper": ("served_share",),
}


def _other(acceptance: Acceptance) -> Acceptance:
    return "paper" if acceptance == "sustained" else "sustained"


def foreign_keys(values: object, acceptance: Acceptance) -> Iterator[Loc]:
    """Yield where the values of a scenario file state something that belongs to the other criterion.

    Parameters
    ----------
    values
        Values of a file, right or wrong; null states nothing.
    acceptance
        The criterion that counts.
    """
    other = _other(acceptance)
    yield from _stated(values, _TOP[other])
    if not isinstance(values, Mapping):
        return
    yield from _stated(values.get("service_levels"), _LEVELS[other], ("service_levels",))
    entries = values.get("adapters")
    for index, entry in enumerate(entries if isinstance(entries, list | tuple) else ()):
        own = entry.get("service_levels") if isinstance(entry, Mapping) else None
        yield from _stated(own, _LEVELS_OF_ADAPTERS[other], ("adapters", index, "service_levels"))


def _stated(values: object, keys: Iterable[str], above: Loc = ()) -> Iterator[Loc]:
    if isinstance(values, Mapping):
        yield from ((*above, key) for key in keys if values.get(key) is not None)


def foreign_findings(stated: Mapping[str, object], acceptance: Acceptance) -> Iterator[Finding]:
    """Yield every key that the criterion of a scenario does not look at, though it is stated."""
    other = _other(acceptance)
    for loc in foreign_keys(stated, acceptance):
        message = f"is no part of the criterion {acceptance}, by which GPUs are accepted"
        yield Finding(loc, message, f"remove it, or write acceptance: {other}")


def without_foreign(values: Any, acceptance: Acceptance) -> Any:
    """A scenario's values without what belongs to the other criterion; the given ones stay as they are."""
    copies: dict[Loc, Any] = {}

    def own(loc: Loc) -> Any:
        """The copy of what stands at a place, within a copy of what holds it; each is made once."""
        if loc not in copies:
            parent = own(loc[:-1]) if loc else None
            given = values if parent is None else parent[loc[-1]]
            copies[loc] = list(given) if isinstance(given, tuple) else copy(given)
            if parent is not None:
                parent[loc[-1]] = copies[loc]
        return copies[loc]

    for loc in foreign_keys(values, acceptance):
        del own(loc[:-1])[loc[-1]]
    return copies.get((), values)
