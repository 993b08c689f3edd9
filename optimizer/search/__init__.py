"""The search: the packing proposes, the twin judges, and what it rejects is cut off."""
