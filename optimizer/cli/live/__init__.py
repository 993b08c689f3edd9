"""Commands about servers that run."""
