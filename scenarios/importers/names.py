"""Names of adapters as scenarios take them, of whatever text clients ask for."""

from __future__ import annotations

import re
from collections.abc import Iterable

MOST = 200
"""Most characters of an adapter's name."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/@+-]*")
_REFUSED = re.compile(r"[^A-Za-z0-9._/@+-]+")


def names_for(served: Iterable[str]) -> dict[str, str]:
    """A name for each served name, that name itself where it is one; they are distinct.

    Of others, what no name may hold becomes a hyphen, and a number tells those apart that become equal.
    """
    distinct = list(dict.fromkeys(served))
    names = {one: one for one in distinct if len(one) <= MOST and _NAME.fullmatch(one)}
    taken = set(names.values())
    for one in distinct:
        if one in names:
            continue
        plain = _REFUSED.sub("-", one[:MOST]).strip("-._/@+") or "adapter"
        number, name = 1, plain
        while name in taken:
            number += 1
            name = f"{plain[: MOST - 8]}-{number}"
        taken.add(name)
        names[one] = name
    return {one: names[one] for one in distinct}
