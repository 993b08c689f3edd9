"""The version of lorapack, read by the build too, so that a copy that is not installed knows it."""

__version__ = "0.1.0"
