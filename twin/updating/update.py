"""A few measured runs correct an engine profile: three factors on its step cost, maximum a posteriori."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from joblib import delayed

from scenarios import LorapackError
from scenarios.stopping.progress import Progress, silent
from twin.calibration.params import CalibrationParams
from twin.engine.requests import FloatArray
from twin.measured.predict import predict_all
from twin.measured.runs import MeasuredRun
from twin.parallel import in_processes
from twin.profile import EngineProfile, Provenance, Uncertainty
from twin.updating.evidence import Evidence, evidence_of
from twin.updating.groups import GROUPS, membership, scaled
from twin.updating.posterior import Posterior, posterior
from twin.updating.report import Factor, UpdatedRun, UpdateReport

MATCHING = "matching runs"
"""What is being done, for progress."""

ENDING = ".updated"
"""End of the name of an updated profile."""


class UpdateError(LorapackError, ValueError):
    """No run says anything of the profile."""


def update_profile(
    profile: EngineProfile,
    runs: Sequence[MeasuredRun],
    *,
    seed: int = 0,
    workers: int = 1,
    progress: Progress = silent,
    params: CalibrationParams | None = None,
) -> UpdateReport:
    """Correct a profile's step cost by factors on its compute, memory and overhead, with a prior.

    Each run is replayed with the step cost scaled until its time per output token is the measured one; the
    scales of all runs, and what their steps were made of, give the factors. Memory, loads, lengths and
    rules stay as they are.

    Parameters
    ----------
    profile
        The profile, measured or derived. Its ``uncertainty.shares``, where it has them, are the widths of
        the prior.
    runs
        Measured runs of its model on its device, from `twin.measured.sources.read_sources`; the order does
        not matter. One is enough.
    seed
        Seed of the runs' requests.
    workers
        Processes; the result does not depend on it.
    progress
        Called with progress.
    params
        Parameters; those of ``update`` and ``matching`` count, and of ``fidelity`` for the errors told.

    Raises
    ------
    UpdateError
        If no run can be used; the message says why of each.
    """
    params = params or CalibrationParams()
    runs = sorted(runs, key=lambda run: run.run_id)
    evidence = _evidence(runs, profile, seed, workers, progress, params)
    used = [one for one in evidence if not one.left_out]
    if not used:
        told = "\n".join(f"  {one.run_id} {one.left_out}" for one in evidence)
        raise UpdateError(f"no run can be used to update {profile.name}:\n{told}")
    groups = membership(profile.step)
    prior = prior_shares(profile, np.mean([one.term_shares for one in used], axis=0), params)
    found = posterior(
        np.array([one.term_shares @ groups for one in used]),
        np.array([one.log_scale for one in used]),
        prior,
        params.update,
    )
    updated = _updated(profile, found, prior, [one.run_id for one in used], params)
    before, after = (
        predict_all(runs, lambda _, p=p: p, seed, workers, progress, params.fidelity)  # type: ignore[misc]
        for p in (profile, updated)
    )
    weights = dict(zip([one.run_id for one in used], found.weights, strict=True))
    return UpdateReport(
        profile=updated,
        factors=tuple(
            Factor(group, float(factor), float(old), float(new))
            for group, factor, old, new in zip(GROUPS, found.factors, prior, found.shares, strict=True)
        ),
        covariance=found.covariance,
        run_share=found.run_share,
        runs=tuple(
            UpdatedRun.of(run, was, now, float(weights.get(run.run_id, 0.0)), one.left_out)
            for run, one, was, now in zip(
                runs, evidence, before.to_dict("records"), after.to_dict("records"), strict=True
            )
        ),
    )


def _evidence(
    runs: Sequence[MeasuredRun],
    profile: EngineProfile,
    seed: int,
    workers: int,
    progress: Progress,
    params: CalibrationParams,
) -> list[Evidence]:
    jobs = (delayed(evidence_of)(run, profile, seed, params) for run in runs)
    found: list[Evidence] = []
    progress(MATCHING, 0, len(runs))
    for one in in_processes(jobs, workers):
        found.append(one)
        progress(MATCHING, len(found), len(runs))
    return found


def prior_shares(profile: EngineProfile, term_shares: FloatArray, params: CalibrationParams) -> FloatArray:
    """Standard deviation of the logarithm of each group's factor before any run, shape (n_groups,).

    A profile may state how sure each of its terms is. Those of a group are off together, so the group is as
    unsure as its terms are in the mean, weighted by what they cost in the runs at hand.
    """
    known = profile.uncertainty.shares
    groups, each = membership(profile.step), []
    for k in range(len(GROUPS)):
        weights = term_shares * groups[:, k]
        stated = np.array([known.get(term.name, np.nan) for term in profile.step.terms])
        told = ~np.isnan(stated) & (weights > 0)
        share = params.update.prior_share
        if told.any():
            share = float((stated[told] * weights[told]).sum() / weights[told].sum())
        each.append(max(share, MIN_SHARE))
    return np.array(each)


MIN_SHARE = 1e-3
"""Least width of a prior: a term that is stated to be exact is taken to be known to a thousandth."""


def _updated(
    profile: EngineProfile,
    found: Posterior,
    prior: FloatArray,
    used: Sequence[str],
    params: CalibrationParams,
) -> EngineProfile:
    """The profile with the factors, how sure they are, and where they come from."""
    step = scaled(profile.step, found.factors)
    return profile.model_copy(
        update={
            "name": profile.name.removesuffix(ENDING) + ENDING,
            "step": step,
            "uncertainty": _uncertainty(profile, found, prior),
            "provenance": _provenance(profile, found, prior, used, params),
        }
    )


def _uncertainty(profile: EngineProfile, found: Posterior, prior: FloatArray) -> Uncertainty:
    """How sure the updated terms are, beside what was fitted to probes and runs before.

    A term of which the profile states how sure it is becomes surer as its group does; any other is as sure
    as its group.
    """
    groups = membership(profile.step)
    known = profile.uncertainty.shares
    fitted = profile.uncertainty.standard_errors_s
    shrunk, group_shares = groups @ (found.shares / prior), groups @ found.shares
    errors, shares = {}, dict(known)  # those of loads stay
    for k, (term, factor) in enumerate(zip(profile.step.terms, groups @ found.factors, strict=True)):
        stated = known.get(term.name)
        share = float(group_shares[k] if stated is None else stated * shrunk[k])
        own = fitted.get(term.name, 0.0) * factor
        errors[term.name] = float(np.hypot(own, term.seconds * factor * share))
        shares[term.name] = share
    values = {"residual_share": found.run_share, "standard_errors_s": errors, "shares": shares}
    return profile.uncertainty.model_copy(update=values)


def _provenance(
    profile: EngineProfile,
    found: Posterior,
    prior: FloatArray,
    used: Sequence[str],
    params: CalibrationParams,
) -> Provenance:
    old, changed = profile.provenance, params.changed()
    factors = ", ".join(
        f"{group} {factor:.4f} (log sd {before:.3f} to {after:.3f})"
        for group, factor, before, after in zip(GROUPS, found.factors, prior, found.shares, strict=True)
    )
    notes = [f"step cost times {factors}"]
    if changed:
        notes.append(f"parameters that differ from their defaults: {changed}")
    return Provenance(
        source=f"{old.source}; updated by {len(used)} runs: {', '.join(used)}",
        command="lorapack calibrate SOURCE... --update PROFILE",
        runs=old.runs + len(used),
        probes=old.probes,
        groups=old.groups,
        note="; ".join([*filter(None, [old.note]), *notes]),
    )
