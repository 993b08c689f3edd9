"""What the adapters' users send: when, how long, for how long, and what prompts have in common."""
