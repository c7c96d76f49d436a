"""The only module that imports kopf: the process's life cycle, the watch of bindings, one daemon
per binding, Kubernetes Events on bindings.

A daemon runs as long as its binding exists, because kopf does not restart a daemon that returned.
The finalizer guarantees that no deletion is missed: the process that served the binding, or a
later one, deletes its Secrets before it removes the finalizer.
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

STOP_SECONDS = 4.5  # for the sessions to end: the process exits within 5 s of SIGTERM
RETRY_SECONDS = 3.0
# Without one, kopf looks up the user's name and fails if the UID has none, as in a container.
_IDENTITY = cast("Any", "workpool-operator")


async def operate(app: App, *, namespaces: Sequence[str]) -> None:
    """Run the operator until SIGTERM or SIGINT, in these namespaces; if there are none, in all.

    kopf ends if the API server is unavailable or refuses the watch, so it is restarted here.
    """
    stop = asyncio.Event()
    _set_on_signal(stop)
    async with app:
        while not stop.is_set():
            try:
                if await app.can_watch_bindings(namespaces):
                    await _watch(app, namespaces=namespaces, stop=stop)
            except Exception as error:
                log.warning("the watch of WorkPoolBindings ended and is restarted: %s", error)
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), RETRY_SECONDS)


async def _watch(app: App, *, namespaces: Sequence[str], stop: asyncio.Event) -> None:
    """Run kopf until `stop` is set or kopf ends by itself."""
    others = asyncio.all_tasks()
    tasks = await kopf.spawn_tasks(
        registry=registry(app),
        namespaces=namespaces,
        clusterwide=not namespaces,
        standalone=True,
        identity=_IDENTITY,
        stop_flag=stop,
    )
    _set_on_signal(stop)  # replaces kopf's own handlers, which outlive it
    await kopf.run_tasks(tasks, ignored=others)


def _set_on_signal(stop: asyncio.Event) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)


def registry(app: App) -> kopf.OperatorRegistry:
    """Return a registry with our handlers only, not those that other packages registered."""
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
    # Without this, a deleted binding keeps its finalizer until kopf handles it the next time.
    settings.background.instant_exit_timeout = STOP_SECONDS
    settings.process.ultimate_exiting_timeout = None  # else the process is killed if kopf restarts


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
            await app.serve(binding, stopped=ended, announce=lambda ready: _post(body, ready))
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
    """Keeps kopf from storing a copy of the spec in an annotation: no handler compares specs."""

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        pass


async def _until(stopped: kopf.DaemonStopped, ended: asyncio.Future[bool], meta: kopf.Meta) -> None:
    """Resolve `ended` when kopf stops the daemon, to True if the binding is being deleted."""
    await stopped.wait()
    if not ended.done():
        ended.set_result(bool(meta.get("deletionTimestamp")))


def _post(body: kopf.Body, ready: ConditionState) -> None:
    type_ = "Normal" if ready.status == "True" else "Warning"
    kopf.event(body, type=type_, reason=ready.reason, message=ready.message or ready.reason)


class LiveSpec:
    """Parses the spec that kopf's watch keeps current, once per change.

    An invalid spec, which only an older CRD admits, is logged, and the last valid one stays in use.
    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self._live = spec
        self._raw: dict[str, Any] = {}
        self._parsed: Spec | None = None
        self._error = ""

    def __call__(self) -> Spec:
        """Return the last valid spec.

        Raises:
            OperatorError: no spec has been valid yet.
        """
        raw = dict(self._live)
        if raw != self._raw:
            self._raw = raw
            self._parse()
        if self._parsed is None:
            raise OperatorError(self._error)
        return self._parsed

    def _parse(self) -> None:
        try:
            self._parsed = Spec.model_validate(self._raw)
        except ValidationError as error:
            fields = (".".join(map(str, e["loc"])) + ": " + e["msg"] for e in error.errors())
            fix = "apply the current CRD, then correct the spec"
            self._error = f"the spec is invalid: {'; '.join(fields)}; {fix}"
            log.error(self._error)
