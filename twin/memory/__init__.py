"""Where a GPU's memory goes, and whether the engine starts."""
