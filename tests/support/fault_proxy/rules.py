"""The rules of a fault proxy: which requests, at which moment, and what happens to them.

A `Match` chooses requests and narrows the choice (`nth`, `once`, `after`); an action ends the chain
and arms the rule: `proxy.on("POST", r"/set_state$").nth(2).after().drop()`.
"""

from __future__ import annotations

import asyncio
import json as json_format
import os
import re
import signal
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass
class Call:
    """One request that reached the proxy; `status` is None until an answer is sent."""

    method: str
    path: str
    query: str
    body: bytes
    began: float
    status: int | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Answer:
    """A whole HTTP answer."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class Dropped(Exception):
    """The connection ends without an answer."""


Action = Callable[["Rule", Call], Awaitable[Answer | None]]


@dataclass(frozen=True)
class Match:
    """The requests that a rule applies to; patterns are searched for, not anchored."""

    arm: Callable[[Rule], None]
    method: str
    path: str
    query: str = ""
    body: str = ""
    first: int = 1
    count: int | None = None
    answered: bool = False

    def nth(self, number: int) -> Match:
        """Apply to the `number`-th matching request only, counted from 1."""
        return replace(self, first=number, count=1)

    def once(self) -> Match:
        return self.nth(1)

    def after(self) -> Match:
        """Act after the real server has answered: delay, lose or replace its answer."""
        return replace(self, answered=True)

    def drop(self) -> Rule:
        """End the connection without an answer."""
        return self.do(_drop)

    def kill(self, pid: int | Callable[[], int]) -> Rule:
        """Kill a process with SIGKILL, then end the connection."""

        async def kill(rule: Rule, call: Call) -> None:
            os.kill(pid if isinstance(pid, int) else pid(), signal.SIGKILL)
            raise Dropped

        return self.do(kill)

    def answer(
        self, status: int, *, json: Any = None, headers: Mapping[str, str] | None = None
    ) -> Rule:
        """Answer in place of the real server."""
        body = b"" if json is None else json_format.dumps(json).encode()
        given = Answer(status, body, {"Content-Type": "application/json", **(headers or {})})

        async def answer(rule: Rule, call: Call) -> Answer:
            return given

        return self.do(answer)

    def delay(self, seconds: float) -> Rule:
        async def delay(rule: Rule, call: Call) -> None:
            await asyncio.sleep(seconds)

        return self.do(delay)

    def hold(self) -> Rule:
        """Hold the request until `Rule.release`."""
        return self.do(_hold)

    def run(self, function: Callable[[Call], None]) -> Rule:
        """Call a function on the proxy's thread, then continue."""

        async def run(rule: Rule, call: Call) -> None:
            function(call)

        return self.do(run)

    def do(self, action: Action) -> Rule:
        """Arm a rule with any action: an Answer replaces the real one, Dropped loses it."""
        rule = Rule(self, action)
        self.arm(rule)
        return rule

    def covers(self, call: Call) -> bool:
        return (
            self.method in ("*", call.method)
            and re.search(self.path, call.path) is not None
            and re.search(self.query, call.query) is not None
            and re.search(self.body.encode(), call.body) is not None
        )

    def includes(self, number: int) -> bool:
        """Return whether to act on the `number`-th request that the match covers."""
        return number >= self.first and (self.count is None or number < self.first + self.count)


class Rule:
    """An armed match with its action."""

    def __init__(self, match: Match, action: Action) -> None:
        self.match = match
        self._action = action
        self._seen = 0
        self._fired: list[Call] = []
        self._first_fired = threading.Event()
        self._released = threading.Event()

    @property
    def fired(self) -> list[Call]:
        """The requests that the rule has acted on."""
        return list(self._fired)

    async def wait(self, *, seconds: float = 30) -> Call:
        """Wait for the first request that the rule acts on, and return it."""
        async with asyncio.timeout(seconds):
            await wait_for_thread(self._first_fired.is_set)
        return self._fired[0]

    def release(self) -> None:
        """Forward the held requests, and hold no more."""
        self._released.set()

    async def released(self) -> None:
        await wait_for_thread(self._released.is_set)

    def takes(self, call: Call) -> bool:
        """Count the request, and return whether to act on it."""
        if not self.match.covers(call):
            return False
        self._seen += 1
        return self.match.includes(self._seen)

    async def act(self, call: Call) -> Answer | None:
        self._fired.append(call)
        self._first_fired.set()
        return await self._action(self, call)


async def wait_for_thread(condition: Callable[[], bool]) -> None:
    """Wait for something that another thread makes true."""
    while not condition():  # noqa: ASYNC110  (an asyncio.Event does not cross threads)
        await asyncio.sleep(0.01)


async def _drop(rule: Rule, call: Call) -> None:
    raise Dropped


async def _hold(rule: Rule, call: Call) -> None:
    await rule.released()
