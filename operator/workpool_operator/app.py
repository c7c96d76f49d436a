"""The composition root: creates what all bindings share, and starts what serves them.

    handlers (kopf) --bindings--+
    Reflector --their Leases----+--> BindingHolders --> BindingHolder, one per binding: its Lease
    Replicas --who is live------+                            |
                                                       Lifecycle: finalizer, release
                                                             |
                                                       BindingSession --+--> ClusterCache
                                                                        +--> Connection
                                                                        +--> StatusWriter

A Connection has a RunController, a Poller and a Heartbeat.

Every background task belongs to a TaskGroup or is awaited where it is created.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from workpool_operator import exposition, health
from workpool_operator.api import v1alpha1
from workpool_operator.binding import crd_check
from workpool_operator.binding.context import OperatorContext
from workpool_operator.binding.figures import BindingFigures
from workpool_operator.binding.holders import BindingHolders
from workpool_operator.binding.observer import Observer
from workpool_operator.binding.replicas import Replicas, group_of, new_identity
from workpool_operator.errors import KubernetesRefused, OperatorError
from workpool_operator.kube.client import LEASES, KubernetesClient
from workpool_operator.kube.models import LEASE_LABEL
from workpool_operator.kube.reflector import Reflector
from workpool_operator.logs import ProblemLogger
from workpool_operator.metrics import Metrics
from workpool_operator.settings import Settings

if TYPE_CHECKING:
    from workpool_operator.tracing import Tracing

log = logging.getLogger(__name__)

STOP_SECONDS = 4.5  # for the sessions to end: the process exits within 5 s of SIGTERM
SPANS_SECONDS = 0.5  # for the spans that are left
RELIST_SECONDS = 300.0
# Threads that resolve names. A name whose server does not answer holds one for up to half a minute,
# and asyncio's own few would soon be held for all bindings.
RESOLVERS = 64
NOT_LISTED = "cannot list WorkPoolBindings"
NOT_FOLLOWED = "cannot follow the Leases of bindings"

Object = Mapping[str, Any]


class App:
    """The operator's process, as an async context manager, for the bindings in `namespaces` (if
    there are none, in all, which "" stands for) whose labels match `selector`. Call `run` once."""

    def __init__(
        self,
        settings: Settings,
        *,
        namespaces: Sequence[str],
        selector: str = "",
        tracing: Tracing | None = None,
    ) -> None:
        self.namespaces = namespaces or [""]
        self.selector = selector
        self._group = group_of(namespaces, selector)
        self._settings = settings
        self._stack = AsyncExitStack()
        self._watchdog = health.Watchdog()
        served = settings.metrics_port is not None
        self._metrics = Metrics(self._figures, watched=self._watched) if served else None
        self._observer = self._metrics or Observer()
        self._tracing = tracing
        self._problems = ProblemLogger(log, "operator")
        self._unwatched = dict.fromkeys(self.namespaces, "starting")  # by namespace: why
        self._unfollowed: dict[str, str] = {}  # by namespace: why its Leases are not followed

    async def __aenter__(self) -> Self:
        """Load the Kubernetes configuration and serve the probes. Sends no request yet."""
        async with AsyncExitStack() as opened:
            await self._open(opened)
            self._stack = opened.pop_all()
        return self

    async def _open(self, stack: AsyncExitStack) -> None:
        resolvers = ThreadPoolExecutor(RESOLVERS, thread_name_prefix="resolver")
        asyncio.get_running_loop().set_default_executor(resolvers)
        kube = await stack.enter_async_context(await KubernetesClient.from_environment())
        kube.requested = self._observer.requests_to("kubernetes")
        self._context = OperatorContext(
            kube=kube,
            watchdog=self._watchdog,
            reconcilers=self._settings.reconcilers,
            heartbeat_seconds=self._settings.heartbeat_seconds,
            identity=new_identity(),
            template_environment=self._settings.template_environment,
            observer=self._observer,
            tracing=self._tracing,
        )
        changed = asyncio.Event()
        self._replicas = Replicas(
            kube,
            identity=self._context.identity,
            group=self._group,
            pod=self._settings.pod,
            changed=changed.set,
            restarted=self._observer.watch_restarted,
            clock=self._context.clock,
        )
        self._holders = BindingHolders(self._context, self._replicas, changed=changed)
        probes = health.serve(
            self._settings.health_port, watchdog=self._watchdog, unready=self._unready
        )
        await stack.enter_async_context(probes)
        if self._metrics and self._settings.metrics_port is not None:
            served = exposition.serve(
                self._settings.metrics_port,
                render=self._metrics.render,
                tls_dir=self._settings.metrics_tls_dir,
                token_file=self._settings.metrics_token_file,
            )
            await stack.enter_async_context(served)

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def watchable_namespaces(self) -> list[str]:
        """Return those of the `namespaces` where the API server lists bindings. The log and /readyz
        say why of the others."""
        self._unwatched = await crd_check.unwatchable(self._context.kube, self.namespaces)
        if self._unwatched:
            self._problems.report(NOT_LISTED, "; ".join(dict.fromkeys(self._unwatched.values())))
        else:
            self._problems.resolved(NOT_LISTED)
        return [namespace for namespace in self.namespaces if namespace not in self._unwatched]

    async def check_crd(self) -> None:
        """Log it if the CRD lacks fields of this version."""
        outdated = await crd_check.cached(self._context)
        if outdated.status == "True":
            log.warning("%s", outdated.message)

    def watch_failed(self) -> None:
        """Take note that the watch of bindings ended by an error and is opened again."""
        self._observer.watch_restarted(v1alpha1.PLURAL, "error")

    def binding_changed(self, found: Object) -> None:
        """Take note of a version of a binding."""
        self._holders.binding_changed(found)

    def binding_gone(self, found: Object) -> None:
        """Take note that a binding was deleted, or does not match the selector any more."""
        self._holders.binding_gone(found)

    async def run(self, stop: asyncio.Event) -> None:
        """Share the bindings with the other replicas and serve this one's, until `stop` is set."""
        log.info("this replica is %s", self._context.identity)
        async with asyncio.TaskGroup() as group:
            loops = [self._replicas.run(), self._holders.run(), self._relist_loop()]
            loops += [self._lease_reflector(each).run() for each in self.namespaces]
            loops += [self._metrics.run()] if self._metrics else []
            tasks = [group.create_task(loop) for loop in loops]
            await stop.wait()
            await self._stop()
            if self._tracing:
                await self._tracing.stop(SPANS_SECONDS)
            for task in tasks:
                task.cancel()

    async def _stop(self) -> None:
        """Have the others take over: leave, drain, release every Lease."""
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await asyncio.gather(self._replicas.leave(), self._holders.stop())
        except TimeoutError:
            left = ", ".join(holder.live.key for holder in self._holders)
            log.warning("not drained after %.1f s: %s", STOP_SECONDS, left)

    def _lease_reflector(self, namespace: str) -> Reflector[Any]:
        return Reflector(
            self._context.kube,
            LEASES,
            namespace=namespace,
            selector=f"{LEASE_LABEL}=binding",
            cache=self._holders,
            followed=partial(self._followed, namespace),
            restarted=partial(self._observer.watch_restarted, LEASES.plural),
            clock=self._context.clock,
        )

    def _followed(self, namespace: str, error: OperatorError | None) -> None:
        what = f"{NOT_FOLLOWED} in namespace {namespace}" if namespace else NOT_FOLLOWED
        self._unfollowed.pop(namespace, None)
        if error is None:
            self._problems.resolved(what)
        elif isinstance(error, KubernetesRefused):  # holders log an outage
            self._problems.report(what, error)
            self._unfollowed[namespace] = f"{what}: {error}"

    async def _relist_loop(self) -> None:
        while True:
            await asyncio.sleep(RELIST_SECONDS)
            for namespace in self.namespaces:
                with suppress(OperatorError):
                    await self._holders.relist(namespace, selector=self.selector)

    def _figures(self) -> list[BindingFigures]:
        return [holder.figures() for holder in self._holders]

    def _watched(self) -> dict[str, bool]:
        return {each: each not in self._unwatched for each in self.namespaces}

    def _unready(self) -> list[str]:
        sessions = {each.live.key: each.lifecycle.session for each in self._holders}
        serving = {key: session for key, session in sessions.items() if session}
        problems = list(dict.fromkeys(self._unwatched.values()))
        problems += [self._replicas.problem] if self._replicas.problem else []
        problems += self._unfollowed.values()
        problems += [session.unwritten for session in serving.values() if session.unwritten]
        return problems + [
            f"{key} is not synced" for key, session in serving.items() if session.starting
        ]
