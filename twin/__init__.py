"""The digital twin of one GPU's serving engine."""
