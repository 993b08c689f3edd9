"""The assignment model as plain data; `cpsat` and `milp` turn it into a solver's model.

Integers n[g,c]: items of class c in bin g. Binaries z[g,o]: bin g is open as option o. All figures are
integers (see `optimizer.packing.model.scaling`), so that every translation has the same optimum.

Rows of an option hold only where it is chosen. Instead of a big constant, the right-hand side of row r of
option o has, for every other option p, the most that row r can be under the rows of p: the row is implied
where p is chosen, and the linear relaxation stays tight.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from optimizer.packing.model.cuts import CutShape, cut_shape, needed_cuts
from optimizer.packing.model.options import useful_options
from optimizer.packing.model.problem import Bin, FloatArray, IntArray, Packing, PackingProblem
from optimizer.packing.model.scaling import RESOLUTION, exact_factor


@dataclass(frozen=True)
class Variable:
    """An integer variable with its range; ``continuous`` ones are integers in every optimum anyway."""

    name: str
    lower: int
    upper: int
    continuous: bool = False


@dataclass(frozen=True)
class Row:
    """lower <= Σ coefficient · variable <= upper; a side that is None does not bind."""

    name: str
    terms: tuple[tuple[int, int], ...]
    lower: int | None = None
    upper: int | None = None


@dataclass
class Formulation:
    """Variables, rows and an objective to minimise, in integers.

    Parameters
    ----------
    variables, rows
        The model; terms of rows are (index of variable, coefficient).
    objective
        Terms to minimise; the objective in the problem's unit is their sum divided by ``scale``.
    """

    variables: list[Variable] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    objective: list[tuple[int, int]] = field(default_factory=list)
    scale: float = 1.0

    def variable(self, name: str, lower: int, upper: int, *, continuous: bool = False) -> int:
        """Add a variable; its index."""
        self.variables.append(Variable(name, lower, upper, continuous))
        return len(self.variables) - 1

    def row(
        self, name: str, terms: list[tuple[int, int]], lower: int | None = None, upper: int | None = None
    ) -> None:
        """Add a row; terms with coefficient 0 are dropped."""
        kept = tuple((int(v), int(a)) for v, a in terms if a != 0)
        if kept:
            self.rows.append(Row(name, kept, lower, upper))


@dataclass(frozen=True, eq=False)
class AssignmentModel:
    """The assignment formulation of a packing problem for a number of bins.

    Parameters
    ----------
    formulation
        The model as data.
    items
        Index of variable n[g, c], or -1 where class c fits no option, shape (n_bins, n_classes).
    opened
        Index of variable z[g, k] for the k-th of ``options``, shape (n_bins, len(options)).
    options
        Options that the model may use.
    """

    problem: PackingProblem
    formulation: Formulation
    items: IntArray
    opened: IntArray
    options: tuple[int, ...]

    def packing(self, values: FloatArray) -> Packing:
        """The packing that the variables' values stand for."""
        rounded = np.rint(values).astype(np.int64)
        counts = np.where(self.items >= 0, rounded[self.items], 0)
        chosen = rounded[self.opened]
        return Packing(
            tuple(
                Bin(self.options[int(chosen[g].argmax())], counts[g])
                for g in range(len(counts))
                if counts[g].any()
            )
        )

    def values(self, packing: Packing) -> dict[int, int] | None:
        """Values of n and z for a packing, bins in the model's order; None if it has too many bins."""
        position = {o: k for k, o in enumerate(self.options)}
        if len(packing.bins) > len(self.items) or any(b.option not in position for b in packing.bins):
            return None
        bins = sorted(
            packing.bins, key=lambda b: (position[b.option], -symmetry_weights(self.problem) @ b.counts)
        )
        values: dict[int, int] = {}
        for g in range(len(self.items)):
            held = bins[g] if g < len(bins) else None
            for c in np.flatnonzero(self.items[g] >= 0):
                values[int(self.items[g, c])] = int(held.counts[c]) if held else 0
            for k in range(len(self.options)):
                values[int(self.opened[g, k])] = int(held is not None and position[held.option] == k)
        return values


def assignment_model(
    problem: PackingProblem, bins: int, least: float = 0.0, *, alike_from: int = 0
) -> AssignmentModel:
    """Formulate a problem with so many bins.

    Parameters
    ----------
    problem
        What to pack.
    bins
        How many bins there are to open, at most.
    least
        A proven lower bound on the objective ``price``; added as a row.
    alike_from
        Bins from this one on are alike, so that they may be ordered; those before are told apart.
    """
    options = useful_options(problem)
    model = Formulation()
    usable = np.array([problem.rows[o].most for o in options]).max(axis=0)
    items = np.full((bins, problem.n_classes), -1, dtype=np.int64)
    opened = np.zeros((bins, len(options)), dtype=np.int64)
    for g in range(bins):
        for k, o in enumerate(options):
            opened[g, k] = model.variable(f"z_{g}_{o}", 0, 1)
        for c in np.flatnonzero(usable > 0):
            items[g, c] = model.variable(f"n_{g}_{c}", 0, int(usable[c]))
    built = AssignmentModel(problem, model, items, opened, options)
    _demand(built)
    _capacity(built)
    _links(built)
    _limits(built)
    _cut_rows(built)
    _symmetry(built, alike_from)
    if problem.objective == "price":
        _price_objective(built, least)
    else:
        _latency_objective(built)
    return built


def _demand(built: AssignmentModel) -> None:
    for c in np.flatnonzero(built.problem.counts):
        terms = [(int(v), 1) for v in built.items[:, c] if v >= 0]
        count = int(built.problem.counts[c])
        built.formulation.row(f"demand_{c}", terms, count, count)


def _capacity(built: AssignmentModel) -> None:
    """One option at most per bin, and the rows of the chosen option."""
    problem, model = built.problem, built.formulation
    caps = [
        [[row_most(problem, o, r, p) for p in built.options] for r in range(len(problem.rows[o].capacity))]
        for o in built.options
    ]
    for g in range(len(built.items)):
        model.row(f"one_{g}", [(int(z), 1) for z in built.opened[g]], None, 1)
        for k, o in enumerate(built.options):
            rows = problem.rows[o]
            for r in range(len(rows.capacity)):
                terms = _item_terms(built, g, rows.usage[r])
                terms += [(int(z), -most) for z, most in zip(built.opened[g], caps[k][r], strict=True)]
                if terms and rows.usage[r].any():
                    model.row(f"cap_{g}_{o}_{r}", terms, None, 0)


def _item_terms(built: AssignmentModel, g: int, weights: IntArray) -> list[tuple[int, int]]:
    return [
        (int(built.items[g, c]), int(weights[c])) for c in np.flatnonzero(weights) if built.items[g, c] >= 0
    ]


def row_most(problem: PackingProblem, option: int, row: int, other: int) -> int:
    """The most that a row of an option can be in a bin of another option (its capacity, in its own)."""
    if option == other:
        return int(problem.rows[option].capacity[row])
    usage, rows = problem.rows[option].usage[row], problem.rows[other]
    inside = rows.most > 0
    # By each row of the other bin: it is filled, in fractions, with the class that has most of this row for
    # its share of that one; classes that that one does not limit come in all their numbers.
    most = int(usage @ rows.most)
    for limit, capacity in zip(rows.usage, rows.capacity, strict=True):
        free = inside & (limit == 0)
        bound = int(usage[free] @ rows.most[free])
        bound_by = inside & (limit > 0)
        if bound_by.any():
            ratio = (usage[bound_by] / limit[bound_by]).max()
            bound += int(np.ceil(ratio * capacity * (1 + 1e-12)))
        most = min(most, bound)
    return most


def _links(built: AssignmentModel) -> None:
    """A class enters only where the chosen option admits it; needed where no row says so."""
    problem = built.problem
    # Capacity rows say nothing of a class that has no usage, nor of one that an option refuses.
    needs = np.zeros(problem.n_classes, dtype=bool)
    for o in built.options:
        needs |= (problem.rows[o].most == 0) | ~problem.rows[o].usage.any(axis=0)
    for g in range(len(built.items)):
        for c in np.flatnonzero(needs & (built.items[g] >= 0)):
            terms = [(int(built.items[g, c]), 1)]
            terms += [
                (int(z), -int(problem.rows[o].most[c]))
                for z, o in zip(built.opened[g], built.options, strict=True)
            ]
            built.formulation.row(f"link_{g}_{c}", terms, None, 0)


def _limits(built: AssignmentModel) -> None:
    problem, model = built.problem, built.formulation
    for k, o in enumerate(built.options):
        limit = problem.options[o].limit
        if limit is not None and limit < len(built.items):
            model.row(f"limit_{o}", [(int(z), 1) for z in built.opened[:, k]], None, limit)
    for device, limit in problem.device_limits.items():
        mine = [k for k, o in enumerate(built.options) if problem.options[o].device == device]
        if limit < len(built.items):
            model.row(f"device_{device}", [(int(z), 1) for z in built.opened[:, mine].ravel()], None, limit)
    if problem.budget is not None:
        prices, factor = integer_prices(problem)
        terms = [(int(built.opened[g, k]), int(prices[o])) for g, k, o in _opened(built)]
        model.row("budget", terms, None, int(np.floor(problem.budget * factor * (1 + 1e-9))))


def _opened(built: AssignmentModel) -> list[tuple[int, int, int]]:
    return [(g, k, o) for g in range(len(built.items)) for k, o in enumerate(built.options)]


def _cut_rows(built: AssignmentModel) -> None:
    """A bin of a cut's option does not dominate the cut; left out where no bin of it could."""
    problem = built.problem
    for k, cut in enumerate(needed_cuts(problem)):
        mine = [j for j, o in enumerate(built.options) if o in cut.options]
        if not mine:
            continue
        most = np.array([problem.rows[built.options[j]].most for j in mine]).max(axis=0)
        shape = cut_shape(cut.counts, problem.measures)
        if shape.dominated_by(most):
            for g in range(len(built.items)):
                _keep_cut(built, f"cut_{k}_{g}", g, [int(built.opened[g, j]) for j in mine], shape)


def _keep_cut(built: AssignmentModel, name: str, g: int, opened: list[int], shape: CutShape) -> None:
    """Choose a set of requirements that ask for more items than the bin has for them (Hall's theorem).

    Heavier requirements than one of the set are in it too, which only makes it stronger. A group's items
    count if it is compatible with a requirement of the set; those under one choice are summed up.
    """
    model = built.formulation
    chosen = [model.variable(f"{name}_want_{r}", 0, 1) for r in range(len(shape.requirements))]
    for light, heavy in shape.covers():
        model.row(f"{name}_up_{light}_{heavy}", [(chosen[light], 1), (chosen[heavy], -1)], None, 0)
    # The set is not empty where the bin has an option of the cut; if any is in it, some heaviest one is.
    tops = [(chosen[r], 1) for r in np.flatnonzero(shape.above.sum(axis=0) == 1)]
    model.row(f"{name}_some", [*tops, *((z, -1) for z in opened)], 0, None)
    items: dict[int, list[tuple[int, int]]] = {}
    for k in range(len(shape.compatible)):
        highest = shape.highest(k)
        counted = chosen[int(highest[0])]
        if len(highest) > 1:
            counted = model.variable(f"{name}_group_{k}", 0, 1)
            for r in highest:
                model.row(f"{name}_group_{k}_{r}", [(chosen[r], 1), (counted, -1)], None, 0)
        members = (shape.class_group == k).astype(np.int64)
        items.setdefault(counted, []).extend(_item_terms(built, g, members))
    short = [(c, -int(n)) for c, n in zip(chosen, shape.requirements, strict=True)]
    for j, (counted, terms) in enumerate(items.items()):
        # What the bin has for the set: all of these items where they count, else nothing.
        most = sum(model.variables[v].upper for v, _ in terms)
        available = model.variable(f"{name}_have_{j}", 0, most, continuous=True)
        model.row(f"{name}_have_{j}", [*terms, (available, -1), (counted, most)], None, most)
        short.append((available, 1))
    model.row(name, [*short, *((z, 1) for z in opened)], None, 0)


def symmetry_weights(problem: PackingProblem) -> IntArray:
    """Weights that order bins of one option by their largest classes, shape (n_classes,)."""
    most = np.array([rows.most for rows in problem.rows]).max(axis=0)
    share = np.max([(r.usage / np.maximum(r.capacity, 1)[:, None]).max(axis=0) for r in problem.rows], axis=0)
    # A mixed-radix number, its digits the items of the largest classes, as many as keep the weights small:
    # large coefficients cost more in the solvers' propagation than the symmetry that they would break.
    leading: list[int] = []
    span = 1
    for c in np.argsort(-share, kind="stable"):
        if most[c] and span * (int(most[c]) + 1) > 10_000:
            break
        if most[c]:
            leading.append(int(c))
            span *= int(most[c]) + 1
    weights, scale = np.zeros(problem.n_classes, dtype=np.int64), 1
    for c in reversed(leading):
        weights[c] = scale
        scale *= int(most[c]) + 1
    return weights


def _symmetry(built: AssignmentModel, alike_from: int) -> None:
    """Bins in the order of their options; bins of one option by the items of the largest classes."""
    problem, model = built.problem, built.formulation
    # One number orders bins by option first: a step of the option's code outweighs all items together.
    weights = symmetry_weights(problem)
    most = np.array([rows.most for rows in problem.rows]).max(axis=0)
    step = int(weights @ most) + 1
    codes = [(len(built.options) - k) * step for k in range(len(built.options))]
    for g in range(alike_from, len(built.items) - 1):
        terms = []
        for sign, h in ((1, g), (-1, g + 1)):
            terms += [(int(z), sign * code) for z, code in zip(built.opened[h], codes, strict=True)]
            terms += [(v, sign * w) for v, w in _item_terms(built, h, weights)]
        model.row(f"order_{g}", terms, 0, None)


def integer_prices(problem: PackingProblem) -> tuple[IntArray, float]:
    """Prices as integers, never rounded up, and the factor between them and the given ones."""
    factor = exact_factor(problem.prices)
    if factor is not None:
        return np.rint(problem.prices * factor).astype(np.int64), factor
    factor = RESOLUTION / float(problem.prices.max())
    return np.floor(problem.prices * factor).astype(np.int64), factor


def _price_objective(built: AssignmentModel, least: float) -> None:
    prices, factor = integer_prices(built.problem)
    terms = [(int(built.opened[g, k]), int(prices[o])) for g, k, o in _opened(built)]
    built.formulation.objective = terms
    built.formulation.scale = factor
    if least > 0:
        built.formulation.row("least", terms, int(np.floor(least * factor * (1 - 1e-9))), None)


def _latency_objective(built: AssignmentModel) -> None:
    """The worst or the total latency; pieces bind in bins of their option only.

    In the total, a bin that is not open counts by the lowest offset.
    """
    problem, model = built.problem, built.formulation
    pieces = [(problem.options[o].latency_usage, problem.options[o].latency_offset) for o in built.options]
    most = np.array([problem.rows[o].most for o in built.options])
    highest = max(
        float((u @ held + b).max())
        for (u, b), held in zip(pieces, most, strict=True)
        if u is not None and b is not None
    )
    model.scale = RESOLUTION / max(highest, 1e-12)
    top = 2 * RESOLUTION + int(most.sum())
    worst = problem.objective == "worst"
    shared = model.variable("latency", 0, top, continuous=True) if worst else -1
    idle = 0 if worst else int(np.ceil(problem.idle_latency * model.scale - 1e-6))
    for g in range(len(built.items)):
        latency = shared if worst else model.variable(f"latency_{g}", 0, top, continuous=True)
        if not worst or g == 0:
            model.objective.append((latency, 1))
        if idle > 0:
            model.row(f"idle_{g}", [(latency, 1), *((int(z), idle) for z in built.opened[g])], idle, None)
        for k, (usage, offset) in enumerate(pieces):
            if usage is None or offset is None:
                continue
            for p in range(len(offset)):
                scaled = np.ceil(usage[p] * model.scale - 1e-6).astype(np.int64)
                constant = int(np.ceil(offset[p] * model.scale - 1e-6))
                terms = _item_terms(built, g, scaled)
                loose = max(0, constant) + sum(a * model.variables[v].upper for v, a in terms)
                terms += [(latency, -1), (int(built.opened[g, k]), loose)]
                model.row(f"latency_{g}_{built.options[k]}_{p}", terms, None, loose - constant)
    if not worst:
        model.scale *= len(built.items)
