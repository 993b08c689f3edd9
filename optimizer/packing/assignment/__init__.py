"""The assignment model, and CP-SAT and MILP solvers on it."""
