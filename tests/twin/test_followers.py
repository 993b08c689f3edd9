"""Requests that are sent some time after another's last token: users who wait, and conversations."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import numpy as np
import pytest

from tests.twin.engine_cases import case
from twin import EngineInputError, Requests
from twin.engine.run import simulate_requests


def chained(requests: Requests, seed: int) -> Requests:
    """The same requests, but that half of them follow another."""
    rng = np.random.default_rng(seed)
    n = len(requests)
    first = n - n // 2
    follows = np.full(n, -1, dtype=np.int32)
    follows[first:] = rng.permutation(n)[: n - first]
    follows[first:] = np.where(follows[first:] == np.arange(first, n), 0, follows[first:])
    if len(np.unique(follows[first:])) < n - first:
        follows[first:] = np.arange(n - first)
    delay = rng.choice([0.0, 0.25, 3.0], n)
    return replace(requests, arrival_s=np.where(follows < 0, requests.arrival_s, delay), follows=follows)


@pytest.mark.parametrize("seed", range(60))
def test_followers_are_served_as_if_their_arrivals_had_been_known(seed: int) -> None:
    one = case(seed)
    horizon = one.horizon_s if np.isfinite(one.horizon_s) else 1e4
    followed = simulate_requests(chained(one.requests, seed), one.setup, horizon)
    known = simulate_requests(followed.requests, one.setup, horizon)
    for name in ("first_token_s", "finish_s", "preemptions", "generated_tokens"):
        np.testing.assert_array_equal(getattr(followed, name), getattr(known, name))


def test_a_chain_goes_on_as_long_as_its_requests_end() -> None:
    one = case(3)
    n = 5
    chain = Requests(
        arrival_s=np.array([1.0, 2.0, 2.0, 2.0, 2.0]),
        prompt_tokens=np.full(n, 3, dtype=np.int32),
        output_tokens=np.full(n, 2, dtype=np.int32),
        adapter=np.zeros(n, dtype=np.int32),
        n_adapters=one.requests.n_adapters,
        follows=np.arange(-1, n - 1, dtype=np.int32),
    )
    whole = simulate_requests(chain, one.setup, 1e4)
    np.testing.assert_allclose(whole.requests.arrival_s[1:], whole.finish_s[:-1] + 2.0, rtol=1e-12)
    cut = simulate_requests(chain, one.setup, float(whole.finish_s[2]) + 1.0)
    assert len(cut.requests) == 3
    np.testing.assert_array_equal(cut.finish_s, whole.finish_s[:3])


def test_chains_that_branch_or_come_first_are_refused() -> None:
    one = case(3)
    requests = chained(one.requests, 3)
    assert requests.follows is not None
    branching = requests.follows.copy()
    branching[-2:] = 0
    with pytest.raises(EngineInputError, match="one other at most"):
        simulate_requests(replace(requests, follows=branching), one.setup, inf)
    with pytest.raises(EngineInputError, match="come after"):
        simulate_requests(replace(requests, follows=requests.follows[::-1].copy()), one.setup, inf)
