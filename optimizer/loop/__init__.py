"""From a scenario to a plan: the placers propose, the twin judges, what it rejects becomes a cut."""
