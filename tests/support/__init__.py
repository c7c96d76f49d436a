"""What tests need besides the testbed: the shared run, clients, the operator, leak checks."""
