"""A real vLLM on the CPU: its environment, models with adapters, servers and a router, for benchmarks.

Benchmarks are started by their path (``python benchmarks/NAME.py``), which puts this folder's parent on the
path: ``from live_engine.servers import serving``. Everything listens on 127.0.0.1 alone.
"""
