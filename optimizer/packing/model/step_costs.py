"""What the steps of placers take, in counted seconds: by these, parts of a time limit are dealt out.

They were measured on two cores of a shared machine (Xeon, 2.1 GHz) and are rough, as they may be: which step
comes to an end where must be the same on every run, so that the same plan is found. How near a counted second
is to one of the clock says only how well a time limit is used.
"""

from __future__ import annotations

FILL = 4e-9
"""One class tried in one row of a bin."""

CALL = 1e-5
"""One call of a compiled loop."""

POLISH = 2e-9
"""Two classes compared in one row, where items of a bin are swapped for more profitable ones."""

NODE = 1.1e-8
"""One class and row at one node of a pricing tree."""

TABLE = 2e-9
"""One cell of a dynamic programme."""

MULTIPLIERS = 5.5e-8
"""One class and row in one round in which the weights of rows are fitted."""

MOVE = 1.2e-8
"""One row in one move of an annealing."""

PROGRAMME = 5e-4
"""One programme handed to HiGHS and its solution read."""

SIMPLEX = 2e-8
"""One row or column in one iteration of HiGHS's simplex."""

MIP_LOOK = 5e-6
"""One row or column between two looks of HiGHS's search at its limits."""

CP_SAT = 1.0
"""One deterministic second of CP-SAT."""
