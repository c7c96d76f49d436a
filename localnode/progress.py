"""Prints what a long step does and how long it takes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

EVERY_SECONDS = 30


@contextmanager
def step(what: str) -> Iterator[None]:
    """Print a line when the step starts, every 30 s while it runs, and its duration at the end."""
    print(f"==> {what}", flush=True)
    began, over = time.monotonic(), threading.Event()
    ticker = threading.Thread(target=_tick, args=(what, began, over), daemon=True)
    ticker.start()
    try:
        yield
    finally:
        over.set()
        ticker.join()
    print(f"    {what}: {elapsed(began)}", flush=True)


def elapsed(began: float) -> str:
    """Format the time since `began`, on the monotonic clock: '3.2 s' or '2 min 05 s'."""
    return duration(time.monotonic() - began)


def duration(seconds: float) -> str:
    """Format a duration: '3.2 s' below a minute, '2 min 05 s' above."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


def _tick(what: str, began: float, over: threading.Event) -> None:
    while not over.wait(EVERY_SECONDS):
        print(f"    {what}: still running after {elapsed(began)}", flush=True)
