"""Support for tests besides the testbed: the shared run, clients, the operator, leak checks."""
