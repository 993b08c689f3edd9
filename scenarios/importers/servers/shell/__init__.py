"""Shell scripts, read as far as that needs no run."""
