"""Many plans of one scenario: over the values of a key, and over numbers of GPUs."""
