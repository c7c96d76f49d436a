"""The only module that imports kopf: the process's life, and the watch of bindings.

kopf only watches: what it sees goes to the `App`. Its own finalizer is therefore never set, and the
operator's is left to the holder of the binding's Lease (docs/races.md, 28). After some gaps kopf
does not report deletions, so that the `App` also lists the bindings from time to time.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import suppress
from typing import Any, cast

import kopf

from workpool_operator.api import v1alpha1
from workpool_operator.app import App

log = logging.getLogger(__name__)

RETRY_SECONDS = 3.0
REVIEW_SECONDS = 10.0  # of a namespace whose bindings may not be watched
# Without one, kopf looks up the user's name and fails if the UID has none, as in a container.
_IDENTITY = cast("Any", "workpool-operator")


async def operate(app: App) -> None:
    """Run the operator until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    _set_on_signal(stop)
    async with app, asyncio.TaskGroup() as group:
        group.create_task(app.run(stop), name="app")
        await _keep_watching(app, stop)


async def _keep_watching(app: App, stop: asyncio.Event) -> None:
    """Watch until `stop` is set. kopf ends if the API server is unavailable or refuses the watch,
    so it is restarted here."""
    while not stop.is_set():
        try:
            if namespaces := await app.watchable_namespaces():
                await app.check_crd()
                await _watch(app, namespaces, stop)
        except Exception as error:
            app.watch_failed()
            log.warning("the watch of WorkPoolBindings ended and is restarted: %s", error)
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), RETRY_SECONDS)


async def _watch(app: App, namespaces: list[str], stop: asyncio.Event) -> None:
    """Run kopf until `stop` is set, kopf ends by itself, or further namespaces can be watched."""
    is_clusterwide = namespaces == [""]
    tasks = await kopf.spawn_tasks(
        registry=registry(app),
        namespaces=() if is_clusterwide else namespaces,
        clusterwide=is_clusterwide,
        standalone=True,
        identity=_IDENTITY,
        stop_flag=stop,
    )
    _set_on_signal(stop)  # replaces kopf's own handlers, which outlive it
    if len(namespaces) < len(app.namespaces):
        tasks = [*tasks, asyncio.create_task(_until_more_than(namespaces, app))]
    try:
        # Not kopf.run_tasks, which at its end cancels every task that was created meanwhile: the
        # sessions go on while the watch is restarted.
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result


async def _until_more_than(watched: list[str], app: App) -> None:
    """Return once a namespace that is not watched can be."""
    while True:
        await asyncio.sleep(REVIEW_SECONDS)
        if set(await app.watchable_namespaces()) - set(watched):
            return


def _set_on_signal(stop: asyncio.Event) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)


def registry(app: App) -> kopf.OperatorRegistry:
    """Return a registry with our handlers only, not those that other packages registered."""
    own = kopf.OperatorRegistry()
    resource = (v1alpha1.GROUP, v1alpha1.VERSION, v1alpha1.PLURAL)

    async def observe(event: kopf.RawEvent, **_: Any) -> None:
        found: dict[str, Any] = dict(event["object"])
        if event["type"] == "DELETED":
            app.binding_gone(found)
        else:
            app.binding_changed(found)

    async def startup(settings: kopf.OperatorSettings, **_: Any) -> None:
        settings.scanning.disabled = True
        settings.networking.request_timeout = 30
        settings.execution.default_backoff = 10
        settings.process.ultimate_exiting_timeout = None  # else it is killed if kopf restarts
        if app.selector:
            settings.watching.label_selectors[resource] = app.selector

    kopf.on.startup(registry=own)(startup)
    kopf.on.login(registry=own)(_login)
    kopf.on.event(*resource, registry=own, id="observe")(observe)
    return own


def _login(**kwargs: Any) -> kopf.ConnectionInfo | None:
    return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)
