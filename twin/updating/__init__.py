"""A profile corrected by a few runs: three factors on its step cost, with a prior."""
