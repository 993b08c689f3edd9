"""What servers answer at /metrics: series of vLLM, SGLang and gateways, and what they say of a server."""
