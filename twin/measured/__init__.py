"""The twin beside measured runs: what the client saw, predictions, errors."""
