"""Commands that speak to live servers."""
