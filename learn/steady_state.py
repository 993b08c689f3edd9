"""Estimate of an engine's steady state from its step cost: what surrogates start from.

An engine that keeps up holds, by Little's law, rate · output · t requests in its batch when a step takes
t. A step's cost depends on that batch, so t is a fixed point of the profile's own step cost. Slots and KV
cache cap the batch; what is asked for beyond it waits, and the scheduler passes over it in every step.
Chance is left out: surrogates learn what it adds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np

from learn.bisection import bisect
from learn.features import FEATURES, RESIDENCE_S, FloatArray, IntArray
from learn.space import DesignSpace
from learn.storage.dataset import Dataset, DatasetError
from twin.step_cost import CostTerm, StepCost

ESTIMATES = ("step_estimate", "carried_estimate", "slots_estimate", "kv_estimate")
"""Logarithm of the step's milliseconds; batch over what it must be to keep up, at most 1; adapters with a
request in the batch over slots; batch over the most that it can be."""

SHORTEST_S, LONGEST_S = 1e-3, 4.0
"""Bounds of a step's time."""

HALVINGS = 5
"""Of that range, on a logarithmic scale; then one step along the chord, to about a hundredth."""

FULL = 3.0
"""Most adapters per slot that count."""

_RESIDENCES = np.log(np.array([1e-3, *RESIDENCE_S, 4096.0]))
"""Where the adapters with a request are known: at the features, and where hardly any or all have one."""
_INDEX = {feature.name: k for k, feature in enumerate(FEATURES)}
_ACTIVE = [_INDEX[f"active_{w:g}s"] for w in RESIDENCE_S]


@dataclass(frozen=True)
class SteadyState:
    """Makes the estimates for one profile and engine.

    Parameters
    ----------
    cost
        Cost of a step.
    max_num_seqs, max_num_batched_tokens
        Most requests and tokens of a step.
    duration_s
        Length of a run: as long does the queue of an overloaded engine grow.
    """

    cost: StepCost
    max_num_seqs: int
    max_num_batched_tokens: int
    duration_s: float

    @classmethod
    def of(cls, dataset: Dataset) -> SteadyState:
        """The estimates of the engine that a dataset was sampled on.

        Raises
        ------
        DatasetError
            If the dataset does not say what its steps cost.
        """
        try:
            space = dataset.metadata["space"]
            engine, cost = space["engine"], StepCost.model_validate(dataset.metadata["step"])
            limits = int(engine["max_num_seqs"]), int(engine["max_num_batched_tokens"])
            return cls(cost, *limits, float(space["duration_s"]))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise DatasetError(
                "the dataset does not say what its engine's steps cost; sample it again"
            ) from error

    @classmethod
    def of_space(cls, space: DesignSpace) -> SteadyState:
        """The estimates of a space's engine."""
        engine = space.engine
        limits = engine.max_num_seqs, engine.max_num_batched_tokens
        return cls(space.profile.step, *limits, space.run_s)

    def estimate(self, features: FloatArray) -> FloatArray:
        """Estimates of m candidates, shape (m, 4), columns as in `ESTIMATES`.

        Parameters
        ----------
        features
            Shape (m, len(FEATURES)), from `learn.features.candidate_features`.
        """
        candidates = _Candidates.of(features, self)
        log_s = candidates.log_step()
        batch, active = candidates.batch(np.exp(log_s))
        return np.stack(
            [
                log_s + np.log(1e3),
                np.minimum(batch / (candidates.token_rate * np.exp(log_s)), 1.0),
                np.minimum(active / candidates.slots, FULL),
                batch / candidates.max_batch,
            ],
            axis=1,
        )


@dataclass(frozen=True)
class _Candidates:
    """What the batch and the step of m candidates depend on; arrays of shape (m,) where not said.

    Parameters
    ----------
    slots, token_rate, prompt, output
        Adapter slots, output tokens per second asked for, and mean tokens of a request.
    max_batch
        Most requests in a batch: what the KV cache holds, the engine allows, and the tokens of a step suffice
        for, as a request has its prompt and its answer read in as many steps as the answer has tokens.
    duration_s
        Length of a run.
    log_active
        Logarithm of the expected adapters with a request in each of `_RESIDENCES`, shape (m, residences).
    costs
        What a step costs.
    """

    slots: FloatArray
    token_rate: FloatArray
    prompt: FloatArray
    output: FloatArray
    max_batch: FloatArray
    duration_s: float
    log_active: FloatArray
    costs: _Costs

    @classmethod
    def of(cls, features: FloatArray, engine: SteadyState) -> _Candidates:
        def column(name: str) -> FloatArray:
            return features[:, _INDEX[name]]

        rate, prompt, output = column("rate"), column("prompt_mean"), column("output_mean")
        ends = rate * np.exp(_RESIDENCES[0]), column("count")
        in_memory = column("kv_cache_tokens") / (prompt + output / 2)
        in_step = engine.max_num_batched_tokens / (1 + prompt / output)
        active = np.column_stack([ends[0], features[:, _ACTIVE], ends[1]])
        return cls(
            slots=column("max_loras"),
            token_rate=np.maximum(rate * output, 1e-12),
            prompt=prompt,
            output=output,
            max_batch=np.minimum(in_memory, in_step).clip(max=engine.max_num_seqs),
            duration_s=engine.duration_s,
            log_active=np.log(np.maximum(active, 1e-12)),
            costs=_Costs.of(engine.cost, column("max_loras"), column("max_lora_rank"), column("count")),
        )

    def log_step(self) -> FloatArray:
        """Logarithm of the seconds of a step that costs what it takes."""
        # A step costs something however small its batch, and no batch grows beyond the engine's limits: cost
        # over time falls with the time, and is 1 once, at the fixed point. Iterating t = cost(t) would swing
        # where the cost is steep. The chord's place is clipped for steps outside the range.
        ends = (np.full(len(self.slots), np.log(end)) for end in (SHORTEST_S, LONGEST_S))
        low, high = bisect(lambda log_s: self.excess(log_s) > 0, *ends, halvings=HALVINGS)
        over_low, over_high = self.excess(low), self.excess(high)
        chord = over_low / np.maximum(over_low - over_high, 1e-12)
        return np.asarray(low + (high - low) * np.clip(chord, 0.0, 1.0))

    def excess(self, log_s: FloatArray) -> FloatArray:
        """Logarithm of a step's cost over the time that it is taken to last."""
        return np.log(self.step_s(np.exp(log_s))) - log_s

    def batch(self, step_s: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Requests in the batch, and adapters that want to be in it, when a step takes so long."""
        place = np.clip(np.log(self.output * step_s), _RESIDENCES[0], _RESIDENCES[-1] - 1e-9)
        k = np.searchsorted(_RESIDENCES, place, side="right") - 1
        part = (place - _RESIDENCES[k]) / (_RESIDENCES[k + 1] - _RESIDENCES[k])
        row = np.arange(len(k))
        active = np.exp((1 - part) * self.log_active[row, k] + part * self.log_active[row, k + 1])
        demand = self.token_rate * step_s * np.minimum(1.0, self.slots / active)  # Little's law
        return np.minimum(demand, self.max_batch), active

    def step_s(self, step_s: FloatArray) -> FloatArray:
        """Cost of a step with the batch that steps of so long lead to."""
        batch, active = self.batch(step_s)
        present = np.clip(np.minimum(active, self.slots), np.minimum(batch, 1.0), batch)
        tokens = batch * (1 + self.prompt / self.output)
        # Requests that find no place come at a steady surplus: over the run half of the final queue waits on
        # average, and the scheduler looks at each of them in every step.
        unserved = np.maximum(self.token_rate - batch / step_s, 0.0) / self.output
        per = {
            "decode": batch,
            "prefill": batch * self.prompt / self.output,
            "context": batch * (self.prompt + self.output / 2),
            # As many requests come into a batch as leave it; one or more come with this probability.
            "prompts": -np.expm1(-batch / self.output),
            "waiting": unserved * self.duration_s / 2,
        }
        return self.costs.total(tokens, present, per)


@dataclass(frozen=True)
class _Costs:
    """Terms of a step's cost that grow alike as one, for m candidates; arrays of K terms and m candidates.

    Few operations on all terms at once, as most of the time of many small ones is Python's. They are summed
    one after the other, so that the last digit does not depend on how many candidates there are.

    Parameters
    ----------
    seconds
        Coefficients, shape (K, m).
    shapes
        A term of each kind, K of them.
    by_tokens
        Which of them grow with the tokens of a step, with the tokens above which and how many at most count.
    """

    seconds: FloatArray
    shapes: tuple[CostTerm, ...]
    by_tokens: tuple[IntArray, FloatArray, FloatArray]

    @classmethod
    def of(cls, cost: StepCost, slots: FloatArray, rank: FloatArray, served: FloatArray) -> _Costs:
        """The terms for engines of such slots and ranks, and so many adapters served; shape (m,) each."""
        with_lora = slots > 0

        @cache  # few terms grow in a way of their own
        def grown(slots_power: float, rank_power: float, served_power: float) -> FloatArray:
            return np.asarray(slots**slots_power * rank**rank_power * served**served_power)

        def scaled(term: CostTerm) -> FloatArray:
            seconds = term.seconds * grown(term.slots_power, term.rank_power, term.served_power)
            return seconds * with_lora if term.lora else seconds

        alike: dict[tuple[object, ...], list[CostTerm]] = defaultdict(list)
        for term in cost.terms:
            how = (term.per, term.tokens_above, term.tokens_cap, term.adapters_power, term.adapters_cap)
            alike[how].append(term)
        sums = [np.sum([scaled(term) for term in terms], axis=0) for terms in alike.values()]
        shapes = tuple(terms[0] for terms in alike.values())
        grow = [k for k, term in enumerate(shapes) if term.tokens_above is not None]
        above = [float(shapes[k].tokens_above or 0) for k in grow]
        caps = [float(shapes[k].tokens_cap or np.inf) for k in grow]
        by_tokens = np.array(grow, dtype=np.int64), np.array(above)[:, None], np.array(caps)[:, None]
        return cls(np.stack(sums), shapes, by_tokens)

    def total(self, tokens: FloatArray, adapters: FloatArray, per: Mapping[str, FloatArray]) -> FloatArray:
        """Seconds of a step with so many tokens and adapters, and so much of what else terms count."""
        grow, above, caps = self.by_tokens
        factors = np.ones_like(self.seconds)
        factors[grow] = np.clip(tokens - above, 0.0, caps)
        for k, term in enumerate(self.shapes):
            if term.per != "step":
                factors[k] = per[term.per]
            elif term.adapters_power is not None:
                factors[k] *= term.of_adapters(adapters)
        return np.asarray(np.add.accumulate(self.seconds * factors, axis=0)[-1])
