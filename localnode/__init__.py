"""A Kubernetes node in Linux namespaces of this machine, without Docker; see README.md.

Runs on the standard library alone. `LocalNode` in `node.py` is the one class that users need.
"""
