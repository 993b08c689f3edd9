"""All terms of a derived step, each with its factor, the part it errs with and its cause."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from twin.deriving.all_reduce import all_reduce_terms
from twin.deriving.base_step import Machine, bandwidth_share, base_step, is_base
from twin.deriving.scaling import Scaled, request_s, scaled_term
from twin.step_cost import CostTerm, StepCost

_BASE = Scaled(1.0, "base", "host work, kernels of the layers, and weights read or operations on tokens")
_REQUEST = Scaled(1.0, "request", "host work, and output layer and logits by the vocabulary")
_PENALISED = _REQUEST._replace(cause=f"{_REQUEST.cause}, with a repetition penalty")
_LINK = Scaled(1.0, "link", "sums over the GPUs of an engine: latency, and bytes / link")


class DerivedTerm(NamedTuple):
    """A term, and how it came about.

    Parameters
    ----------
    term
        The term.
    factor
        What the measured one was multiplied by; None: it is new.
    scaled
        Its part and cause.
    host_share
        Share of it that is the host's work, which errs apart.
    """

    term: CostTerm
    factor: float | None
    scaled: Scaled
    host_share: float = 0.0


def derived_terms(
    step: StepCost, measured: Machine, wanted: Machine, penalties: tuple[bool, bool], gpus: int
) -> list[DerivedTerm]:
    """Every term of a derived step; those that were measured where nothing differs.

    Parameters
    ----------
    step
        Cost of a step as it was measured on one GPU.
    measured, wanted
        What it was measured with, and what it is wanted for.
    penalties
        Whether requests were measured, and are wanted, with a repetition penalty.
    gpus
        GPUs of the engine that is wanted.
    """
    if measured == wanted and penalties[0] == penalties[1]:
        return [DerivedTerm(term, 1.0, _part(term, measured, wanted)) for term in step.terms]
    base = base_step(step, measured, wanted)
    found = [
        DerivedTerm(term, None, _BASE, base.host_share if term.name == "step" else 0.0) for term in base.terms
    ]
    found += _requests(step, measured, wanted, penalties)
    for term in step.terms:
        if not is_base(term) and not _is_request(term):
            scaled = scaled_term(term, measured, wanted)
            seconds = term.seconds * scaled.factor
            found.append(DerivedTerm(term.model_copy(update={"seconds": seconds}), scaled.factor, scaled))
    return found + [DerivedTerm(term, None, _LINK) for term in all_reduce_terms(wanted, gpus)]


def _part(term: CostTerm, measured: Machine, wanted: Machine) -> Scaled:
    if is_base(term):
        return _BASE
    return _REQUEST if _is_request(term) else scaled_term(term, measured, wanted)


def _is_request(term: CostTerm) -> bool:
    return term.per == "decode" and not term.lora and not term.served_power


def _requests(
    step: StepCost, measured: Machine, wanted: Machine, penalties: tuple[bool, bool]
) -> Iterator[DerivedTerm]:
    """What every decoding request costs, with or without penalties."""
    seconds = sum(term.seconds for term in step.terms if _is_request(term))
    there = request_s(seconds, measured, wanted, penalties, bandwidth_share(step, measured))
    if there > 0:
        term = CostTerm(name="decode", seconds=there, per="decode")
        factor = there / seconds if seconds > 0 else None
        yield DerivedTerm(term, factor, _PENALISED if penalties[1] else _REQUEST)
