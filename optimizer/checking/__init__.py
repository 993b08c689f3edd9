"""Checks of a fleet that runs against its plan."""
