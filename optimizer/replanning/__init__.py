"""From a running placement to the next one, with few moves."""
