"""The best latency, or balance, on a number of GPUs: plans by rule and by model, polished by the twin."""
