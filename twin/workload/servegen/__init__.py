"""ServeGen: recordings of the clients of a model service."""
