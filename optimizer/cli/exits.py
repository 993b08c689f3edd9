"""Exit codes that the commands share."""

EXIT_SOLVED = 0
EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_INFEASIBLE = 3
EXIT_NO_PLAN = 4
"""Stopped without a plan: a limit was reached, or a signal came."""
