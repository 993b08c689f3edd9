"""Profiles as text: what is shipped, and one in full with how sure each term is."""

from __future__ import annotations

from collections.abc import Iterable

from scenarios.text.tables import Column, Part, figures, table
from twin.profile import EngineProfile
from twin.step_cost import CostTerm

_OF = {
    "decode": "decoding request",
    "prefill": "prefill token",
    "context": "token of context",
    "waiting": "waiting request",
    "prompts": "step with prompts",
}
_LOADS = {
    "gpu_s": "CPU to GPU, rank of the slots",
    "gpu_padding_s": "more where the rank is below",
    "disk_s": "disk to CPU",
    "disk_rank_s": "disk to CPU, each unit of rank",
}


def list_parts(profiles: Iterable[EngineProfile]) -> list[Part]:
    """The shipped profiles, with what was measured of each."""
    columns = (
        "model",
        "GPU",
        Column(">vLLM", 1),
        Column(">runs", 2),
        Column(">probes", 3),
        Column(">step error", 2),
        Column("measured with", 4),
    )
    rows = [
        (
            profile.model,
            profile.device,
            profile.engine_version,
            profile.provenance.runs,
            profile.provenance.probes,
            _percent(profile.uncertainty.residual_share),
            profile.provenance.source,
        )
        for profile in profiles
    ]
    return [
        table(columns, rows),
        "step error: standard deviation of measured over fitted mean step times of a run",
        "another model or GPU: `lorapack profile derive --model M --device D --out FILE`",
    ]


def profile_parts(profile: EngineProfile) -> list[Part]:
    """A profile in full: where it is from, its memory, its terms and loads, and how sure they are."""
    derived = profile.derived
    told: list[tuple[str, object]] = [
        ("name", profile.name),
        ("model", profile.model),
        ("GPU", f"{profile.device}, {profile.gpu_memory_gib:g} GiB"),
        ("step cost", f"measured with vLLM {profile.engine_version}"),
    ]
    if derived is not None:
        told[-1] = (
            "step cost",
            f"derived from {derived.model} on {derived.device}, measured with vLLM {derived.engine_version}",
        )
        told.append(("GPUs", derived.tensor_parallel_size))
    else:
        told.append(("measured", f"{profile.provenance.runs} runs, {profile.provenance.probes} probes"))
    if derived is not None and derived.note:
        told.append(("left out", derived.note))
    return [
        figures(told),
        "",
        f"Source: {profile.provenance.source}",
        f"Memory: {profile.memory.provenance}",
        _terms(profile),
        _loads(profile),
        *_how_sure(profile),
    ]


def _terms(profile: EngineProfile) -> Part:
    causes = {} if profile.derived is None else {term.name: term for term in profile.derived.terms}
    columns = [Column("term"), Column(">µs"), Column("for each", 1), Column(">sure to")]
    columns += [Column(">factor", 2), Column("made of", 3)] if causes else []
    rows = []
    for term in profile.step.terms:
        row: list[object] = [term.name, f"{1e6 * term.seconds:.4g}", _charged_for(term), _sure(profile, term)]
        if causes:
            how = causes[term.name]
            row += [None if how.factor is None else f"{how.factor:.3g}", how.cause]
        rows.append(row)
    return table(columns, rows, title="Step")


def _loads(profile: EngineProfile) -> Part:
    shares = profile.uncertainty.shares
    rows = [
        (_LOADS[name], f"{1e3 * value:.3g}", _percent(shares.get(f"loads.{name}")))
        for name, value in profile.loads.model_dump().items()
    ]
    return table([Column("load"), Column(">ms"), Column(">sure to")], rows, title="Adapters")


def _charged_for(term: CostTerm) -> str:
    """What a term is multiplied by, in words."""
    factors = [_OF[term.per]] if term.per in _OF else []
    if term.tokens_above is not None:
        end = "" if term.tokens_cap is None else f" to {term.tokens_above + term.tokens_cap:,}"
        factors.append(f"token above {term.tokens_above:,}{end}")
    if term.adapters_power is not None and term.adapters_cap == 1:
        factors.append("step with an adapter")
    elif term.adapters_power is not None:
        factors.append("adapter" if term.adapters_power == 1 else f"adapter^{term.adapters_power:g}")
    for power, name in (
        (term.slots_power, "slot"),
        (term.rank_power, "rank"),
        (term.served_power, "adapter served"),
    ):
        if power:
            factors.append(name if power == 1 else f"{name}^{power:g}")
    words = " × ".join(factors) or "step"
    told = term.adapters_power or term.slots_power or term.rank_power or term.served_power
    return f"{words}, with LoRA" if term.lora and not told else words


def _sure(profile: EngineProfile, term: CostTerm) -> str | None:
    share = profile.uncertainty.shares.get(term.name)
    error = profile.uncertainty.standard_errors_s.get(term.name)
    if share is None and error is not None and term.seconds > 0:
        share = error / term.seconds
    return _percent(share)


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{share:.1%}" if share < 0.1 else f"{share:.0%}"


def _how_sure(profile: EngineProfile) -> list[Part]:
    if profile.derived is not None:
        return [
            "sure to: standard uncertainty; terms of one part err together, so that they do not average out "
            "(docs/profiles.md)"
        ]
    return ["sure to: standard error of the fit; terms of neighbouring tokens make up for one another"]
