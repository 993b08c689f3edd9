"""Shares of requests as the whole numbers that routers take."""

from __future__ import annotations

from collections.abc import Mapping

from scenarios.errors import Problem
from scenarios.exporters.deployment import ExportError

PARTS = 1000
"""What the weights of a route sum to: a share is exact to 0.1 %."""


def whole_weights(shares: Mapping[int, float]) -> dict[int, int]:
    """Weights in the proportion of shares that sum to 1: whole, at least 1, and `PARTS` in sum.

    What rounding down leaves goes to the largest remainders.

    Raises
    ------
    ExportError
        If there are more shares than parts.
    """
    if len(shares) > PARTS:
        message = f"is routed to {len(shares):,} servers, and the weights of routers are of {PARTS:,} parts"
        raise ExportError([Problem("a split adapter", message, "split it over fewer")])
    weights = {key: max(int(share * PARTS), 1) for key, share in shares.items()}
    order = sorted(shares, key=lambda key: (shares[key] * PARTS) % 1, reverse=True)
    for k in range(PARTS - sum(weights.values())):
        weights[order[k % len(order)]] += 1
    while sum(weights.values()) > PARTS:  # many shares below a part were raised to one
        weights[max(weights, key=lambda key: weights[key])] -= 1
    return weights
