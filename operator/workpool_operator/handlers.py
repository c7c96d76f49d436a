"""The one module that imports kopf: process life-cycle, the binding watch, one daemon per binding,
Kubernetes Events on the binding.

The daemon never returns while its binding exists: kopf starts a daemon that returned never again.
Its finalizer makes a binding's deletion impossible to miss; what a binding left in other
namespaces is cleared away before that goes, by the process that served it or by a later one.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, cast

import kopf
from pydantic import ValidationError

from workpool_operator.api import v1alpha1
from workpool_operator.api.v1alpha1 import Spec
from workpool_operator.app import App
from workpool_operator.binding.conditions import ConditionState
from workpool_operator.binding.context import Binding
from workpool_operator.errors import OperatorError, Unavailable

log = logging.getLogger(__name__)

STOP_SECONDS = 4.5  # for a session to end: a SIGTERM is done in 5 s
RETRY_SECONDS = 3.0
# Without one kopf looks up the user's name, and dies of a UID that has none, as in a container.
_IDENTITY = cast("Any", "workpool-operator")


async def operate(app: App, *, namespaces: Sequence[str]) -> None:
    """Run the operator until SIGTERM or SIGINT, in these namespaces or, without any, in all.

    kopf ends where the API server cannot be asked, or says no; then it is asked again, here.
    """
    stop = asyncio.Event()
    _set_on_signal(stop)
    async with app:
        while not stop.is_set():
            try:
                if await app.can_watch_bindings(namespaces):
                    await _watch(app, namespaces=namespaces, stop=stop)
            except Exception as error:
                log.warning("the watch of WorkPoolBindings ended, it starts again: %s", error)
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), RETRY_SECONDS)


async def _watch(app: App, *, namespaces: Sequence[str], stop: asyncio.Event) -> None:
    """kopf, until `stop` or until it gives up."""
    others = asyncio.all_tasks()
    tasks = await kopf.spawn_tasks(
        registry=registry(app),
        namespaces=namespaces,
        clusterwide=not namespaces,
        standalone=True,
        identity=_IDENTITY,
        stop_flag=stop,
    )
    _set_on_signal(stop)  # kopf has put its own handlers there, which outlive it
    await kopf.run_tasks(tasks, ignored=others)


def _set_on_signal(stop: asyncio.Event) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)


def registry(app: App) -> kopf.OperatorRegistry:
    """Our handlers and nothing that another package may have registered with kopf."""
    own = kopf.OperatorRegistry()
    kopf.on.startup(registry=own)(_startup)
    kopf.on.login(registry=own)(_login)
    resource = (v1alpha1.GROUP, v1alpha1.VERSION, v1alpha1.PLURAL)
    kopf.daemon(*resource, registry=own, id="serve", cancellation_timeout=0.3)(_daemon(app))
    kopf.on.delete(*resource, registry=own, id="release")(_release(app))
    return own


async def _startup(settings: kopf.OperatorSettings, **_: Any) -> None:
    settings.persistence.finalizer = v1alpha1.FINALIZER
    settings.persistence.diffbase_storage = _NoDiffs()
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=v1alpha1.GROUP)
    settings.scanning.disabled = True
    settings.posting.reporting_component = "workpool-operator"
    settings.posting.event_name_prefix = "workpool-operator-"
    settings.networking.request_timeout = 30
    settings.execution.default_backoff = 10
    # Else a deleted binding keeps its finalizer until kopf next looks at it.
    settings.background.instant_exit_timeout = STOP_SECONDS
    settings.process.ultimate_exiting_timeout = None  # it would kill us after kopf gave up once


def _login(**kwargs: Any) -> kopf.ConnectionInfo | None:
    return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)


def _daemon(app: App) -> Any:
    async def serve(
        body: kopf.Body,
        spec: kopf.Spec,
        meta: kopf.Meta,
        namespace: str,
        name: str,
        status: kopf.Status,
        stopped: kopf.DaemonStopped,
        **_: Any,
    ) -> None:
        ended: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        live = LiveSpec(spec)
        binding = Binding(
            namespace=namespace,
            name=name,
            spec=live,
            generation=lambda: int(meta.get("generation") or 0),
            status=dict(status),
        )
        watch = asyncio.create_task(_until(stopped, ended, meta), name=f"stop-of-{name}")
        try:
            await app.serve(binding, stopped=ended, announce=lambda v: _post(body, v))
        finally:
            watch.cancel()

    return serve


def _release(app: App) -> Any:
    async def release(spec: kopf.Spec, namespace: str, name: str, **_: Any) -> None:
        live = LiveSpec(spec)
        binding = Binding(
            namespace=namespace, name=name, spec=live, generation=lambda: 0, status={}
        )
        try:
            await app.release(binding)
        except Unavailable as error:
            raise kopf.TemporaryError(str(error), delay=RETRY_SECONDS) from error

    return release


class _NoDiffs(kopf.DiffBaseStorage):
    """kopf would keep a copy of the spec in an annotation, to tell what changed; nobody asks."""

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        pass


async def _until(stopped: kopf.DaemonStopped, ended: asyncio.Future[bool], meta: kopf.Meta) -> None:
    """Resolve `ended` once kopf asks the daemon to stop; True if the binding is being deleted."""
    await stopped.wait()
    if not ended.done():
        ended.set_result(bool(meta.get("deletionTimestamp")))


def _post(body: kopf.Body, verdict: ConditionState) -> None:
    type_ = "Normal" if verdict.status == "True" else "Warning"
    kopf.event(body, type=type_, reason=verdict.reason, message=verdict.message or verdict.reason)


class LiveSpec:
    """The spec as kopf's watch last saw it, parsed once per change; one that is not valid, which
    only an older CRD lets through, leaves the one before in force."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self._live = spec
        self._raw: dict[str, Any] = {}
        self._parsed: Spec | None = None
        self._fault = ""

    def __call__(self) -> Spec:
        """Raises OperatorError while there is no valid one."""
        raw = dict(self._live)
        if raw != self._raw:
            self._raw = raw
            self._parse()
        if self._parsed is None:
            raise OperatorError(self._fault)
        return self._parsed

    def _parse(self) -> None:
        try:
            self._parsed = Spec.model_validate(self._raw)
        except ValidationError as error:
            fields = (".".join(map(str, e["loc"])) + ": " + e["msg"] for e in error.errors())
            fix = "apply the current CRD, which says more"
            self._fault = f"the spec is not valid: {'; '.join(fields)}; {fix}"
            log.error(self._fault)
