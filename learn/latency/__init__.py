"""What the latencies of a GPU are by its adapters: upper estimates, and floors below which none lies."""
