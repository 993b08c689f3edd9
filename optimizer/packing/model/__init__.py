"""A packing problem, its rows as integers, cuts, limits, and what a search holds of it."""
