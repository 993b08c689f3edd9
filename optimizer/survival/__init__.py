"""Whether a plan holds when GPUs are lost, and the fewest GPUs with which one does."""
