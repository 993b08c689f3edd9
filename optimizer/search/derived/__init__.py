"""Plans with derived step costs: judged at an end of what these may be, with the GPUs at the others."""
