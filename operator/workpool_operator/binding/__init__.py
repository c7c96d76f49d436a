"""Serves a `WorkPoolBinding`: session, connection, preflight checks, conditions and status."""
