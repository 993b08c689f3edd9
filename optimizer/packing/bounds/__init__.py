"""Lower bounds on the price, and why there is no packing."""
