"""One vLLM engine, step by step: requests, scheduler, KV blocks, adapter slots; compiled."""
