"""GPUs as data: what memory the engine sees of each, how fast they are, and where each figure is from."""
