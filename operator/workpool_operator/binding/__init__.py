"""The `WorkPoolBinding`: its fields, its conditions, and the session that serves it."""
