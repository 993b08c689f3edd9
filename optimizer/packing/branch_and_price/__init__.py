"""Columns are bins: column generation, pricing, branching, and whole bins out of fractional ones."""
