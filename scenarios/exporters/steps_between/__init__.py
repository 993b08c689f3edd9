"""Steps from a running placement to a new one, as text."""
