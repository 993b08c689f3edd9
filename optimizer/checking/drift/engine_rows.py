"""Engines beside the plan: queues, memory, slots, failures, and whose requests reach them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from scipy.stats import poisson

from optimizer.checking.drift.drift_report import DriftRow, DriftVerdict
from optimizer.checking.drift.foretold import Foretold
from optimizer.checking.drift.planned import TOLERANCE, PlannedGPU
from optimizer.checking.readings import MetricsReading
from scenarios.text.formatting import choice, listed

FULL = 0.9
"""Share of the KV cache in use from which on more than foretold endangers a plan."""

FEW = 0.01
"""Share of the requests that may be preempted, or fail, though the twin shows none."""

SURELY_SEEN = 7.0
"""Requests expected of an adapter from which on none at all has a probability below a thousandth."""

NAMED = 3
"""Names that a sentence tells."""

QUEUE_FIGURES = 5
"""Figures of queues, over which a probability is split."""

BUSIER = "as more is asked for than planned, or longer texts"
SLOWER = "though traffic is as planned: the engine is slower than the twin's, or has other arguments"
CRAMPED = "the KV cache is too small for what runs: longer texts, or fewer tokens in it, than planned"
FAILED = "requests ended in errors, or were refused at the door: the log of the server tells why"


def queue_rows(plan: PlannedGPU, read: MetricsReading, chance: float, *, busier: bool) -> Iterator[DriftRow]:
    """Requests that wait and run, the growth of the queue, the KV cache in use, preemptions.

    Parameters
    ----------
    plan, read
        Of one GPU.
    chance
        Probability that one of these figures shows drift by chance.
    busier
        Whether its traffic is more than planned, which explains the rest.
    """
    seen, most, gpu = plan.foretold, plan.at_most, read.gpu
    why, rare = BUSIER if busier else SLOWER, chance / QUEUE_FIGURES
    if read.waiting is not None:
        high = max(most.most(most.waiting, read.readings, rare), 1.0)
        mean = float(seen.waiting.mean())
        yield DriftRow.of(
            gpu, "waiting", mean, read.waiting.mean, (None, high), f"more requests wait than foretold, {why}"
        )
        grown = read.waiting.last - read.waiting.first
        most_grown = max(most.most_growth(rare), 1.0)
        told = "the queue grows by more than chance: the GPU does not keep up"
        yield DriftRow.of(gpu, "queue growth", 0.0, grown, (None, most_grown), told)
    if read.running is not None:
        high = max(most.most(most.running, read.readings, rare), 1.0)
        mean = float(seen.running.mean())
        yield DriftRow.of(
            gpu, "running", mean, read.running.mean, (None, high), f"more requests run than foretold, {why}"
        )
    if read.kv_use is not None:
        yield _kv_use(plan, read, read.kv_use.mean, rare)
    if read.preemptions is not None:
        high = max(_most_preemptions(most, read.seconds, rare), FEW * (read.answered or 0.0))
        planned = seen.preemptions_per_s * read.seconds
        yield DriftRow.of(gpu, "preemptions", planned, read.preemptions, (None, high), CRAMPED)


def _kv_use(plan: PlannedGPU, read: MetricsReading, measured: float, rare: float) -> DriftRow:
    """The KV cache in use; more than foretold is only noted while there is room."""
    high = plan.at_most.most(plan.at_most.kv_use, read.readings, rare)
    told = "more of the KV cache is in use than foretold"
    row = DriftRow.of(read.gpu, "KV use", float(plan.foretold.kv_use.mean()), measured, (None, high), told)
    roomy = row.verdict == "drift" and measured < FULL
    return row.model_copy(update={"verdict": "note"}) if roomy else row


def _most_preemptions(foretold: Foretold, seconds: float, rare: float) -> float:
    bursts = foretold.preemption_dispersion
    return bursts * float(poisson.ppf(1 - rare, foretold.preemptions_per_s * seconds / bursts))


def memory_rows(plan: PlannedGPU, read: MetricsReading) -> Iterator[DriftRow]:
    """Tokens of the KV cache, and adapter slots; fewer endanger the plan."""
    if read.kv_cache_tokens is not None:
        tokens = plan.foretold.kv_cache_tokens
        between = tokens * (1 - TOLERANCE), tokens * (1 + TOLERANCE)
        told = (
            f"a KV cache of {read.kv_cache_tokens:,} tokens instead of {tokens:,}: other engine arguments, "
            "another release, or memory that something else holds"
        )
        yield DriftRow.of(
            read.gpu,
            "KV cache tokens",
            tokens,
            read.kv_cache_tokens,
            between,
            told,
            told,
            less_endangers=True,
        )
    if read.max_loras is not None:
        slots = plan.gpu.max_loras
        told = (
            f"max_loras is {read.max_loras} instead of {slots}: start the engine as `lorapack export` writes"
        )
        yield DriftRow.of(
            read.gpu, "slots", slots, read.max_loras, (slots, slots), told, told, less_endangers=True
        )


def failure_rows(read: MetricsReading) -> Iterator[DriftRow]:
    """Requests that failed; a few are noted."""
    if read.failed is None:
        return
    most = FEW * ((read.answered or 0.0) + read.failed)
    row = DriftRow.of(read.gpu, "failed", 0.0, read.failed, (None, most), FAILED)
    some = row.verdict == "as planned" and read.failed > 0
    yield row.model_copy(update={"verdict": "note", "suggests": FAILED}) if some else row


def adapter_rows(
    plan: PlannedGPU, read: MetricsReading, homes: Mapping[str, Sequence[int]]
) -> Iterator[DriftRow]:
    """Adapters with requests in flight: are they planned here, and are those there that surely should be?

    Parameters
    ----------
    plan, read
        Of one GPU.
    homes
        The GPUs on which each served name is planned.
    """
    if read.asked_for is None:
        return
    strangers = [_home(name, homes) for name in sorted(read.asked_for - plan.loras)]
    surely = SURELY_SEEN * plan.foretold.dispersion / read.seconds  # in requests/s: bursts come seldom
    due = {name for name in plan.loras if plan.by_name[name].low >= surely}
    missing = sorted(due - read.asked_for)
    said = []
    if strangers:
        said.append(f"requests reach this GPU of adapters planned elsewhere: {listed(strangers, NAMED)}")
    if missing:
        said.append(f"nobody asks here for {listed(missing, NAMED)}: does the router send them elsewhere?")
    verdict: DriftVerdict = "drift" if strangers else "note" if missing else "as planned"
    yield DriftRow(
        gpu=read.gpu,
        figure="adapters seen",
        planned=len(plan.loras),
        low=len(due),
        high=len(plan.loras),
        measured=len(read.asked_for),
        verdict=verdict,
        suggests="; ".join(said),
    )


def _home(name: str, homes: Mapping[str, Sequence[int]]) -> str:
    gpus = homes.get(name)
    return f"{name} (in no plan)" if gpus is None else f"{name} (of GPU {choice(gpus)})"
