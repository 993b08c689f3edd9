"""Traffic of each entry's own: every adapter gets what its process promises, whatever else its GPU serves."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from scenarios import (
    Arrivals,
    ClosedLoopArrivals,
    DeterministicArrivals,
    FixedLengths,
    GammaArrivals,
    HistogramLengths,
    HyperexponentialArrivals,
    Lengths,
    LognormalLengths,
    OnOffArrivals,
    PiecewiseArrivals,
    PoissonArrivals,
    PromptReuse,
    Sessions,
    TraceArrivals,
    UnpredictableArrivals,
    WeibullArrivals,
    Workload,
)
from twin import GPULoad, Requests, WorkloadError, draw_requests
from twin.simulate import fit_lengths, refuse_long_prompts
from twin.workload.gaps import HyperexponentialGaps
from twin.workload.parts import Part, merged
from twin.workload.processes.switches import on_periods

PROMPT, OUTPUT = FixedLengths(tokens=222), FixedLengths(tokens=195)
CALM = Workload(prompt=PROMPT, output=OUTPUT, duration_s=1000.0)
BURSTS = HyperexponentialArrivals(cv=4)
SWITCHED = OnOffArrivals(on_s=20, off_s=60)
FIELDS = ("arrival_s", "prompt_tokens", "output_tokens", "adapter")


def _load(
    rates: list[float],
    arrivals: list[Arrivals | None] | None = None,
    reuse: list[PromptReuse | None] | None = None,
    prompt: Lengths = PROMPT,
) -> GPULoad:
    n = len(rates)
    return GPULoad(
        names=tuple(f"a{k}" for k in range(n)),
        rank=np.full(n, 8, dtype=np.int32),
        rate=np.array(rates, dtype=np.float64),
        prompt=(prompt,) * n,
        output=(OUTPUT,) * n,
        arrivals=tuple(arrivals or ()),
        reuse=tuple(reuse or ()),
    )


def _of(requests: Requests, adapter: int) -> Requests:
    """The requests of one adapter."""
    own = requests.adapter == adapter
    return Requests(*(getattr(requests, name)[own] for name in FIELDS), n_adapters=1)


# --- what was drawn before --------------------------------------------------------------------------

_THREE = [
    PROMPT,
    LognormalLengths(mean=223, std=243, min=4, max=1024),
    HistogramLengths(edges=(1, 10, 100, 900), weights=(1, 2, 1)),
]
_TWO = [LognormalLengths(mean=195, std=210, max=1024), FixedLengths(tokens=7)]


@pytest.mark.parametrize(
    ("arrivals", "equal", "mixed"),
    [
        (PoissonArrivals(), "baf09ae5ba73", "e3965e68755c"),
        (GammaArrivals(cv=3), "82ca26d19ebc", "a9e9ab9b8d0c"),
        (WeibullArrivals(cv=0.5), "21ecc34dbd10", "4c2018de7279"),
        (DeterministicArrivals(), "e5fc3e3cad79", "f9889f62185c"),
        (PiecewiseArrivals(window_s=100, factors=(0.5, 1.5), cv=2), "898f3ae9a5f9", "8a5bbb2514fb"),
        (UnpredictableArrivals(), "f6515c0deff0", "c12665d6645d"),
        (UnpredictableArrivals(gaps="lognormal", every_s=50), "abb965e18ecc", "bbcc0a714b85"),
    ],
    ids=repr,
)
def test_without_traffic_of_its_own_an_entry_gets_what_it_always_got(
    arrivals: Arrivals, equal: str, mixed: str
) -> None:
    """The digests are those of requests drawn before entries could have processes of their own."""

    def digest(prompts: list[Lengths], outputs: list[Lengths], seed: int, *, sustained: bool) -> str:
        load = _load([0.05, 0.4, 2.0] * 4)
        load = replace(
            load,
            prompt=tuple(prompts[k % len(prompts)] for k in range(12)),
            output=tuple(outputs[k % len(outputs)] for k in range(12)),
        )
        workload = CALM.model_copy(update={"arrivals": arrivals, "duration_s": 600.0})
        drawn = draw_requests(load, workload, seed, sustained=sustained)
        content = b"".join(getattr(drawn, name).tobytes() for name in FIELDS)
        return hashlib.sha256(content).hexdigest()[:12]

    assert digest(_THREE[1:2], _TWO[:1], 0, sustained=False) == equal
    assert digest(_THREE, _TWO, 1, sustained=True) == mixed


# --- each its own -----------------------------------------------------------------------------------

EVERY: list[Arrivals] = [
    PoissonArrivals(),
    GammaArrivals(cv=3),
    WeibullArrivals(cv=0.5),
    DeterministicArrivals(),
    BURSTS,
    SWITCHED,
    OnOffArrivals(on_s=3, off_s=1, cv=2, group="shift"),
    UnpredictableArrivals(),
    UnpredictableArrivals(group="market", gaps="lognormal"),
    PiecewiseArrivals(window_s=50, factors=(0.5, 1.5)),
]


@pytest.mark.parametrize("arrivals", EVERY, ids=repr)
def test_every_process_has_its_rate_on_average_from_beginning_to_end(arrivals: Arrivals) -> None:
    """Beside another entry, by its own process, in both halves of the time."""
    rates = [0.05, 0.4, 2.0] * 20
    own: list[Arrivals | None] = [*([arrivals] * len(rates)), None]
    halves = np.zeros((40, 2))
    for seed in range(len(halves)):
        drawn = draw_requests(_load([*rates, 5.0], own), CALM, seed, sustained=True)
        at = drawn.arrival_s[drawn.adapter < len(rates)]
        halves[seed] = np.bincount((at >= 500).astype(int), minlength=2)
    noise = halves.std(axis=0, ddof=1) / np.sqrt(len(halves))
    assert np.all(np.abs(halves.mean(axis=0) - sum(rates) * 500) <= 4 * noise + 1)


def test_what_an_entry_is_sent_does_not_depend_on_other_entries() -> None:
    alone = draw_requests(_load([2.0, 1.0], [BURSTS, BURSTS]), CALM, 7)
    among = draw_requests(_load([2.0, 3.0, 1.0, 4.0], [BURSTS, SWITCHED, BURSTS, None]), CALM, 7)
    calm = draw_requests(_load([4.0]), CALM, 7)
    for one, other in ((_of(alone, 0), _of(among, 0)), (_of(alone, 1), _of(among, 2)), (calm, _of(among, 3))):
        for name in FIELDS[:3]:
            assert np.array_equal(getattr(one, name), getattr(other, name))


def test_requests_of_several_processes_are_in_order_and_repeatable() -> None:
    load = _load([2.0, 3.0, 1.0], [BURSTS, None, UnpredictableArrivals()])
    first, second, other = (draw_requests(load, CALM, seed) for seed in (1, 1, 2))
    assert np.all(np.diff(first.arrival_s) >= 0)
    assert set(first.adapter) == {0, 1, 2}
    for name in FIELDS:
        assert np.array_equal(getattr(first, name), getattr(second, name))
    assert not np.array_equal(first.arrival_s, other.arrival_s)


def test_a_trace_of_an_entry_is_played_at_the_entrys_rate(tmp_path: Path) -> None:
    def trace(name: str, prompt: int) -> TraceArrivals:
        lines = [f"2023-11-16 18:00:{s:02d}.0000000,{prompt},20" for s in range(60)]
        file = tmp_path / name
        file.write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *lines]))
        return TraceArrivals(file=str(file), lengths=True)

    load = _load([2.0, 0.5, 1.0], [trace("a.csv", 900), None, trace("b.csv", 70)])
    drawn = draw_requests(load, CALM, 0)
    counts = np.bincount(drawn.adapter)
    assert (counts[0], counts[2]) == (2000, 1000)
    assert abs(counts[1] - 500) < 5 * np.sqrt(500)
    assert [set(drawn.prompt_tokens[drawn.adapter == k]) for k in range(3)] == [{900}, {222}, {70}]
    with pytest.raises(
        WorkloadError, match=r'adapter "a0": arrivals.file: .* refuses 2,000 of 2,000 prompts'
    ):
        refuse_long_prompts(load, CALM.arrivals, drawn, 800)
    refuse_long_prompts(load, CALM.arrivals, drawn, 901)


def test_it_is_what_a_trace_holds_that_counts_and_not_its_name(tmp_path: Path) -> None:
    lines = [f"{1.5 * k},100,20" for k in range(60)]
    drawn = []
    for name in ("a.csv", "somewhere else.csv"):
        file = tmp_path / name
        file.write_text("\n".join(["Timestamp,Request tokens,Response tokens", *lines]))
        load = _load([0.3, 0.5], [TraceArrivals(file=str(file)), None])
        drawn.append(draw_requests(load, CALM, 0, sustained=True))
    first, second = drawn
    for column in ("arrival_s", "prompt_tokens", "output_tokens", "adapter"):
        assert np.array_equal(getattr(first, column), getattr(second, column))


# --- bursts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cv", [1.2, 2.0, 5.0])
def test_hyperexponential_gaps_have_mean_one_and_their_variation(cv: float) -> None:
    gaps = HyperexponentialGaps(cv).gaps(2_000_000, np.random.default_rng(1))
    assert gaps.mean() == pytest.approx(1.0, rel=0.02)
    assert gaps.std() == pytest.approx(cv, rel=0.02)


@pytest.mark.parametrize("cv", [1.2, 2.0, 5.0])
def test_a_hyperexponential_gap_that_covers_an_instant_is_drawn_by_its_length(cv: float) -> None:
    """Its residual has the density of the tail: mean (cv² + 1) / 2."""
    process, rng = HyperexponentialGaps(cv), np.random.default_rng(2)
    assert (process.covering_gaps(1_000_000, rng) / 2).mean() == pytest.approx((cv**2 + 1) / 2, rel=0.02)
    gaps, covering = process.gaps(400_000, rng), process.covering_gaps(100_000, rng)
    biased = rng.choice(gaps, 100_000, p=gaps / gaps.sum())
    assert stats.ks_2samp(biased, covering).pvalue > 0.001


# --- on and off ----------------------------------------------------------------------------------------


def test_periods_are_exponential_and_a_switch_is_on_as_often_at_any_time() -> None:
    starts, ends = on_periods(SWITCHED, 20_000, 300.0, np.random.default_rng(3))
    assert np.all(starts[:, 1:] >= ends[:, :-1])
    for instant in (0.0, 1.0, 10.0, 150.0, 299.0):
        on = ((starts <= instant) & (instant < ends)).any(axis=1).mean()
        assert on == pytest.approx(0.25, abs=4 * np.sqrt(0.25 * 0.75 / 20_000))
    whole = (starts > 0) & (starts < 100)  # long before the cut
    assert stats.kstest((ends - starts)[whole] / 20, "expon").pvalue > 0.001


def test_requests_come_only_while_an_adapter_is_on() -> None:
    """At four times its rate, for a quarter of the time."""
    at = draw_requests(_load([50.0], [SWITCHED]), CALM, 0, 20_000.0).arrival_s
    gaps = np.diff(at)
    pauses = gaps[gaps > 0.2]  # e^-40 of those while it is on are longer
    assert stats.kstest((pauses - 0.2) / 60, "expon").pvalue > 0.001
    assert np.mean(gaps[gaps <= 0.2]) == pytest.approx(1 / 200, rel=0.02)


def test_too_many_switches_are_refused() -> None:
    with pytest.raises(WorkloadError, match=r"1e\+06 s have too many changes for 50 adapters"):
        draw_requests(_load([0.01] * 50, [OnOffArrivals(on_s=0.5, off_s=0.5)] * 50), CALM, 0, 1e6)


# --- together --------------------------------------------------------------------------------------------


def _correlation(arrivals: list[Arrivals | None], reuse: list[PromptReuse | None] | None = None) -> float:
    """Correlation of the requests of two adapters by half minute."""
    drawn = draw_requests(_load([4.0, 4.0], arrivals, reuse), CALM, 4, 60_000.0, sustained=True)
    alone = np.ones(len(drawn), dtype=bool) if drawn.follows is None else drawn.follows < 0
    counts = [
        np.histogram(drawn.arrival_s[alone & (drawn.adapter == k)], 2000, (0, 60_000))[0] for k in (0, 1)
    ]
    return float(np.corrcoef(counts)[0, 1])


@pytest.mark.parametrize("process", [OnOffArrivals(on_s=300, off_s=300), UnpredictableArrivals()], ids=repr)
def test_adapters_of_a_group_rise_together_and_others_do_not(
    process: OnOffArrivals | UnpredictableArrivals,
) -> None:
    grouped = process.model_copy(update={"group": "region"})
    other = process.model_copy(update={"group": "other"})
    assert _correlation([grouped, grouped]) > 0.9
    assert abs(_correlation([process, process])) < 0.25
    assert abs(_correlation([grouped, other])) < 0.25


def test_a_group_holds_adapters_with_conversations_too() -> None:
    grouped = OnOffArrivals(on_s=300, off_s=300, group="region")
    chats = PromptReuse(sessions=Sessions(turns=2, think_s=1.0))
    assert _correlation([grouped, grouped], [None, chats]) > 0.9


# --- what prompts have in common ----------------------------------------------------------------------------


def test_prompts_begin_with_the_system_prompt_of_their_adapter() -> None:
    load = _load([1.0, 2.0, 3.0], reuse=[PromptReuse(system_prompt=100), None, PromptReuse(cached_share=0.5)])
    drawn, plain = draw_requests(load, CALM, 0), draw_requests(_load([1.0, 2.0, 3.0]), CALM, 0)
    assert np.array_equal(drawn.arrival_s, plain.arrival_s)
    first, third = drawn.adapter == 0, drawn.adapter == 2
    assert drawn.continues is not None
    assert drawn.common_tokens is not None
    assert drawn.cached_tokens is not None
    assert set(drawn.prompt_tokens[first]) == {322}
    assert set(drawn.prompt_tokens[~first]) == {222}
    texts = np.zeros(3, dtype=bool)  # of the adapters' system prompts, which begin with no other
    assert set(drawn.continues[np.append(first, texts)]) == {len(drawn)}
    assert set(drawn.continues[np.append(~first, ~texts)]) == {-1}
    assert set(drawn.common_tokens[np.append(first, texts)]) == {100}
    assert set(drawn.common_tokens[np.append(~first, ~texts)]) == {0}
    assert set(drawn.cached_tokens[third]) == {111}
    assert set(drawn.cached_tokens[~third]) == {0}


def test_texts_of_parts_are_numbered_after_all_requests() -> None:
    """Of two parts, each with a text that is no request's own, and that another text begins with."""

    def part(at: list[float], adapters: list[int], text: int) -> Part:
        n = len(at)
        requests = Requests(
            arrival_s=np.array(at),
            prompt_tokens=np.full(n, 50, dtype=np.int32),
            output_tokens=np.full(n, 5, dtype=np.int32),
            adapter=np.zeros(n, dtype=np.int32),
            n_adapters=1,
            continues=np.array([n + 1, 0, *[-1] * (n - 2), -1, n], dtype=np.int32),
            common_tokens=np.array([text, 40, *[0] * (n - 2), 0, 7], dtype=np.int32),
        )
        return Part(requests, np.array(adapters, dtype=np.int32))

    whole = merged([part([1.0, 4.0], [1], 20), part([2.0, 3.0, 5.0], [0], 30)], 2)
    assert whole.follows is None
    assert whole.continues is not None
    assert whole.common_tokens is not None
    assert whole.adapter.tolist() == [1, 0, 0, 1, 0]
    assert whole.continues.tolist() == [6, 8, 1, 0, -1, -1, 5, -1, 7]
    assert whole.common_tokens.tolist() == [20, 30, 40, 40, 0, 0, 7, 0, 7]


def test_what_is_cut_has_no_more_in_common_than_is_left() -> None:
    load = _load(
        [1.0], reuse=[PromptReuse(system_prompt=900, cached_share=0.5)], prompt=FixedLengths(tokens=400)
    )
    cut = fit_lengths(draw_requests(load, CALM, 0), 801)
    assert cut.common_tokens is not None
    assert cut.cached_tokens is not None
    assert (set(cut.prompt_tokens), set(cut.output_tokens)) == ({800}, {1})
    assert (set(cut.common_tokens[:-1]), set(cut.cached_tokens)) == ({800}, {400})


def test_a_closed_loop_says_how_many_requests_its_users_send() -> None:
    assert ClosedLoopArrivals(users=30, think_s=60).rate == 0.5
