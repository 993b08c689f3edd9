"""The mark of what only a run could tell."""

UNKNOWN = "\ufdd0"
"""Stands for the ``$`` of what only a run could tell: a command's output, a variable that is not set."""
