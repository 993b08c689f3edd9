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

import numpy as np

from optimizer.packing.assignment.cpsat import place_cpsat
from optimizer.packing.assignment.run_model import most_bins
from optimizer.packing.bounds.price_bounds import proof_of, raise_bounds
from optimizer.packing.branch_and_price.column_enumeration import place_by_enumeration
from optimizer.packing.branch_and_price.column_generation import LARGE, ColumnGeneration, generate_columns
from optimizer.packing.branch_and_price.primal_heuristics import dive, restricted_master
from optimizer.packing.branch_and_price.restricted_master import MasterSolution
from optimizer.packing.branch_and_price.tree import place_by_branching
from optimizer.packing.heuristics.annealing import anneal_to_bin_count
from optimizer.packing.heuristics.first_fit import BinFiller, place_best_fit
from optimizer.packing.model.search_state import SearchState

MASTERS = {0: 3.0, 3: 5.0, 8: 10.0, 24: 10.0}
"""Dives after which a restricted master is solved, and for how many seconds at most."""

DIVES = 24
"""Dives before a small assignment model takes over."""

SMALL = 20_000
"""Item variables of a small assignment model; beyond, dives get most of the time."""

BUILT_PER_S = 8_000
"""Item variables of an assignment model that is built in a second, before any search."""

MOST_COLUMNS = 4_000
"""Columns of a restricted master."""


def place_by_branch_and_price(run: SearchState) -> None:
    """Improve plan and bound until they meet or a limit strikes."""
    started = time.monotonic()
    place_best_fit(run)
    continuous = raise_bounds(run)
    if run.done:
        return
    filler = BinFiller(run.problem)
    place_by_enumeration(run, filler, proof_of(continuous, run.problem), 0.2 * run.left_s)
    anneal_to_bin_count(run, filler, continuous, 0.2 * run.left_s)
    if run.done:
        return
    known = run.bound
    relaxation, solved = generate_columns(run, filler, continuous, 0.4 * run.left_s)
    run.statistics["relaxation_seconds"] = time.monotonic() - started
    if run.bound > known:
        anneal_to_bin_count(run, filler, continuous, 0.1 * run.left_s)
    if not run.done and run.problem.n_classes <= LARGE:
        solved = _finish_relaxation(run, relaxation, 0.2 * run.left_s)
        place_by_enumeration(run, filler, relaxation.proof, 0.2 * run.left_s)
        if not run.done:
            place_by_branching(run, relaxation, 0.6 * run.left_s)
    if not run.done and solved is not None:
        _plans(run, relaxation, solved)
    if not run.done:
        solved = _finish_relaxation(run, relaxation, 0.5 * run.left_s)
    if not run.done and solved is not None:
        restricted_master(run, relaxation, solved, 0.3 * run.left_s, MOST_COLUMNS)
    if run.done:
        return
    if most_bins(run) * run.problem.n_classes <= BUILT_PER_S * run.left_s:
        place_cpsat(run)
    else:
        run.limited = True


def _plans(run: SearchState, relaxation: ColumnGeneration, solved: MasterSolution) -> None:
    """Dive again and again with more noise, and solve restricted masters between."""
    rng = np.random.default_rng(np.random.SeedSequence(run.seed).spawn(1)[0])
    small = most_bins(run) * run.problem.n_classes <= SMALL
    until = run.until((0.5 if small else 0.8) * run.left_s)
    k = 0
    while not until() and not (small and k >= DIVES):
        dive(run, relaxation, solved, rng, spread=0.0 if k == 0 else 0.1 + 0.4 * rng.random())
        if not run.done and k in MASTERS:
            restricted_master(run, relaxation, solved, min(MASTERS[k], 0.1 * run.left_s), MOST_COLUMNS)
        k += 1
        if not run.done:
            again = relaxation.master.solve()
            solved = solved if again is None else again
    run.statistics["dives"] = float(k)


def _finish_relaxation(
    run: SearchState, relaxation: ColumnGeneration, seconds: float
) -> MasterSolution | None:
    """Solve the relaxation to its end where it was left early."""
    relaxation.close, relaxation.rounding, relaxation.until = 1e-7, False, run.until(seconds)
    return relaxation.solve()
