"""How the Job of a run differs from the one that the stock worker makes, and why."""
