"""How arrivals are drawn: instants of each process, rates that are switched, requests that follow answers."""
