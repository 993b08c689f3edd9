"""Where mixes of adapters begin to starve: models of that load, its search by twin runs, and a map of it."""
