"""Why a plan needs its GPUs, and what would save some."""
