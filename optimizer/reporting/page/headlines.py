"""Figures of a report in sentences and words, for people who read no tables of tokens per second."""

from __future__ import annotations

import math

from optimizer.reporting.contents import HOURS_PER_MONTH, Answer, WhatIfCell
from scenarios.text.formatting import counted
from scenarios.text.tables import cell_text

GREEDIES = {
    "greedy-fill": "The paper's greedy finds none; greedy-fill, which tests every number of adapters,",
}
"""What a greedy other than the paper's is called before the verb."""


def headline(answer: Answer) -> str:
    """The answer in two or three words."""
    if answer.gpus is not None:
        return counted(answer.gpus, "GPU")
    return "No plan is possible" if answer.status == "infeasible" else "No plan was found"


def proof(answer: Answer) -> str:
    """What is proven of the first objective, in one sentence; where there is no plan, why."""
    if answer.gpus is None:
        return sentence(answer.message)
    if answer.bound is None:
        return sentence(
            "How few would do is not proven"
            + (f": {answer.no_bound.removeprefix('no bound: ')}" if answer.no_bound else "")
        )
    if answer.bound_of == "gpus":
        return _proof_of_gpus(answer.gpus, math.ceil(answer.bound - 1e-9))
    if answer.bound_of == "cost":
        return _proof_of_cost(answer)
    return sentence(answer.bound_text)


def _proof_of_gpus(gpus: int, bound: int) -> str:
    if bound >= gpus:
        return f"No plan needs fewer than {gpus:,}."
    between = f"{bound:,}" if bound == gpus - 1 else f"{bound:,} to {gpus - 1:,}"
    return f"No plan needs fewer than {bound:,}; whether {between} can do is open."


def _proof_of_cost(answer: Answer) -> str:
    assert answer.bound is not None
    if answer.cost_per_month is None:
        return f"No plan costs less than {cell_text(answer.bound)} per hour."
    month = answer.bound * HOURS_PER_MONTH
    if month >= answer.cost_per_month * (1 - 1e-9):
        return "No plan costs less."
    return f"No plan costs less than {money(month)} a month."


def beside_greedy(answer: Answer) -> str:
    """How many GPUs the greedy needs, beside the plan; empty where that is not known."""
    greedy = answer.greedy
    if greedy is None:
        return ""
    if greedy.gpus is None:
        return sentence(greedy.message)
    found = f"{GREEDIES.get(greedy.method, 'The greedy')} takes {counted(greedy.gpus, 'GPU')}"
    if not greedy.accepted:
        return f"{found}, but the simulation rejects its plan."
    if answer.gpus is None:
        return f"{found}."
    more = greedy.gpus - answer.gpus
    if more == 0:
        return f"{found}: as many."
    return f"{found}: {abs(more):,} {'more' if more > 0 else 'fewer'}."


def verdict(answer: Answer, rejected: int) -> str:
    """What the simulation says of the plan, in one sentence; empty where there is none.

    Parameters
    ----------
    answer
        The answer.
    rejected
        GPUs of the plan that the twin rejects.
    """
    if answer.gpus is None:
        return ""
    if answer.accepted:
        return "The simulation accepts every GPU of it."
    if rejected:
        of_them = f"{rejected:,} of {counted(answer.gpus, 'GPU')}"
        return f"The simulation rejects {of_them}: do not deploy it as it is."
    return "The simulation did not confirm it: do not deploy it as it is."


def short(value: float | None) -> str:
    """A figure with three digits, for where there is little room: ``96.1``, ``1,240``; a dash for none."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def sentence(text: str) -> str:
    """The text with a capital letter at its start and a full stop at its end."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?", ":")) or not text else ".")


def money(amount: float) -> str:
    """An amount without its unit: whole from 100 on, with two digits below."""
    return f"{amount:,.0f}" if abs(amount) >= 100 else f"{amount:,.2f}"


def cell_words(cell: WhatIfCell) -> str:
    """A cell of the grid in words: ``12``, ``12 to 13`` where that is open, ``no plan``, ``not computed``."""
    if cell.state == "not_computed":
        return "not computed" if cell.bound is None else f"at least {cell.bound:,}"
    if cell.gpus is None:
        return "no plan"
    if cell.state == "open":
        return f"at most {cell.gpus:,}" if cell.bound is None else f"{cell.bound:,} to {cell.gpus:,}"
    return f"{cell.gpus:,}"


def cost_words(cell: WhatIfCell, gpu_per_month: float | None) -> str:
    """What the cell's plan costs in a month; empty without a price or a plan."""
    if gpu_per_month is None or cell.gpus is None:
        return ""
    high = money(cell.gpus * gpu_per_month)
    if cell.state == "open" and cell.bound is not None:
        return f"{money(cell.bound * gpu_per_month)} to {high}"
    return high
