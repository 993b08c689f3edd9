"""Texts of JSON, YAML and TOML: their values, and what is wrong with them, in our words."""
