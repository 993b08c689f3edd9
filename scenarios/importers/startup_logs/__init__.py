"""The log of a starting vLLM server."""
