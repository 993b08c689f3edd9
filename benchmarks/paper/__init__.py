"""The paper's tables and figures, made again: one module per part, beside what was published."""
