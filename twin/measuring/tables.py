"""Tables for `calibrate` from what the stages of a measurement showed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from twin.measuring.outcome import Outcome
from twin.measuring.stages import PROMPT, TINY, is_attention
from twin.measuring.step_times import mixed_steps, prompt_step_ms
from twin.measuring.subject import Subject

LEAST_COPY_MS = 0.01
"""Milliseconds that a copy takes at least, where a difference of medians says none."""

PROBE_WEIGHTS = {"alone": 0.5, "batch": 1.0, "prefill": 0.5}
"""Weight of a probe in the fit, as in the public one: a clean run has 1."""

LOGGED_WEIGHT = 0.3
"""Weight of logged steps that are alike, as in the public fit."""

STARVED_SHORTFALL = 0.1

MOST_BUNCHED = 0.5
"""Share of tokens that came together from which on gaps say nothing of steps."""


def tables_of(
    subject: Subject,
    outcomes: Sequence[Outcome],
    answered: Mapping[str, pd.DataFrame],
    steps: Mapping[str, pd.DataFrame],
) -> dict[str, pd.DataFrame]:
    """All tables by name; one without rows is one that nothing was measured for.

    Parameters
    ----------
    subject
        What is measured.
    outcomes
        Figures of the stages.
    answered
        Requests of the stages, by name.
    steps
        Steps that the server logged, by the name of the stage.
    """
    runs = [one for one in outcomes if one.kind == "run" and one.completed > 1]
    sent = pd.concat([answered[one.name] for one in runs]) if runs else pd.DataFrame()
    return {
        "serving_runs": pd.DataFrame([_run(subject, one, answered[one.name]) for one in runs]),
        "probes": pd.DataFrame([*_probes(subject, outcomes), *_of_prompts(subject, outcomes, steps)]),
        "adapter_loads": pd.DataFrame(_loads(subject, answered)),
        "length_histograms": pd.DataFrame(_histograms(subject, sent)),
        "length_means": pd.DataFrame(_means(subject, sent)),
    }


def _run(subject: Subject, outcome: Outcome, sent: pd.DataFrame) -> dict[str, object]:
    """A run as a row of ``serving_runs.csv``."""
    engine, gauges, n = subject.engine, outcome.gauges, len(subject.adapters)
    counts = np.bincount(sent["adapter"], minlength=n)[:n]
    tokens = float((sent["prompt_tokens"] + sent["output_tokens"]).sum()) / outcome.seconds
    row: dict[str, object] = {
        "run_id": outcome.name,
        "model": subject.model,
        "max_loras": subject.max_loras,
        "n_adapters": n,
        "max_lora_rank": subject.max_lora_rank,
        "max_cpu_loras": subject.max_cpu_loras,
        "rates": ";".join(f"{max(count, 0.5) / outcome.seconds:.6g}" for count in counts),
        "sizes": ";".join(str(one.rank) for one in subject.adapters),
        "total_time_s": round(outcome.seconds, 3),
        "max_num_seqs": engine.max_num_seqs,
        "max_num_batched_tokens": engine.max_num_batched_tokens,
        "max_model_len": engine.max_model_len,
        "gpu_memory_utilization": engine.gpu_memory_utilization,
        "kv_cache_tokens": subject.kv_cache_tokens,
        "pool_mean_input": float(sent["prompt_tokens"].mean()),
        "pool_mean_output": float(sent["output_tokens"].mean()),
        "arrivals_est": len(sent),
        "requests_file": f"requests/{outcome.name}.csv.gz",
        "warm": True,
        "group": outcome.name,
        "status": "ok",
        "quality": "clean",
        "total_throughput": outcome.tokens_per_s,
        "itl_mean_ms": outcome.itl_ms,
        "tpot_mean_ms": outcome.tpot_ms,
        "ttft_mean_ms": outcome.ttft_mean_ms,
        "starved": outcome.tokens_per_s < (1 - STARVED_SHORTFALL) * tokens,
        "ideal_tok_s": tokens,
    }
    if gauges is not None:
        means = {"running_mean": gauges.running, "waiting_mean": gauges.waiting}
        row |= {**means, "kv_usage_mean": gauges.kv_usage}
    return row


def _probes(subject: Subject, outcomes: Sequence[Outcome]) -> Iterator[dict[str, object]]:
    """Steps of known composition without prompts: of one request, and of batches of fixed size."""
    for one in outcomes:
        if one.kind in ("alone", "batch") and one.step_ms is not None and one.bunched < MOST_BUNCHED:
            yield {
                "model": subject.model,
                "step_ms": one.step_ms,
                "batched_tokens": one.batch,
                "decodes": one.batch,
                "context_tokens": round(one.batch * (one.prompt_tokens + one.output_tokens / 2), 1),
                "n_adapters": one.distinct,
                **_engine(subject),
                "weight": PROBE_WEIGHTS[one.kind],
            }


def _of_prompts(
    subject: Subject, outcomes: Sequence[Outcome], steps: Mapping[str, pd.DataFrame]
) -> Iterator[dict[str, object]]:
    """Steps of known composition with prompts."""
    yield from _single(subject, outcomes, steps)
    yield from _mixed(subject, outcomes, steps)


def _single(
    subject: Subject, outcomes: Sequence[Outcome], steps: Mapping[str, pd.DataFrame]
) -> Iterator[dict[str, object]]:
    """Steps of one prompt each, by the log.

    Without one the time to the first token tells, which holds what the server adds beside the step. That of
    the shortest prompt, whose step is one of few tokens as that of a single request is, tells how much; what
    every step with a prompt costs more is taken for the server's then.
    """
    named = {one.name: one for one in outcomes}
    alone, tiny = named.get("alone"), named.get(f"prefill_{TINY}")
    if alone is None or tiny is None or alone.step_ms is None or tiny.ttft_ms is None:
        return
    beside_ms = max(tiny.ttft_ms - alone.step_ms, 0.0)
    for one in outcomes:
        if one.kind != "prefill" or is_attention(one, outcomes) or not one.completed:
            continue
        step_ms = prompt_step_ms(steps[one.name], steps["alone"], alone.step_ms)
        if step_ms is None:
            step_ms = (one.ttft_ms or 0.0) - beside_ms
        if step_ms > 0:
            yield {
                "model": subject.model,
                # No step is shorter than one of a single token, but for noise.
                "step_ms": max(step_ms, alone.step_ms),
                "batched_tokens": one.prompt_tokens,
                "decodes": 0,
                "context_tokens": 0,
                "n_adapters": one.distinct,
                **_engine(subject),
                "weight": PROBE_WEIGHTS[one.kind],
            }


def _mixed(
    subject: Subject, outcomes: Sequence[Outcome], steps: Mapping[str, pd.DataFrame]
) -> Iterator[dict[str, object]]:
    """Logged steps of batches with prompts and decoding requests together.

    Adapters are dealt in turn, so that a step has them all if it has as many requests.
    """
    for one in outcomes:
        if steps[one.name].empty or one.prompt_tokens > PROMPT:
            continue  # of long prompts, whose attention counts by itself
        for alike in mixed_steps(steps[one.name]):
            yield {
                "model": subject.model,
                "step_ms": alike.step_ms,
                "batched_tokens": alike.prompt_tokens + alike.decodes,
                "decodes": alike.decodes,
                "context_tokens": round(alike.decodes * (one.prompt_tokens + one.output_tokens / 2), 1),
                "n_adapters": min(one.distinct, alike.requests),
                **_engine(subject),
                "weight": LOGGED_WEIGHT,
            }


def _engine(subject: Subject) -> dict[str, object]:
    """What all probes have in common."""
    return {
        "n_served": len(subject.adapters),
        "max_loras": subject.max_loras,
        "max_lora_rank": subject.max_lora_rank,
    }


def _loads(subject: Subject, answered: Mapping[str, pd.DataFrame]) -> Iterator[dict[str, object]]:
    """What a copy to a slot and a read from disk cost, by rank: how much later the first token comes.

    Compared with requests of an adapter that has its slot. Where every adapter has one, what their first
    requests took tells it, which may be less: the server had used them before.
    """
    if "alone" not in answered:
        return
    resident = _median_ttft(answered["alone"])
    cold = answered.get("cold_slot", answered.get("warm"))
    slot = {} if cold is None else _later(subject, cold, resident)
    disk = {} if "cold_disk" not in answered else _later(subject, answered["cold_disk"], resident)
    for rank in sorted({one.rank for one in subject.adapters}):
        copy = slot.get(rank)
        if copy is None:
            continue
        yield {
            "model": subject.model,
            "adapter_rank": rank,
            "max_lora_rank": subject.max_lora_rank,
            "cpu_to_gpu_ms": max(copy, LEAST_COPY_MS),
            "disk_to_cpu_ms": max(disk.get(rank, copy) - copy, LEAST_COPY_MS),
        }


def _later(subject: Subject, sent: pd.DataFrame, resident_ms: float) -> dict[int, float]:
    """By how much later the first token came than of an adapter with a slot, in ms by rank; medians."""
    adapters = sent[(sent["adapter"] < len(subject.adapters)) & sent["first_token_s"].notna()]
    rank = adapters["adapter"].map(lambda k: subject.adapters[k].rank)
    ttft = 1e3 * (adapters["first_token_s"] - adapters["sent_s"])
    return {int(r): float(values.median()) - resident_ms for r, values in ttft.groupby(rank)}


def _median_ttft(sent: pd.DataFrame) -> float:
    return float(1e3 * (sent["first_token_s"] - sent["sent_s"]).median())


def _histograms(subject: Subject, sent: pd.DataFrame) -> Iterator[dict[str, object]]:
    """Shapes of the lengths of the runs, in bins of equal counts."""
    for kind, column in (("prompt", "prompt_tokens"), ("output", "output_tokens")):
        if sent.empty:
            return
        values = sent[column].to_numpy()
        edges = np.unique(np.quantile(values, np.linspace(0, 1, 33)).round().astype(int))
        edges = np.unique(np.concatenate([[max(edges[0] - 1, 0)], edges]))
        counts, _ = np.histogram(values, edges + 0.5)
        for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True):
            yield {
                "model": subject.model,
                "kind": kind,
                "bin_lo": int(low),
                "bin_hi": int(high),
                "count": int(count),
            }


def _means(subject: Subject, sent: pd.DataFrame) -> list[dict[str, object]]:
    """Means of the lengths of the runs; no answer ends early."""
    if sent.empty:
        return []
    output = float(sent["output_tokens"].mean())
    return [
        {
            "model": subject.model,
            "prompt_tokens": float(sent["prompt_tokens"].mean()),
            "output_tokens": output,
            "served_tokens": output,
            "max_total_tokens": subject.engine.max_model_len,
        }
    ]
