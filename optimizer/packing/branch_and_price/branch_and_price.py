"""`patterns`: bounds and plans for the least price, from the aggregate model down to columns.

Where items are small against bins, whole numbers of bins in aggregate give the bound, and annealing the plan.
Else columns decide: a column is a bin with its items, and the master covers all items at least price. Its
linear relaxation is the strongest bound here, and needs as many rows as there are classes, whatever the
number of items (Gilmore and Gomory 1961; Vanderbeck 1999 for diving). Where the bins that may be in a packing
at the bound are few, CP-SAT finds it among them; else branching on numbers of bins, dives and restricted
masters look for it. What is left is closed by the assignment model in CP-SAT, which gets the bound as a row.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from optimizer.packing.assignment.cpsat import place_cpsat
from optimizer.packing.assignment.run_model import most_bins
from optimizer.packing.bounds.price_bounds import proof_of, raise_bounds
from optimizer.packing.branch_and_price.column_enumeration import place_by_enumeration
from optimizer.packing.branch_and_price.column_generation import ColumnGeneration, generate_columns
from optimizer.packing.branch_and_price.primal_heuristics import dive, restricted_master
from optimizer.packing.branch_and_price.restricted_master import MasterSolution
from optimizer.packing.branch_and_price.tree import place_by_branching
from optimizer.packing.heuristics.annealing import anneal_to_bin_count
from optimizer.packing.heuristics.first_fit import BinFiller, place_best_fit
from optimizer.packing.model.search_state import SearchState


def place_by_branch_and_price(run: SearchState) -> None:
    """Improve plan and bound until they meet or a limit strikes."""
    started, params = time.monotonic(), run.params.branch_and_price
    place_best_fit(run, params.first_plans_share)
    continuous = raise_bounds(run)
    if run.done:
        return
    filler = BinFiller.of(run)
    place_by_enumeration(run, filler, proof_of(continuous, run.problem))
    anneal_to_bin_count(run, filler, continuous, params.annealing_shares[0] * run.left_s)
    if run.done:
        return
    if run.problem.n_classes > run.params.column_generation.most_classes:
        run.limited = True
        return
    before = run.bound
    relaxation, solution = generate_columns(run, filler, continuous, params.relaxation_shares[0] * run.left_s)
    run.statistics["relaxation_seconds"] = time.monotonic() - started
    if run.bound > before:
        anneal_to_bin_count(run, filler, continuous, params.annealing_shares[1] * run.left_s)
    if not run.done and run.problem.n_classes <= run.params.column_generation.exact_classes:
        relaxation = _to_the_end(run, relaxation, params.relaxation_shares[1])
        solution = relaxation.solve()
        place_by_enumeration(run, filler, relaxation.proof)
        if not run.done:
            place_by_branching(run, relaxation, params.branching_share * run.left_s)
    if not run.done and solution is not None:
        _dive(run, relaxation, solution)
    if not run.done:
        relaxation = _to_the_end(run, relaxation, params.relaxation_shares[2])
        solution = relaxation.solve()
    if not run.done and solution is not None:
        restricted_master(run, relaxation, solution, params.master_share * run.left_s)
    if run.done:
        return
    if most_bins(run) * run.problem.n_classes <= params.assignment_built_per_s * run.left_s:
        place_cpsat(run)
    else:
        run.limited = True


def _dive(run: SearchState, relaxation: ColumnGeneration, solution: MasterSolution) -> None:
    """Dive again and again with more noise, and solve restricted masters between."""
    params = run.params.branch_and_price
    rng = np.random.default_rng(np.random.SeedSequence(run.seed).spawn(1)[0])
    small = most_bins(run) * run.problem.n_classes <= params.small_assignment
    until = run.until(params.dive_shares[0 if small else 1] * run.left_s)
    masters = dict(params.restricted_masters)
    k = 0
    while not until() and not (small and k >= params.dives):
        dive(run, relaxation, solution, rng, k)
        if not run.done and k in masters:
            restricted_master(run, relaxation, solution, min(masters[k], 0.1 * run.left_s))
        k += 1
        if not run.done:
            solution = relaxation.solve_master() or solution
    run.statistics["dives"] = float(k)


def _to_the_end(run: SearchState, relaxation: ColumnGeneration, share: float) -> ColumnGeneration:
    """The relaxation with that share of the time left to solve it to its end where it was left early."""
    return replace(relaxation, close=1e-7, rounding=False, until=run.until(share * run.left_s))
