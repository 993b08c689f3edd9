"""Places adapters on the fewest GPUs and proves how far from the fewest."""
