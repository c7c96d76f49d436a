"""Runs a builder so that none of its mounts and processes outlive the process that started it.

The builder has mount and process namespaces of its own. The kernel ends it and its children when
the thread that started it ends, even by SIGKILL: the next build finds no process in its folders.
"""

from __future__ import annotations

from localnode.commands import DIE_WITH_PARENT

_NAMESPACES = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--")

#: Goes before the builder's command; needs root, as the builders do.
ISOLATED = (*DIE_WITH_PARENT, *_NAMESPACES)
