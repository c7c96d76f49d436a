"""The one module that imports kopf: process life-cycle, the binding watch, one daemon per binding,
Kubernetes Events on the binding.

The daemon never returns while its binding exists: kopf starts a daemon that returned never again.
Its finalizer makes a binding's deletion impossible to miss.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import kopf
from pydantic import ValidationError

from workpool_operator.app import App
from workpool_operator.binding import model
from workpool_operator.binding.conditions import Verdict
from workpool_operator.binding.model import Spec
from workpool_operator.binding.session import Binding

log = logging.getLogger(__name__)

FINALIZER = f"{model.GROUP}/serving"
STOP_SECONDS = 4.5  # a SIGTERM drains in 5 s


async def operate(app: App, *, namespaces: Sequence[str], stop: asyncio.Event) -> None:
    """Run the operator until `stop`, in these namespaces or, without any, in all."""
    await kopf.operator(
        registry=registry(app),
        namespaces=namespaces,
        clusterwide=not namespaces,
        standalone=True,
        stop_flag=stop,
    )


def registry(app: App) -> kopf.OperatorRegistry:
    """Our handlers and nothing that another package may have registered with kopf."""
    own = kopf.OperatorRegistry()
    kopf.on.startup(registry=own)(_startup(app))
    kopf.on.cleanup(registry=own)(_cleanup(app))
    kopf.on.login(registry=own)(_login)
    resource = (model.GROUP, model.VERSION, model.PLURAL)
    kopf.daemon(
        *resource,
        registry=own,
        id="serve",
        cancellation_backoff=STOP_SECONDS,
        cancellation_timeout=1,
    )(_daemon(app))
    return own


def _startup(app: App) -> Any:
    async def startup(settings: kopf.OperatorSettings, **_: Any) -> None:
        settings.persistence.finalizer = FINALIZER
        settings.scanning.disabled = True
        settings.posting.enabled = True
        settings.networking.request_timeout = 30
        settings.execution.default_backoff = 10
        await app.start()

    return startup


def _cleanup(app: App) -> Any:
    async def cleanup(**_: Any) -> None:
        await app.stop()

    return cleanup


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
        live = _LiveSpec(spec)
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


async def _until(stopped: kopf.DaemonStopped, ended: asyncio.Future[bool], meta: kopf.Meta) -> None:
    """Resolve `ended` once kopf asks the daemon to stop; True if the binding is being deleted."""
    await stopped.wait()
    if not ended.done():
        ended.set_result(bool(meta.get("deletionTimestamp")))


def _post(body: kopf.Body, verdict: Verdict) -> None:
    type_ = "Normal" if verdict.status == "True" else "Warning"
    kopf.event(body, type=type_, reason=verdict.reason, message=verdict.message or verdict.reason)


class _LiveSpec:
    """The spec as kopf's watch last saw it, parsed once per change."""

    def __init__(self, spec: kopf.Spec) -> None:
        self._live = spec
        self._raw: dict[str, Any] = {}
        self._parsed: Spec | None = None

    def __call__(self) -> Spec:
        raw = dict(self._live)
        if self._parsed is None or raw != self._raw:
            try:
                self._parsed, self._raw = Spec.model_validate(raw), raw
            except ValidationError as error:  # only an older CRD lets such a spec through
                log.error("the spec is not valid, apply the current CRD: %s", error)
                if self._parsed is None:
                    raise
        return self._parsed
