"""What a running fleet's metrics show that endangers its plan; no request is sent."""
