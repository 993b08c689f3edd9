"""Counters of servers and gateways: what of them says traffic, and by how much they rose."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scenarios.importers.facts import AdapterFacts, ImportOptions, Said, TotalTraffic
from scenarios.importers.traffic.length_fits import described, matched
from scenarios.importers.traffic.windows import rate_interval
from scenarios.traffic.arrivals import MAX_RATE
from scenarios.traffic.lengths import MAX_TOKENS, Lengths
from scenarios.traffic.rates import UncertainRate

Labels = frozenset[tuple[str, str]]
Series = tuple[str, Labels]

REQUESTS = ("vllm:request_success_total", "sglang:num_requests_total")
PROMPTS = ("vllm:request_prompt_tokens", "sglang:prompt_tokens_histogram")
OUTPUTS = ("vllm:request_generation_tokens", "sglang:generation_tokens_histogram")
LORAS = "vllm:lora_requests_info"
"""vLLM 0.8.0 to 0.32.0, vllm/v1/metrics/loggers.py; SGLang, python/sglang/srt/observability/
metrics_collector.py @016d8605."""

BY_MODEL: Mapping[str, tuple[str, ...]] = {
    "litellm_proxy_total_requests_metric_total": ("requested_model", "model"),
    "litellm_requests_metric_total": ("requested_model", "model"),
    "gen_ai_server_request_duration_seconds_count": ("gen_ai_original_model", "gen_ai_request_model"),
    "gen_ai_server_request_duration_count": ("gen_ai_original_model", "gen_ai_request_model"),
    "gen_ai_client_operation_duration_seconds_count": ("gen_ai_original_model", "gen_ai_request_model"),
    "gen_ai_client_operation_duration_count": ("gen_ai_original_model", "gen_ai_request_model"),
}
"""Counters of requests by the name that clients ask for, with the labels that hold it; the first that is
there counts. BerriAI/litellm, litellm/types/integrations/prometheus.py; envoyproxy/ai-gateway,
site/docs/capabilities/observability/metrics.md @0a4a25ed."""

MODEL_LABELS = ("lora_name", "adapter_name", "adapter", "lora", "requested_model", "model_name", "model")
"""Labels by which other counters of requests tell adapters apart."""

LEAST_REQUESTS = 50


@dataclass(frozen=True)
class Rise:
    """By how much counters rose.

    Parameters
    ----------
    by_series
        Rise of each series.
    seconds
        Over how long; None: since the servers started, for how long nobody says.
    """

    by_series: Mapping[Series, float]
    seconds: float | None


def matters(name: str) -> bool:
    """Whether a metric says traffic."""
    base = name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count")
    return name in REQUESTS or name in BY_MODEL or base in (*PROMPTS, *OUTPUTS) or _counts_requests(name)


def counting(series: Iterable[Series]) -> frozenset[Series]:
    """Those of some series that count requests: engines' where there are any, else a gateway's."""
    known = list(series)
    engines = frozenset(one for one in known if one[0] in REQUESTS)
    metric = None if engines else _metric_by_model(known)
    return engines if metric is None else frozenset(one for one in known if one[0] == metric[0])


def rise_of(values: NDArray[np.float64]) -> float:
    """By how much a counter rose that may have begun anew at 0, as Prometheus' `increase` counts it."""
    return float(steps_of(values).sum())


def steps_of(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """By how much it rose from each value to the next."""
    steps = np.diff(values)
    return np.where(steps < 0, values[1:], steps)


def total_of(rise: Rise, origin: str, notes: tuple[str, ...] = ()) -> TotalTraffic:
    """Traffic of all from the metrics of engines."""
    served = [
        value
        for (name, labels), value in rise.by_series.items()
        if name in REQUESTS and dict(labels).get("finished_reason") != "error"
    ]
    rate: Said[float] | None = None
    if served and rise.seconds is not None and sum(served) > 0:
        count = sum(served)
        low, high = rate_interval(round(count), rise.seconds, 1.0)
        told = f"{count:,.0f} finished in {rise.seconds:,.6g} s, 95 % {low:.3g} to {high:.3g}"
        rate = Said(_rounded(count / rise.seconds), f"{origin}: {told}")
    return TotalTraffic(rate, _lengths(rise, PROMPTS, origin), _lengths(rise, OUTPUTS, origin), notes=notes)


def requests_by_model(rise: Rise) -> tuple[str, dict[str, float]] | None:
    """Requests by served name, and the counter that tells names apart; None: there is none.

    Requests that a gateway refused, by their status, are left out.
    """
    metric = _metric_by_model(rise.by_series)
    if metric is None:
        return None
    name, keys = metric
    counts: dict[str, float] = {}
    for (one, labels), value in rise.by_series.items():
        held = dict(labels)
        model = next((held[key] for key in keys if held.get(key)), None)
        if one == name and model is not None and not _refused(held):
            counts[model] = counts.get(model, 0.0) + value
    return name, counts


def adapters_of(rise: Rise, origin: str, options: ImportOptions) -> tuple[AdapterFacts, ...]:
    """Rates by served name from counters that tell names apart; empty: there are none."""
    counted = requests_by_model(rise)
    if counted is None or rise.seconds is None:
        return ()
    name, counts = counted
    facts = []
    for model, count in counts.items():
        low, high = rate_interval(round(count), rise.seconds, 1.0)
        told = (
            f"{origin}: {name}, {count:,.0f} requests in {rise.seconds:,.6g} s, 95 % {low:.3g} to {high:.3g}"
        )
        rate: Said[float | UncertainRate] | None = None
        if options.rates == "interval":
            rate = Said(UncertainRate(low=_rounded(low), high=min(_rounded(high), MAX_RATE)), told)
        elif count > 0:
            rate = Said(min(_rounded(count / rise.seconds), MAX_RATE), told)
        facts.append(AdapterFacts(model, f"{origin}: {name}", rate=rate))
    return tuple(facts)


def base_names_of(series: Iterable[Series]) -> tuple[str, ...]:
    """Names that engines call their model by: that of the base model, whatever adapter is asked."""
    names = [
        dict(labels).get("model_name") for name, labels in series if name.startswith(("vllm:", "sglang:"))
    ]
    return tuple(dict.fromkeys(name for name in names if name))


def _metric_by_model(series: Iterable[Series]) -> tuple[str, tuple[str, ...]] | None:
    names: dict[str, list[Labels]] = {}
    for name, labels in series:
        names.setdefault(name, []).append(labels)
    known = next((name for name in BY_MODEL if name in names), None)
    if known is not None:
        return known, BY_MODEL[known]
    for name, held in sorted(names.items()):
        for key in MODEL_LABELS if _counts_requests(name) else ():
            if len({value for labels in held for label, value in labels if label == key}) > 1:
                return name, (key,)
    return None


def _counts_requests(name: str) -> bool:
    return "request" in name and name.endswith(("requests_total", "request_total", "requests_count"))


def _refused(labels: Mapping[str, str]) -> bool:
    code = labels.get("status_code", labels.get("code", ""))
    return code.isdecimal() and len(code) == 3 and code >= "400"


def _lengths(rise: Rise, names: tuple[str, ...], origin: str) -> Said[Lengths] | None:
    """Lengths from a Prometheus histogram, whose mean is known exactly by its sum."""
    cumulative: dict[float, float] = {}
    count = total = 0.0
    for (name, labels), value in rise.by_series.items():
        base = next((one for one in names if name.startswith(one)), None)
        if base is not None and name == f"{base}_bucket":
            edge = _edge(dict(labels).get("le", ""))
            cumulative[edge] = cumulative.get(edge, 0.0) + value
        elif base is not None and name == f"{base}_sum":
            total += value
        elif base is not None and name == f"{base}_count":
            count += value
    if count < LEAST_REQUESTS or not total > 0 or len(cumulative) < 2:
        return None
    ends = sorted(edge for edge in cumulative if 1 <= edge <= MAX_TOKENS)
    weights = np.diff([0.0, *(cumulative[end] for end in ends)])
    beyond = max(count - weights.sum(), 0.0)
    edges = [1.0, *(end + 1 for end in ends)]  # a bucket holds whole lengths up to its end
    if beyond > 0:
        # How long those beyond the last bucket are, the sum tells.
        known = float((weights * (np.array(edges[:-1]) + np.array(edges[1:])) / 2).sum())
        mean = max((total - known) / beyond, edges[-1] + 1)
        edges.append(min(2 * mean - edges[-1], float(MAX_TOKENS)))
        weights = np.append(weights, beyond)
    held = np.flatnonzero(weights > 0)
    if not len(held) or (weights < 0).any() or edges[held[-1] + 1] <= edges[held[-1]]:
        return None
    kept = slice(int(held[0]), int(held[-1]) + 1)
    lengths = matched(np.array(edges[kept.start : kept.stop + 1]), weights[kept], total / count)
    return Said(lengths, f"{origin}: {count:,.0f} requests, {described(lengths)}, seen {total / count:,.4g}")


def _edge(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("inf")


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
