"""How few runs correct a profile of another model: errors and bands on runs that were not used.

    python -m benchmarks.profile_updates [--measurements FOLDER]

Each of the two measured models is taken as new: it gets the other one's profile, with its own memory and
lengths of requests, and with costs scaled by shapes (KV bytes by context, LoRA by layers, copies by the bytes
of an adapter); `twin.update_profile` corrects that with 1, 3 and 10 of its own runs, drawn at random and
chosen by what they are. Every ``--every``-th usable run is kept apart for the errors. FOLDER holds
serving_runs.csv, or the same as .csv.gz.

Per row: SMAPE (factor 2) in percent of throughput and ITL, on clean runs and on those whose client held all
the requests it could (sat.); starvation foretold wrongly, in percent; *band*, the half width in percent in
which nine of ten step times should lie, and *inside*, how many do; the factors on compute, memory, overhead.

Takes about twenty minutes on two cores.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import delayed

import twin
from twin import CalibrationParams, EngineProfile, FidelityParams
from twin.engine.requests import FloatArray
from twin.measured.measurement import table_file
from twin.measured.predict import predict_all
from twin.measured.report import as_text, smape
from twin.measured.run_tables import measured_runs, read_runs
from twin.measured.runs import SATURATED, MeasuredRun
from twin.parallel import in_processes
from twin.step_cost import StepCost
from twin.updating.evidence import Evidence, evidence_of
from twin.updating.groups import GROUPS, membership
from twin.updating.posterior import posterior
from twin.updating.report import UpdateReport

MEASURED = Path(__file__).parent / "measured"

MODELS = ("llama-3.1-8b-instruct", "qwen-2.5-7b-instruct")
PARAMS = CalibrationParams(fidelity=FidelityParams(max_replications=1))
COUNTS = (1, 3, 10)
NINE_OF_TEN = 1.645
"""Standard deviations to each side of a normal distribution that hold nine of ten."""


NO_PRIOR = 1.0
"""Width of a prior that holds nothing back."""


@dataclass(frozen=True)
class Case:
    """One model taken as new.

    Parameters
    ----------
    start
        The other model's profile, replaced.
    pool
        Runs to choose from.
    kept
        Runs for the errors.
    table
        The rows of the runs kept.
    evidence
        What the runs kept say of the start.
    """

    start: EngineProfile
    pool: list[MeasuredRun]
    kept: list[MeasuredRun]
    table: pd.DataFrame
    evidence: list[Evidence]


def replaced(source: EngineProfile, target: EngineProfile) -> EngineProfile:
    """A profile for the target's model that nobody measured: its memory, and the source's costs by shapes."""
    ours, theirs = (profile.memory.architecture for profile in (target, source))
    layers = ours.num_hidden_layers / theirs.num_hidden_layers
    kv = layers * (ours.num_key_value_heads * ours.head_dim) / (theirs.num_key_value_heads * theirs.head_dim)
    terms = []
    for term in source.step.terms:
        factor = kv if term.per == "context" else layers if term.lora else 1.0
        terms.append(term.model_copy(update={"seconds": term.seconds * factor}))
    slots = [
        twin.plan_memory(profile.memory, profile.measured, profile.gpu_memory_gib, 32, 16).slots_gib
        for profile in (target, source)
    ]
    copies = {k: v * slots[0] / slots[1] for k, v in source.loads.model_dump().items()}
    return source.model_copy(
        update={
            "name": f"{target.model}.from-{source.model}",
            "model": target.model,
            "measured": target.measured,
            "memory": target.memory,
            "step": StepCost(terms=tuple(terms)),
            "loads": source.loads.model_copy(update=copies),
            "lengths": target.lengths,  # of the requests, which whoever serves the model knows
        }
    )


def usable(path: Path, model: str) -> pd.DataFrame:
    """Runs of a model whose figures are the engine's."""
    table = read_runs(path)
    quality = table["quality"].isin(["clean", SATURATED])
    chosen = (table["model"] == model) & (table["status"] == "ok") & quality & table["tpot_mean_ms"].notna()
    return table[chosen].sort_values("run_id").reset_index(drop=True)


def case_of(path: Path, source: str, target: str, every: int, workers: int) -> Case:
    """The target's model with the source's profile."""
    start = replaced(twin.find_profile(source, None), twin.find_profile(target, None))
    table = usable(path, target)
    apart = np.arange(len(table)) % every == 0
    kept = measured_runs(table[apart], path)
    jobs = (delayed(evidence_of)(run, start, 0, PARAMS) for run in kept)
    return Case(
        start=start,
        pool=measured_runs(table[~apart], path),
        kept=kept,
        table=table[apart].reset_index(drop=True),
        evidence=list(in_processes(jobs, workers)),
    )


def errors(case: Case, profile: EngineProfile) -> dict[str, float]:
    """Errors of a profile on the runs kept."""
    said = predict_all(case.kept, lambda _: profile, params=PARAMS.fidelity)
    clean = (case.table["quality"] == "clean").to_numpy()
    row = {}
    for name, column in (("total_throughput", "tok/s"), ("itl_mean_ms", "ITL")):
        foretold = said[f"predicted_{name.replace('_mean', '')}"]
        for title, part in (("clean", clean), ("sat.", ~clean)):
            row[f"{column} {title}"] = smape(case.table[name][part], foretold[part])
    wrong = case.table["starved"].astype(bool) != said["predicted_starved"]
    return row | {"starv.": 100 * float(wrong.mean())}


def band(case: Case, factors: FloatArray, covariance: FloatArray, run_share: float) -> dict[str, float]:
    """How wide the band on a run's mean step time is, and how many of the runs kept lie in it."""
    known = [one for one in case.evidence if not one.left_out]
    shares = np.array([one.term_shares for one in known]) @ membership(case.start.step)
    parts = shares * factors
    residual = np.array([one.log_scale for one in known]) - np.log(parts.sum(axis=1))
    slopes = parts / parts.sum(axis=1)[:, None]
    width = NINE_OF_TEN * np.sqrt(((slopes @ covariance) * slopes).sum(axis=1) + run_share**2)
    return {"band": 100 * float(width.mean()), "inside": 100 * float((np.abs(residual) <= width).mean())}


def unexplained(case: Case) -> float:
    """Percent of a mean step time that no three factors explain: standard deviation on the runs kept."""
    known = [one for one in case.evidence if not one.left_out]
    shares = np.array([one.term_shares for one in known]) @ membership(case.start.step)
    scales = np.array([one.log_scale for one in known])
    found = posterior(shares, scales, np.full(len(GROUPS), NO_PRIOR), PARAMS.update)
    return 100 * float((scales - np.log(shares @ found.factors)).std())


def of_report(case: Case, report: UpdateReport) -> dict[str, float]:
    """All figures of an updated profile."""
    factors = np.array([one.factor for one in report.factors])
    figures = errors(case, report.profile) | band(case, factors, report.covariance, report.run_share)
    return figures | {one.group: one.factor for one in report.factors}


def saturated(runs: Sequence[MeasuredRun]) -> list[MeasuredRun]:
    """Those that the client filled, the largest batches first."""
    full = [run for run in runs if run.quality == SATURATED]
    return sorted(full, key=lambda run: -(run.running_mean or 0.0))


def light(runs: Sequence[MeasuredRun]) -> list[MeasuredRun]:
    """Those at ease, with about eight requests at a time, the nearest first."""
    calm = [run for run in runs if run.quality == "clean" and run.running_mean and not run.starved]
    return sorted(calm, key=lambda run: abs(np.log((run.running_mean or 1.0) / 8)))


def many_adapters(runs: Sequence[MeasuredRun]) -> list[MeasuredRun]:
    """Those that keep up with a slot for every adapter, most distinct adapters in the batch first."""
    kept_up = [run for run in runs if not run.starved and run.max_loras >= run.n_adapters]
    return sorted(kept_up, key=lambda run: -min(run.n_adapters, run.running_mean or 0.0))


def spread(runs: Sequence[MeasuredRun], count: int) -> list[MeasuredRun]:
    """From idle to full: evenly by the rank of their mean batch."""
    ordered = sorted(runs, key=lambda run: run.running_mean or 0.0)
    return [ordered[k] for k in np.linspace(0, len(ordered) - 1, count).round().astype(int)]


CHOSEN: dict[str, Callable[[Sequence[MeasuredRun]], list[MeasuredRun]]] = {
    "1 saturated": lambda runs: saturated(runs)[:1],
    "1 light": lambda runs: light(runs)[:1],
    "1 many adapters": lambda runs: many_adapters(runs)[:1],
    "saturated, light": lambda runs: [kind(runs)[0] for kind in (saturated, light)],
    "all three": lambda runs: [kind(runs)[0] for kind in (saturated, light, many_adapters)],
    "10 from idle to full": lambda runs: spread(runs, 10),
}
"""Runs chosen by what they are."""


def figures_of(case: Case, runs: Sequence[MeasuredRun]) -> dict[str, float]:
    """All figures of the start, updated by runs; none if no run can be used."""
    try:
        return of_report(case, twin.update_profile(case.start, runs, params=PARAMS))
    except twin.UpdateError:
        return {}


def rows(case: Case, own: EngineProfile, seeds: int, workers: int) -> Iterator[dict[str, object]]:
    """One row for each way to choose runs."""
    drawn = {
        (count, seed): np.random.default_rng(seed).choice(len(case.pool), size=count, replace=False)
        for count in COUNTS
        for seed in range(seeds)
    }
    choices = [[case.pool[k] for k in picked] for picked in drawn.values()]
    choices += [choose(case.pool) for choose in CHOSEN.values()]
    jobs = [delayed(errors)(case, profile) for profile in (own, case.start)]
    jobs += [delayed(figures_of)(case, runs) for runs in choices]
    ours, before, *found = in_processes(jobs, workers)
    yield {"runs": "own profile", **ours}
    prior = np.diag([PARAMS.update.prior_share**2] * len(GROUPS))
    yield {"runs": "none", **before, **band(case, np.ones(len(GROUPS)), prior, PARAMS.update.run_share)}
    for k, count in enumerate(COUNTS):
        frame = pd.DataFrame([one for one in found[k * seeds : (k + 1) * seeds] if one])
        yield {"runs": f"{count} random, mean", **frame.mean().to_dict()}
        worst = frame[[name for name in frame.columns if name[:3] in ("tok", "ITL", "sta")]]
        yield {"runs": f"{count} random, worst", **worst.max().to_dict()}
    for name, figures in zip(CHOSEN, found[len(drawn) :], strict=True):
        yield {"runs": name, **figures}


def main() -> None:
    """Print a table for each direction."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--measurements", type=Path, default=MEASURED, help="folder of serving_runs (default: %(default)s)"
    )
    parser.add_argument("--seeds", type=int, default=6, help="random choices of each size (default: 6)")
    parser.add_argument("--every", type=int, default=8, help="one of so many runs is kept apart (default: 8)")
    parser.add_argument("--workers", type=int, default=2, help="processes (default: 2)")
    given = parser.parse_args()
    table = table_file(given.measurements, "serving_runs")
    if table is None:
        parser.error(f"{given.measurements} has no serving_runs.csv")
    for source, target in (MODELS, MODELS[::-1]):
        case = case_of(table, source, target, given.every, given.workers)
        own = twin.find_profile(target, None)
        print(f"\n{target} from {source}: errors on {len(case.kept)} runs kept apart")
        print(f"what no three factors explain of them: {unexplained(case):.2f} %\n", flush=True)
        frame = pd.DataFrame(list(rows(case, own, given.seeds, given.workers)))
        sure = ["band", "inside", *GROUPS]
        print(as_text(frame.drop(columns=sure), 2), flush=True)
        print("\n" + as_text(frame.loc[frame["band"].notna(), ["runs", *sure]], 2), flush=True)


if __name__ == "__main__":
    main()
