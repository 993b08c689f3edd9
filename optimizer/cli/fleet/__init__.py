"""In from a running fleet, out to a deployment."""
