"""Keeps a store of objects equal to those in the cluster: lists in pages, watches from there, and
lists again after a gap.

- After any gap the store equals the cluster again, because each full list replaces its objects.
- A silent, broken or refused watch is noticed, and opened again with backoff.
- A list blocks the event loop for at most one page, however many objects it has.
- An object that cannot be decoded is left out, and logged once.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Iterable
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar

from workpool_operator.clock import SYSTEM_CLOCK, Clock
from workpool_operator.errors import (
    KubernetesGone,
    KubernetesRefused,
    KubernetesUnavailable,
    OperatorError,
)
from workpool_operator.kube.client import KubernetesClient, Resource
from workpool_operator.kube.decoding import Decoder
from workpool_operator.kube.models import Metadata, Status, first_mismatch

if TYPE_CHECKING:
    from pydantic import ValidationError

log = logging.getLogger(__name__)

PAGE_SIZE = 100  # decoding 100 pods blocks the event loop for 14 ms, 500 pods for 51 ms
RELIST_SECONDS = 600.0
WATCH_SECONDS = 270
SILENCE_SECONDS = 75.0  # bookmarks come every 60 s: a longer silence is a dead connection
BACKOFF_SECONDS = (0.2, 10.0)  # a granted right is noticed within 15 s


class HasMetadata(Protocol):
    """Any object of the API."""

    @property
    def metadata(self) -> Metadata:
        """The object's metadata."""


O = TypeVar("O", bound=HasMetadata)  # noqa: E741
Followed = Callable[[OperatorError | None], None]
# Why a watch is opened again: its time is over, its version is too old, no event or bookmark came,
# or the API server refused it or did not answer.
Restart = Literal["timeout", "expired", "silent", "error"]


O_contra = TypeVar("O_contra", bound=HasMetadata, contravariant=True)


class Store(Protocol[O_contra]):
    """What a reflector fills."""

    def put(self, item: O_contra, /) -> None:
        """Insert or replace the object."""

    def remove(self, uid: str, /) -> None:
        """Remove a deleted object."""

    def uids(self, namespace: str, /) -> set[str]:
        """Return the UIDs of the namespace's objects."""


class Reflector(Generic[O]):
    """Keeps `cache` equal to the objects of `resource` in `namespace` whose labels match `selector`
    and whose name is not `except_name`.

    `followed(error)` is called with None after every successful list, and with the error that ended
    a list or a watch. `alive()` is called in every round of the loop, at least every
    `SILENCE_SECONDS`. `restarted(cause)` is called when a watch or list has to be opened again.
    `flaw(item)` returns why an object is of no use, for the log; "" if it is.
    """

    def __init__(
        self,
        client: KubernetesClient,
        resource: Resource[O],
        *,
        namespace: str,
        selector: str,
        except_name: str = "",
        cache: Store[O],
        followed: Followed,
        alive: Callable[[], None] = lambda: None,
        restarted: Callable[[Restart], None] = lambda _: None,
        flaw: Callable[[O], str] = lambda _: "",
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._path = resource.path(namespace)
        self._selectors = {"labelSelector": selector}
        if except_name:
            self._selectors["fieldSelector"] = f"metadata.name!={except_name}"
        self._cache = cache
        self._followed = followed
        self._alive = alive
        self._restarted = restarted
        self._flaw = flaw
        self._clock = clock
        self._decoder = Decoder(resource.view, mismatched=self._log_undecodable)
        self._logged: set[str] = set()  # UIDs

    async def run(self) -> None:
        """Follow until cancelled."""
        delay, longest = BACKOFF_SECONDS
        while True:
            self._alive()
            try:
                await self._follow()
                delay = BACKOFF_SECONDS[0]
                await asyncio.sleep(delay)  # in case the server ends every watch at once
            except (KubernetesUnavailable, KubernetesRefused) as error:
                self._followed(error)
                self._restarted("error")
                await asyncio.sleep(max(error.retry_after or 0.0, delay * random.uniform(0.8, 1.2)))
                delay = min(delay * 2, longest)

    async def _follow(self) -> None:
        """List once, then watch until a relist is due or the version is too old."""
        version = await self._list()
        until = self._clock.monotonic() + RELIST_SECONDS * random.uniform(0.9, 1.1)
        while version and self._clock.monotonic() < until:
            version = await self._watch(version)
            await asyncio.sleep(0.1)

    async def _list(self) -> str:
        """Fill the cache; return the version to watch from, "" to list again because the server no
        longer has the rest of a list."""
        before, listed = self._cache.uids(self._namespace), set[str]()
        query = {**self._selectors, "limit": str(PAGE_SIZE)}
        while True:
            try:
                body = await self._client.request("GET", self._path, query=query)
            except KubernetesGone:
                if "continue" not in query:
                    raise
                log.info("list of %s expired between two pages: listing again", self._path)
                return ""
            self._alive()
            page = self._decoder.list_page(body)
            for item in page.items:
                self._check(item)
                self._cache.put(item)
                listed.add(item.metadata.uid)
            if not page.metadata.continue_:
                break
            query["continue"] = page.metadata.continue_
        await self._remove(before - listed)
        self._followed(None)
        return page.metadata.resource_version

    async def _remove(self, uids: Iterable[str]) -> None:
        """Remove objects that were in the store before a full list, which lacks them: they were
        deleted. Objects that were added meanwhile may be newer than the list."""
        for number, uid in enumerate(uids, 1):
            self._cache.remove(uid)
            if number % PAGE_SIZE == 0:
                await asyncio.sleep(0)

    async def _watch(self, version: str) -> str:
        """Apply events until the server ends the watch; return the version to continue from, "" to
        list again."""
        query = {
            **self._selectors,
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(int(WATCH_SECONDS * random.uniform(0.9, 1.1))),
        }
        line: bytes | None = b""
        try:
            async with self._client.watch(self._path, query) as lines:
                while version and (line := await self._next(lines)):
                    self._alive()
                    version = self._apply(line)
        except KubernetesGone:
            version = ""
        self._restarted("silent" if line is None else "timeout" if version else "expired")
        return version

    async def _next(self, lines: AsyncIterator[bytes]) -> bytes | None:
        """Return the watch's next line; b"" at its end, None if it is silent for too long."""
        try:
            async with asyncio.timeout(SILENCE_SECONDS):
                return await anext(lines, b"")
        except TimeoutError:
            log.info("watch of %s was silent for %d s", self._path, SILENCE_SECONDS)
            return None

    def _apply(self, line: bytes) -> str:
        """Apply the event; return the version to continue from, "" to list again."""
        event = self._decoder.watch_event(line)
        if isinstance(event, str):
            return event
        if isinstance(event.object, Status):
            log.info("watch of %s ended: %s: listing again", self._path, event.object.message)
            return ""
        if event.type != "BOOKMARK":
            self._check(event.object)
            self._cache.put(event.object)  # also DELETED: the tombstone then has the last status
        if event.type == "DELETED":
            self._cache.remove(event.object.metadata.uid)
        return str(event.object.metadata.resource_version)

    def _check(self, item: O) -> None:
        if flaw := self._flaw(item):
            self._log_mismatch(item.metadata.uid, item.metadata.name, flaw)

    def _log_undecodable(self, metadata: dict[str, Any], error: ValidationError) -> None:
        self._log_mismatch(
            str(metadata.get("uid")), str(metadata.get("name")), first_mismatch(error)
        )

    def _log_mismatch(self, uid: str, name: str, why: str) -> None:
        """Log it once for each object, which is in every list again."""
        if uid not in self._logged:
            self._logged.add(uid)
            log.warning("%s/%s is ignored: %s", self._path, name, why)
