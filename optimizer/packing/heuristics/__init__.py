"""Packings without proof: first and best fit, annealing, local search, the paper's greedy."""
