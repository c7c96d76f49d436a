"""Runs a builder so that neither a mount nor a process of it outlives us.

It gets mount and process namespaces of its own, and the kernel ends it with all its children when
the thread that started it ends, even by kill -9: the next build finds nobody in its folders.
"""

from __future__ import annotations

_DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL", "--")
_NAMESPACES = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--")

#: To be put before the builder's command. Needs root, like the builders themselves.
ALONE = (*_DIES_WITH_US, *_NAMESPACES)
