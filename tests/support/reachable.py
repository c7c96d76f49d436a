"""Finds what keeps an object in memory, by walking the references from another one."""

from __future__ import annotations

import asyncio
import gc
import logging
import types
from collections import deque
from collections.abc import Collection
from typing import Any
from uuid import UUID

#: What leads to everything else of the process: its code, its log, and its loop.
BOUNDARIES = (
    type,
    types.ModuleType,
    types.FunctionType,
    types.BuiltinFunctionType,
    logging.Logger,
    asyncio.AbstractEventLoop,
)


def paths_to(texts: Collection[str], root: object) -> list[str]:
    """Return how each text, or the UUID that it spells, is reached from the root: the types on the
    way, the nearest one last. Texts that contain it count, too."""
    found, queue = [], deque([root])
    reached_from: dict[int, tuple[object, object]] = {id(root): (root, None)}
    while queue:
        each = queue.popleft()
        if _spells(each, texts):
            found.append(_path(each, reached_from))
            continue
        for other in gc.get_referents(each):
            if id(other) not in reached_from and not isinstance(other, BOUNDARIES):
                reached_from[id(other)] = (other, each)
                queue.append(other)
    return found


def _spells(each: object, texts: Collection[str]) -> bool:
    if isinstance(each, UUID):
        return str(each) in texts
    return isinstance(each, str) and any(text in each for text in texts)


def _path(each: Any, reached_from: dict[int, tuple[object, Any]]) -> str:
    names = [f"{each!r:.120}"]
    while (each := reached_from[id(each)][1]) is not None:
        names.append(getattr(each, "__qualname__", type(each).__name__))
    return " < ".join(names)
