"""Recorded schedules, and the twin's own of the same workloads."""
